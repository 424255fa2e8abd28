package lint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// listed is what the go command tells of a package; see "go help list".
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Module     *struct{ Main bool }
	Error      *struct{ Err string }
}

// Platform type-checks every package of the module in root as another system and processor have it. It reads sources
// alone, of those the module stands on only what they declare: that finds what "go vet" finds when it compiles, and takes
// seconds where compiling every dependency for a second system takes minutes.
func Platform(ctx context.Context, root, goos, goarch string) ([]error, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Module,Error", "./...")
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages for %s/%s: %w", goos, goarch, err)
	}
	c := checker{fset: token.NewFileSet(), packages: map[string]*types.Package{"unsafe": types.Unsafe}}
	c.sizes = types.SizesFor("gc", goarch)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("list packages for %s/%s: %w", goos, goarch, err)
		}
		c.check(&p)
	}
	return c.found, nil
}

// checker holds what is checked already: the go command lists a package after all that it imports.
type checker struct {
	fset     *token.FileSet
	sizes    types.Sizes
	packages map[string]*types.Package
	found    []error
}

func (c *checker) check(p *listed) {
	ours := p.Module != nil && p.Module.Main
	if ours && p.Error != nil {
		c.found = append(c.found, errors.New(p.Error.Err))
	}
	if p.ImportPath == "unsafe" {
		return
	}
	note := func(err error) {
		if ours {
			c.found = append(c.found, err)
		}
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			note(err)
			continue
		}
		files = append(files, f)
	}
	config := types.Config{
		Importer: importer{c, p.ImportMap}, Sizes: c.sizes, IgnoreFuncBodies: !ours, FakeImportC: true, Error: note,
	}
	// Every error has gone to note.
	pkg, _ := config.Check(p.ImportPath, c.fset, files, nil)
	c.packages[p.ImportPath] = pkg
}

// importer finds packages that have been checked.
type importer struct {
	*checker
	vendored map[string]string // of the standard library
}

func (i importer) Import(path string) (*types.Package, error) {
	if to, ok := i.vendored[path]; ok {
		path = to
	}
	if p := i.packages[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("package %s is not there", path)
}

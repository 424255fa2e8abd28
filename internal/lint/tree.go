package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Tree is the Go files of a module.
type Tree struct {
	Module string // its path, without a slash at the end
	Fset   *token.FileSet
	Files  []*File
}

// File is one Go file.
type File struct {
	Path   string // from the root of the module, with slashes
	Syntax *ast.File
	Lines  int
}

// Finding is one breach of a rule.
type Finding struct {
	At     string // path:line
	Text   string
	Reason string // why the rule exists
}

// String is "path:line: text (reason)".
func (f Finding) String() string { return f.At + ": " + f.Text + " (" + f.Reason + ")" }

// Load parses every Go file below root, but what lies in testdata and in folders whose name begins with a dot or _.
func Load(root, module string) (*Tree, error) {
	t := &Tree{Module: module, Fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (base == "testdata" || base == "node_modules" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return t.Add(filepath.ToSlash(rel), source)
	})
	if err != nil {
		return nil, fmt.Errorf("load the module at %s: %w", root, err)
	}
	return t, nil
}

// Add parses one file into the tree.
func (t *Tree) Add(name string, source []byte) error {
	syntax, err := parser.ParseFile(t.Fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	t.Files = append(t.Files, &File{Path: name, Syntax: syntax, Lines: bytes.Count(source, []byte("\n"))})
	return nil
}

// Folder is the folder of the file: its package's path in the module.
func (f *File) Folder() string { return path.Dir(f.Path) }

// Test reports whether only tests see the file.
func (f *File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Command reports whether the file is part of a program.
func (f *File) Command() bool { return f.Syntax.Name.Name == "main" }

// helper reports whether a file belongs to a package that exists for tests: one of its files imports testing.
func (t *Tree) helper(f *File) bool {
	for _, other := range t.Files {
		if other.Folder() == f.Folder() && !other.Test() && other.localName("testing") != "" {
			return true
		}
	}
	return false
}

// product reports whether a file is of what users run: no test, no helper of tests, no example.
func (t *Tree) product(f *File) bool {
	return !f.Test() && !under(f.Folder(), "examples", "e2e") && !t.helper(f)
}

// imports yields each import of the file: its path and its place.
func (f *File) imports(yield func(string, token.Pos) bool) {
	for _, spec := range f.Syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil && !yield(p, spec.Pos()) {
			return
		}
	}
}

// localName is the name under which the file uses the package of that path; "" if it does not import it.
func (f *File) localName(importPath string) string {
	for _, spec := range f.Syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// own is the path inside the module of one of its packages.
func (t *Tree) own(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, t.Module+"/")
}

func (t *Tree) finding(pos token.Pos, reason, format string, args ...any) Finding {
	p := t.Fset.Position(pos)
	return Finding{At: fmt.Sprintf("%s:%d", p.Filename, p.Line), Text: fmt.Sprintf(format, args...), Reason: reason}
}

// under reports whether folder is one of the roots or lies below one.
func under(folder string, roots ...string) bool {
	for _, root := range roots {
		if folder == root || strings.HasPrefix(folder, root+"/") {
			return true
		}
	}
	return false
}

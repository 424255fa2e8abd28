package runtimes

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

//go:embed loops/nodejs/*.cjs loops/python/*.py
var loops embed.FS

// Config says where loops lie and where interpreters are looked for.
type Config struct {
	// Dir is where the loops are written; environments must be able to read it. Needed.
	Dir string
	// Path is where interpreters are looked for, as in the variable PATH; the system's usual folders are looked through
	// after it. "" means these alone.
	Path string
	// Region is the value of AWS_REGION; "" means [schema.Region].
	Region string
	// Log is told which interpreter was chosen; nil means nobody.
	Log *slog.Logger
}

// Place is where one environment finds things.
type Place struct {
	Code string // the unpacked package, on this host
	API  string // host:port of the Runtime API

	// Task and Runtime are where it sees the package and its runtime's own folder, if it has a tree of its own; "" means at
	// the host's paths.
	Task, Runtime string

	// TokenAuth is the secret by which the environment asks the Runtime API for its sub-tenant's token; "" where the function
	// has no sub-tenants. SECURITY 4.
	TokenAuth string
}

// Runtimes makes commands. Safe for concurrent use.
type Runtimes struct {
	cfg     Config
	finder  *finder
	folders map[string]string // of each loop, by language
}

// New writes the loops.
func New(cfg Config) (*Runtimes, error) {
	if cfg.Dir == "" {
		return nil, errors.New("runtimes: no folder given for the loops")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("runtimes: folder of the loops: %w", err)
	}
	cfg.Dir = dir
	cfg.Region = cmp.Or(cfg.Region, schema.Region)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runtimes{cfg: cfg, finder: newFinder(cfg.Path, cfg.Log), folders: map[string]string{}}
	for _, l := range languages {
		if r.folders[l.name], err = writeLoop(dir, l); err != nil {
			return nil, fmt.Errorf("runtimes: write the loop of %s: %w", l.name, err)
		}
	}
	return r, nil
}

// writeLoop puts a loop where others may read it.
func writeLoop(dir string, l *language) (string, error) {
	folder := filepath.Join(dir, l.name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, path := range []string{dir, folder} {
		if err := os.Chmod(path, 0o755); err != nil {
			return "", err
		}
	}
	files, err := loops.ReadDir("loops/" + l.name)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		content, err := loops.ReadFile("loops/" + l.name + "/" + file.Name())
		if err != nil {
			return "", err
		}
		if err := replaceFile(folder, file.Name(), content); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// replaceFile writes a file at once: another worker may be doing the same, and a third read it.
func replaceFile(folder, name string, content []byte) error {
	file, err := os.CreateTemp(folder, ".new-")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(0o444), file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(folder, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// Command is how the function of a binding is started in a place. A runtime that this host does not have is a
// [schema.CodeRuntimeUnavailable]; a package without a bootstrap that can be executed is a
// [schema.CodeInvalidEntrypoint] with Lambda's text.
func (r *Runtimes) Command(b *schema.Binding, p Place) (driver.Command, error) {
	if b.Runtime == "provided" || strings.HasPrefix(b.Runtime, "provided.") {
		return r.provided(b, p)
	}
	l, want, err := parseRuntime(b.Runtime)
	if err != nil {
		return driver.Command{}, err
	}
	found, err := r.finder.find(b.Runtime, l, want)
	if err != nil {
		return driver.Command{}, err
	}
	own := r.folders[l.name]
	return driver.Command{
		Path:    found.Path,
		Args:    append(l.flags(b), filepath.Join(cmp.Or(p.Runtime, own), l.loop)),
		Dir:     p.Code,
		Runtime: own,
		Env:     r.variables(b, p, l, found),
	}, nil
}

// Interpreter is what functions of a runtime ("nodejs22.x", "python") would be run by on this host.
func (r *Runtimes) Interpreter(runtime string) (Interpreter, error) {
	l, want, err := parseRuntime(runtime)
	if err != nil {
		return Interpreter{}, err
	}
	return r.finder.find(runtime, l, want)
}

// provided starts the package's own bootstrap.
func (r *Runtimes) provided(b *schema.Binding, p Place) (driver.Command, error) {
	path := filepath.Join(p.Code, "bootstrap")
	info, err := os.Stat(path)
	why := ""
	switch {
	case errors.Is(err, os.ErrNotExist):
		why = "no such file or directory"
	case err != nil:
		return driver.Command{}, fmt.Errorf("look for the bootstrap of %s: %w", b.Function, err)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		why = "permission denied"
	}
	if why != "" {
		return driver.Command{}, schema.Errorf(schema.CodeInvalidEntrypoint, "fork/exec /var/task/bootstrap: %s", why)
	}
	return driver.Command{Path: filepath.Join(cmp.Or(p.Task, p.Code), "bootstrap"), Dir: p.Code, Env: r.variables(b, p, nil, Interpreter{})}, nil
}

// parseRuntime reads the language and the least version that a runtime names.
func parseRuntime(runtime string) (*language, version, error) {
	for _, l := range languages {
		rest, ok := strings.CutPrefix(runtime, l.name)
		if !ok {
			continue
		}
		if want, ok := parseVersion(strings.TrimSuffix(rest, ".x")); ok {
			return l, want, nil
		}
	}
	return nil, version{}, schema.Errorf(schema.CodeRuntimeUnavailable,
		"runtime %.40q is none that this worker has: provided, nodejs, python", runtime)
}

// version is major and minor; missing parts are 0.
type version [2]int

func (v version) atLeast(w version) bool { return v[0] > w[0] || v[0] == w[0] && v[1] >= w[1] }

func (v version) String() string {
	if v[1] == 0 {
		return strconv.Itoa(v[0])
	}
	return fmt.Sprintf("%d.%d", v[0], v[1])
}

// parseVersion reads "", "20", "3.12" or "3.12.1".
func parseVersion(s string) (v version, ok bool) {
	if s == "" {
		return v, true
	}
	for i, part := range strings.Split(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || i > 2 {
			return version{}, false
		}
		if i < len(v) {
			v[i] = n
		}
	}
	return v, true
}

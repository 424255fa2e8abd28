package runtimes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Interpreter is one of this host.
type Interpreter struct {
	Path    string // the real one, no shim
	Version string // "20.20.2"
}

const (
	askFor      = 10 * time.Second // until an interpreter must have said who it is
	forgetAfter = 5 * time.Second  // that none was found
	maxFound    = 64               // runtimes that are remembered: their names come from whoever deploys
	nobody      = 65534            // any user that owns nothing sees what an environment sees
)

// usualFolders are looked through after the given path.
var usualFolders = []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin"}

// finder looks for interpreters. Safe for concurrent use.
type finder struct {
	folders []string
	log     *slog.Logger

	mu    sync.Mutex
	found map[string]*search // by runtime
}

// search is one look, shared by all who ask meanwhile.
type search struct {
	done  chan struct{}
	found Interpreter
	err   error
	ended time.Time
}

func newFinder(path string, log *slog.Logger) *finder {
	f := &finder{log: log, found: map[string]*search{}}
	for _, folder := range append(filepath.SplitList(path), usualFolders...) {
		if filepath.IsAbs(folder) && !slices.Contains(f.folders, filepath.Clean(folder)) {
			f.folders = append(f.folders, filepath.Clean(folder))
		}
	}
	return f
}

// find is the interpreter for a runtime, found now or before.
func (f *finder) find(runtime string, l *language, want version) (Interpreter, error) {
	f.mu.Lock()
	s := f.found[runtime]
	mine := s == nil || s.stale()
	if mine {
		if len(f.found) >= maxFound {
			clear(f.found) // whoever waits for one has it
		}
		s = &search{done: make(chan struct{})}
		f.found[runtime] = s
	}
	f.mu.Unlock()
	if !mine {
		<-s.done
		return s.found, s.err
	}
	s.found, s.err = f.look(runtime, l, want)
	s.ended = time.Now()
	close(s.done)
	return s.found, s.err
}

// stale tells that a search is over and says nothing any more.
func (s *search) stale() bool {
	select {
	case <-s.done:
	default:
		return false
	}
	if s.err != nil {
		return time.Since(s.ended) > forgetAfter
	}
	_, err := os.Stat(s.found.Path)
	return err != nil
}

// look asks every candidate on the path until one will do.
func (f *finder) look(runtime string, l *language, want version) (Interpreter, error) {
	if !want.atLeast(l.least) {
		want = l.least
	}
	var passed []string
	for _, name := range l.names(want) {
		for _, folder := range f.folders {
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue
			}
			found, err := f.identify(path, l)
			if err != nil {
				passed = append(passed, fmt.Sprintf("%s cannot be used: %v", path, err))
				continue
			}
			if v, ok := parseVersion(found.Version); !ok || !v.atLeast(want) {
				passed = append(passed, fmt.Sprintf("%s is %s", found.Path, found.Version))
				continue
			}
			f.log.Info("interpreter chosen", "runtime", runtime, "path", found.Path, "version", found.Version)
			return found, nil
		}
	}
	what := cmp.Or(strings.Join(slices.Compact(passed), "; "), "there is none on the path")
	return Interpreter{}, schema.Errorf(schema.CodeRuntimeUnavailable, "runtime %s needs %s %s or newer on the worker's host: %s; "+
		"install package %s there", runtime, l.program, want, what, l.install)
}

// identify asks a candidate who it really is, and the one that it names whether that is true without the path that the
// candidate may have needed.
func (f *finder) identify(path string, l *language) (Interpreter, error) {
	found, err := ask(path, l, strings.Join(f.folders, string(filepath.ListSeparator)))
	if err != nil {
		return Interpreter{}, err
	}
	if found.Path == path {
		return found, nil
	}
	real, err := ask(found.Path, l, standardPath)
	if err != nil {
		return Interpreter{}, fmt.Errorf("it leads to %s: %w", found.Path, err)
	}
	return Interpreter{Path: found.Path, Version: real.Version}, nil
}

// ask runs a candidate, as a user that owns nothing where we are root.
func ask(path string, l *language, search string) (Interpreter, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), askFor, errors.New("it did not answer"))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, l.ask...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + search, "HOME=/"}
	cmd.WaitDelay = time.Second
	// In a session of its own, so that a shim's children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		text, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		if text != "" {
			err = fmt.Errorf("%w (%.100s)", err, text)
		}
		return Interpreter{}, err
	}
	real, version, ok := strings.Cut(strings.TrimSpace(out.String()), "\n")
	if !ok || !filepath.IsAbs(real) {
		return Interpreter{}, fmt.Errorf("it said %.60q instead of its path and version", out.String())
	}
	return Interpreter{Path: real, Version: strings.TrimSpace(version)}, nil
}

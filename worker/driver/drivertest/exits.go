package drivertest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// exits: how the main process ended is told as Lambda tells it, in Go's words.
func (s *suite) exits(t *testing.T) {
	d := s.driver(t)
	for _, test := range []struct {
		name, do string
		code     int
		signal   string
	}{
		{"Zero", "exit 0", 0, ""},
		{"Status", "exit 7", 7, ""},
		{"Killed", raise(syscall.SIGKILL), -1, "killed"},
		{"Terminated", raise(syscall.SIGTERM), -1, "terminated"},
		{"SegmentationFault", raise(syscall.SIGSEGV), -1, "segmentation fault"},
		{"Aborted", raise(syscall.SIGABRT), -1, "aborted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.HasSuffix(test.name, "Fault") || test.name == "Aborted" {
				needs(t, runtime.GOOS == "linux", "a system on which the guest can undo a signal's handler")
			}
			e := s.make(t, d)
			s.start(t, e).Tell("%s", test.do)
			exit := awaitDone(t, e)
			if !exit.Started || exit.Killed || exit.Code != test.code || exit.Signal != test.signal || exit.OutOfMemory {
				t.Errorf("exit %+v; output %q", exit, e.output)
			}
			if exit.Lived <= 0 {
				t.Errorf("lived %v", exit.Lived)
			}
		})
	}
}

// refusals: a command that cannot be run says so in Go's words, and the environment ends.
func (s *suite) refusals(t *testing.T) {
	d := s.driver(t)
	plain := s.file(t, "plain", "#!/bin/sh\n", 0o644)
	garbage := s.file(t, "garbage", "\x00\x01\x02\x03", 0o755)
	for _, test := range []struct {
		name, path, dir, text string
		is                    error
	}{
		{"Missing", filepath.Join(s.inside, "missing"), s.folder, "fork/exec " + s.inside + "/missing: no such file or directory", fs.ErrNotExist},
		{"NotExecutable", plain, s.folder, "fork/exec " + plain + ": permission denied", fs.ErrPermission},
		{"Folder", s.inside, s.folder, "fork/exec " + s.inside + ": permission denied", fs.ErrPermission},
		{"Format", garbage, s.folder, "fork/exec " + garbage + ": exec format error", syscall.ENOEXEC},
		{"NoSuchDir", filepath.Join(s.inside, "guest"), s.folder + "/nowhere", "chdir " + s.folder + "/nowhere: no such file or directory", fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := s.make(t, d)
			cmd := s.command(t)
			cmd.Path, cmd.Dir = test.path, test.dir
			err := e.Start(t.Context(), cmd, e.output)
			if err == nil || !strings.HasPrefix(err.Error(), test.text) || !errors.Is(err, test.is) {
				t.Errorf("start: %v; want %q", err, test.text)
			}
			if exit := awaitDone(t, e); exit.Started {
				t.Errorf("exit %+v", exit)
			}
		})
	}
}

// startsOnce: an environment runs one command in its life.
func (s *suite) startsOnce(t *testing.T) {
	d := s.driver(t)
	e := s.make(t, d)
	guest := s.start(t, e)
	again := s.command(t)
	if err := e.Start(t.Context(), again, e.output); err == nil {
		t.Error("started twice")
	}
	if guest.Gone() {
		t.Error("the second start ended the first")
	}
	e.Kill()
	awaitDone(t, e)
	if err := e.Start(t.Context(), again, e.output); err == nil {
		t.Error("started after its end")
	}
	late := s.make(t, d)
	if err := late.Start(closed(), again, late.output); err == nil {
		t.Error("started for somebody who is gone")
	}
}

// file makes a file beside the guests and tells where they see it.
func (s *suite) file(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, name), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.inside, name)
}

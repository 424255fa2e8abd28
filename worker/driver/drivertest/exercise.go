package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/worker/driver"
)

// suite is what the areas of the suite share.
type suite struct {
	open      func(testing.TB) driver.Driver
	folder    string // reachable by guests; holds their executable
	inside    string // where they see it
	abilities driver.Abilities
	ids       atomic.Int64
}

// Exercise runs the suite. Open makes a driver for one test; the suite closes it. The test that calls it must not be
// parallel to others: for a moment it counts all goroutines there are.
func Exercise(t *testing.T, open func(testing.TB) driver.Driver) {
	s := &suite{open: open, folder: Folder(t)}
	GuestCommand(t, s.folder)
	unused := open(t)
	s.inside = s.folder
	if rooted, ok := unused.(driver.Rooted); ok {
		s.inside = rooted.TaskDir()
	}
	if err := unused.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("LeavesNoGoroutine", s.leavesNoGoroutine) // first and alone: it counts all goroutines there are
	d := s.driver(t)
	var err error
	if s.abilities, err = d.Probe(t.Context()); err != nil {
		t.Fatalf("probe: %v", err)
	}
	for _, area := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Sight", s.sight}, {"User", s.user}, {"Output", s.output}, {"Scratch", s.scratch},
		{"Exit", s.exits}, {"Refusals", s.refusals}, {"StartsOnce", s.startsOnce},
		{"Kill", s.kill}, {"KillBeforeStart", s.killBeforeStart}, {"KillWhileStarting", s.killWhileStarting}, {"Terminate", s.terminate},
		{"Strays", s.strays}, {"Listener", s.listener}, {"Close", s.closes}, {"Crowd", s.crowd},
	} {
		t.Run(area.name, func(t *testing.T) {
			t.Parallel()
			area.run(t)
		})
	}
}

// driver opens a driver that is closed with the test.
func (s *suite) driver(t testing.TB) driver.Driver {
	t.Helper()
	d := s.open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// environment is one with its host and its output.
type environment struct {
	driver.Environment
	host   *Host
	output *buffer
}

// make makes an environment that is ended with the test.
func (s *suite) make(t testing.TB, d driver.Driver) *environment {
	t.Helper()
	e, err := d.New(t.Context(), driver.Spec{ID: "e" + strconv.FormatInt(s.ids.Add(1), 10), MemoryMB: 128})
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	t.Cleanup(func() {
		e.Kill()
		awaitDone(t, e)
	})
	return &environment{Environment: e, host: NewHost(t, e.Listener()), output: &buffer{}}
}

// variables are those of a guest that has no others.
func (e *environment) variables(more ...string) []string {
	return append([]string{"AWS_LAMBDA_RUNTIME_API=" + e.APIAddress()}, more...)
}

// start starts a guest and waits for its report.
func (s *suite) start(t testing.TB, e *environment, arguments ...string) *Leash {
	t.Helper()
	cmd := s.command(t, arguments...)
	cmd.Env = e.variables()
	if err := e.Start(t.Context(), cmd, e.output); err != nil {
		t.Fatalf("start: %v", err)
	}
	return e.host.Await()
}

// command runs a guest, by its place as the guest sees it.
func (s *suite) command(t testing.TB, arguments ...string) driver.Command {
	t.Helper()
	cmd := GuestCommand(t, s.folder, arguments...)
	cmd.Path = filepath.Join(s.inside, filepath.Base(cmd.Path))
	return cmd
}

func awaitDone(t testing.TB, e driver.Environment) driver.Exit {
	t.Helper()
	select {
	case <-e.Done():
		return e.Exit()
	case <-time.After(patience):
		t.Fatal("the environment does not end")
		return driver.Exit{}
	}
}

// needs skips a test that this host cannot run, or fails it where a full host is promised.
func needs(t *testing.T, has bool, what string) {
	t.Helper()
	switch {
	case has:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true, and this host lacks %s", what)
	default:
		t.Skipf("needs %s", what)
	}
}

// leavesNoGoroutine makes, runs, kills and closes, and compares.
func (s *suite) leavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("Life", func(t *testing.T) {
		d := s.driver(t)
		s.start(t, s.make(t, d)).Tell("exit 0")
		s.start(t, s.make(t, d))
		s.make(t, d)
	})
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// closed is a context that has ended.
func closed() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

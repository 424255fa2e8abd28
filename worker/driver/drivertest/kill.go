package drivertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
)

func raise(s syscall.Signal) string { return "raise " + strconv.Itoa(int(s)) }

// kill: what runs ends by SIGKILL, and it is known who killed it; twice, and after the end, is nothing more.
func (s *suite) kill(t *testing.T) {
	d := s.driver(t)
	e := s.make(t, d)
	guest := s.start(t, e)
	e.Kill()
	e.Kill()
	exit := awaitDone(t, e)
	guest.AwaitGone()
	if !exit.Started || !exit.Killed || exit.Signal != "killed" || exit.Code != -1 {
		t.Errorf("exit %+v", exit)
	}
	ended := s.make(t, d)
	s.start(t, ended).Tell("exit 3")
	if exit := awaitDone(t, ended); exit.Killed || exit.Code != 3 {
		t.Errorf("exit %+v", exit)
	}
	ended.Kill()
	if exit := ended.Exit(); exit.Killed || exit.Code != 3 {
		t.Errorf("exit after a late kill %+v", exit)
	}
}

// terminate: who can be asked to end gets SIGTERM, frozen or not, and the others with it; before the start and after the end
// there is nobody to ask.
func (s *suite) terminate(t *testing.T) {
	d := s.driver(t)
	for _, frozen := range []bool{false, true} {
		e := s.make(t, d)
		polite, ok := e.Environment.(driver.Terminator)
		if !ok {
			t.Skip("it cannot be asked")
		}
		polite.Terminate()
		guest := s.start(t, e)
		guest.Tell(RoleChild)
		child := e.host.Await()
		if f, ok := e.Environment.(driver.Freezer); ok && frozen {
			if err := f.Freeze(true); err != nil {
				t.Fatal(err)
			}
		}
		polite.Terminate()
		if exit := awaitDone(t, e); exit.Signal != "terminated" || exit.Killed {
			t.Errorf("exit %+v", exit)
		}
		guest.AwaitGone()
		child.AwaitGone()
		polite.Terminate()
	}
}

// killBeforeStart: an environment that never ran ends too.
func (s *suite) killBeforeStart(t *testing.T) {
	e := s.make(t, s.driver(t))
	e.Kill()
	e.Kill()
	if exit := awaitDone(t, e); exit.Started || !exit.Killed {
		t.Errorf("exit %+v", exit)
	}
	if err := e.Start(t.Context(), s.command(t), e.output); err == nil {
		t.Error("started after the kill")
	}
}

// killWhileStarting: whichever comes first, the process does not live on.
func (s *suite) killWhileStarting(t *testing.T) {
	d := s.driver(t)
	for range 20 {
		e := s.make(t, d)
		cmd := s.command(t)
		cmd.Env = e.variables()
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Start(context.Background(), cmd, e.output) })
		wg.Go(e.Kill)
		wg.Wait()
		if exit := awaitDone(t, e); !exit.Killed {
			t.Fatalf("exit %+v", exit)
		}
	}
}

// strays: when an environment has ended, by itself or by a kill, nothing that it started lives, wherever that hid.
func (s *suite) strays(t *testing.T) {
	d := s.driver(t)
	for name, end := range map[string]func(*environment, *Leash){
		"Killed": func(e *environment, _ *Leash) { e.Kill() },
		"Exited": func(_ *environment, main *Leash) { main.Tell("exit 0") },
	} {
		t.Run(name, func(t *testing.T) {
			e := s.make(t, d)
			main := s.start(t, e)
			main.Tell(RoleChild)
			child := e.host.Await()
			main.Tell(RoleDaemon)
			daemon := e.host.Await()
			if child.Role != RoleChild || daemon.Role != RoleDaemon {
				t.Fatalf("guests %s and %s", child.Role, daemon.Role)
			}
			other := s.start(t, s.make(t, d))
			end(e, main)
			awaitDone(t, e)
			// The connection of a process that is gone has been closed by the kernel; what is left is to read that.
			main.AwaitGone()
			child.AwaitGone()
			daemon.AwaitGone()
			if other.Gone() {
				t.Error("another environment ended with it")
			}
			other.Tell("say alive")
		})
	}
}

// listener: the Runtime API's address is the environment's alone, and nobody answers there after its end.
func (s *suite) listener(t *testing.T) {
	d := s.driver(t)
	e := s.make(t, d)
	if other := s.make(t, d); other.Listener() == e.Listener() {
		t.Error("two environments share a listener")
	}
	s.start(t, e)
	e.Kill()
	awaitDone(t, e)
	if _, err := e.Listener().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the end: %v", err)
	}
}

// closes: Close ends everything, and nothing is made afterwards.
func (s *suite) closes(t *testing.T) {
	d := s.open(t)
	running, idle := s.make(t, d), s.make(t, d)
	guest := s.start(t, running)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	for _, e := range []*environment{running, idle} {
		select {
		case <-e.Done():
		default:
			t.Error("an environment outlived Close")
		}
	}
	guest.AwaitGone()
	if _, err := d.New(t.Context(), driver.Spec{ID: "late"}); err == nil {
		t.Error("made after Close")
	}
	if err := s.open(t).Close(); err != nil {
		t.Errorf("close of an unused driver: %v", err)
	}
}

// crowd: many environments at once do not meet.
func (s *suite) crowd(t *testing.T) {
	const many = 50
	d := s.driver(t)
	var wg sync.WaitGroup
	problems := make(chan string, many)
	for i := range many {
		e := s.make(t, d)
		wg.Go(func() {
			cmd := s.command(t)
			cmd.Env = e.variables(fmt.Sprintf("NUMBER=%d", i))
			if err := e.Start(t.Context(), cmd, e.output); err != nil {
				problems <- err.Error()
				return
			}
			select {
			case guest := <-e.host.arrived:
				guest.Tell("say %d", i)
				guest.Tell("exit %d", i)
			case <-e.Done():
				problems <- "ended by itself: " + e.output.String()
				return
			}
			<-e.Done()
			if exit := e.Exit(); exit.Code != i || e.output.String() != strconv.Itoa(i)+"\n" {
				problems <- fmt.Sprintf("environment %d: exit %+v, output %q", i, exit, e.output)
			}
		})
	}
	wg.Wait()
	close(problems)
	for problem := range problems {
		t.Error(problem)
	}
}

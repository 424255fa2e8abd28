package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/lifecycle/lifecycletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part is a component that notes its life and may fail.
type part struct {
	guard        lifecycle.Guard
	name         string
	log          *[]string
	onStart, end error
}

func (p *part) Start(ctx context.Context) error {
	return p.guard.Start(ctx, func(context.Context) error {
		*p.log = append(*p.log, "start "+p.name)
		return p.onStart
	})
}

func (p *part) Stop(ctx context.Context) error {
	return p.guard.Stop(ctx, func(context.Context) error {
		*p.log = append(*p.log, "stop "+p.name)
		return p.end
	})
}

func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	t.Parallel()
	var log []string
	var g lifecycle.Group
	for _, name := range []string{"a", "b", "c"} {
		g.Add(name, &part{name: name, log: &log})
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}; !slices.Equal(log, want) {
		t.Errorf("%q, want %q", log, want)
	}
}

func TestGroupWhosePartDoesNotStart(t *testing.T) {
	t.Parallel()
	var log []string
	fails, alsoFails := errors.New("no port"), errors.New("would not end")
	var g lifecycle.Group
	g.Add("a", &part{name: "a", log: &log, end: alsoFails})
	g.Add("b", &part{name: "b", log: &log})
	g.Add("c", &part{name: "c", log: &log, onStart: fails})
	g.Add("d", &part{name: "d", log: &log})
	err := g.Start(t.Context())
	if !errors.Is(err, fails) || !errors.Is(err, alsoFails) {
		t.Errorf("%v, want both errors", err)
	}
	if want := []string{"start a", "start b", "start c", "stop b", "stop a"}; !slices.Equal(log, want) {
		t.Errorf("%q, want %q", log, want)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Errorf("Stop of what did not start: %v", err)
	}
}

func TestGroupGivesAllErrorsOfStop(t *testing.T) {
	t.Parallel()
	var log []string
	first, second := errors.New("first"), errors.New("second")
	var g lifecycle.Group
	g.Add("a", &part{name: "a", log: &log, end: first})
	g.Add("b", &part{name: "b", log: &log, end: second})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second Stop gives the first one's result
		if err := g.Stop(t.Context()); !errors.Is(err, first) || !errors.Is(err, second) {
			t.Errorf("%v, want both", err)
		}
	}
	if n := len(log); n != 4 {
		t.Errorf("%d steps: %q", n, log)
	}
}

// A Stop that meets a Start ends its context, and waits for it.
func TestStopEndsAStartThatWaits(t *testing.T) {
	t.Parallel()
	var guard lifecycle.Guard
	begun := make(chan struct{})
	result := make(chan error)
	var cleaned atomic.Bool
	go func() { // ends with the start, whose result is read below
		result <- guard.Start(context.Background(), func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			cleaned.Store(true)
			return context.Cause(ctx)
		})
	}()
	<-begun
	stopped := make(chan error)
	go func() {
		stopped <- guard.Stop(context.Background(), func(context.Context) error { return errors.New("never started") })
	}()
	if err := <-result; !errors.Is(err, lifecycle.ErrStopped) {
		t.Errorf("Start: %v", err)
	}
	if err := <-stopped; err != nil || !cleaned.Load() {
		t.Errorf("Stop: %v; cleaned up: %v", err, cleaned.Load())
	}
}

func TestGroupUnderStress(t *testing.T) {
	t.Parallel()
	lifecycletest.Exercise(t, func(*testing.T) lifecycle.Component {
		var log []string
		var g lifecycle.Group
		for _, name := range []string{"a", "b"} {
			g.Add(name, &part{name: name, log: &log})
		}
		g.Add("nothing", lifecycle.Func{})
		return &g
	})
}

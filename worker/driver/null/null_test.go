package null_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/null"
)

func make(t *testing.T, d driver.Driver) driver.Environment {
	t.Helper()
	e, err := d.New(t.Context(), driver.Spec{ID: "e1", MemoryMB: 128})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func ended(e driver.Environment) bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

func TestEchoes(t *testing.T) {
	t.Parallel()
	d := null.New()
	if a, err := d.Probe(t.Context()); err != nil || a.Tenants || a.Limits || len(a.Notes) == 0 {
		t.Fatalf("probe: %+v, %v: it enforces nothing and says so", a, err)
	}
	e := make(t, d)
	inline, ok := e.(driver.Inline)
	if !ok || e.Listener() != nil || e.APIAddress() != "" {
		t.Fatal("it answers by itself, without a Runtime API")
	}
	if err := e.Start(t.Context(), driver.Command{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := string(inline.Invoke([]byte("x"))); got != "x" {
		t.Fatalf("answered %q", got)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	e := make(t, null.New())
	if ended(e) {
		t.Fatal("ended before Kill")
	}
	e.Kill()
	e.Kill()
	if !ended(e) || !e.Exit().Killed || e.Exit().Started {
		t.Fatalf("exit %+v", e.Exit())
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	d := null.New()
	first, second := make(t, d), make(t, d)
	first.Kill()
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if !ended(second) {
		t.Fatal("an environment outlives its driver")
	}
	if _, err := d.New(t.Context(), driver.Spec{}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("new after close: %v", err)
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrUnexpectedEOF)
	d := null.New()
	if _, err := d.New(over, driver.Spec{}); err != io.ErrUnexpectedEOF {
		t.Errorf("new: %v, want the cause", err)
	}
	if err := make(t, d).Start(over, driver.Command{}, io.Discard); err != io.ErrUnexpectedEOF {
		t.Errorf("start: %v, want the cause", err)
	}
}

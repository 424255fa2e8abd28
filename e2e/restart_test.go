package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestRestart stops and kills a whole fabric and starts it again on its data.
func TestRestart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	f := fabric.Start(t, fabric.Options{Data: data, Managers: 2, Capacity: 40})
	f.DeployFn("fn", "--env", "COLOUR=red")

	t.Run("a second up on the same folder is refused with the first one's pid", func(t *testing.T) {
		r := f.CLI("up", "--data", data, "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0")
		if r.Code == 0 || !strings.Contains(r.Stderr, itoa(f.PID())) {
			t.Errorf("exit %d: %s", r.Code, r.Stderr)
		}
	})
	f.Stop()
	f = fabric.Start(t, fabric.Options{Data: data, Managers: 2, Capacity: 40})
	t.Run("stopped in order, functions and variables are there again", func(t *testing.T) {
		if a := invoke(t, f.Anonymous(), "fn", `"env COLOUR"`); string(a.Payload) != `"red"` {
			t.Errorf("answered %s", a.Payload)
		}
	})
	t.Run("killed under load, nothing outlives it", func(t *testing.T) {
		g := newGate(t)
		c := f.Anonymous()
		var held conc.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		for range 8 {
			held.Go(func() { _, _ = c.Invoke(ctx, client.Call{Function: "fn", Payload: []byte(g.payload())}) })
		}
		conns := g.wait(t, 8)
		var load conc.WaitGroup
		var answered atomic.Int64
		var once sync.Once
		enough := make(chan struct{})
		for range 4 {
			load.Go(func() {
				for ctx.Err() == nil {
					a, err := c.Invoke(ctx, client.Call{Function: "fn", Payload: []byte(`"load"`)})
					if err != nil {
						return
					}
					if string(a.Payload) == `"load"` && answered.Add(1) == 200 {
						once.Do(func() { close(enough) })
					}
				}
			})
		}
		select {
		case <-enough:
		case <-withDeadline(t).Done():
			t.Fatalf("only %d calls were answered before the kill", answered.Load())
		}
		environments := processesOf(f.PID())
		f.Kill()
		cancel()
		load.Wait()
		held.Wait()
		// The function's end of a held call closes only when its process is gone.
		for _, conn := range conns {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a held function went on after its worker was killed")
			}
		}
		eventually(t, "no process of the killed fabric is left", func() bool {
			for _, pid := range environments {
				if _, err := os.Stat(filepath.Join("/proc", itoa(pid))); err == nil {
					return false
				}
			}
			return true
		})
	})
	f = fabric.Start(t, fabric.Options{Data: data, Managers: 2, Capacity: 40})
	t.Run("and serves again", func(t *testing.T) {
		if a := invoke(t, f.Anonymous(), "fn", `"again"`); string(a.Payload) != `"again"` || a.Start != schema.StartCold {
			t.Errorf("answered %s (%s)", a.Payload, a.Start)
		}
		quiet(t, f)
	})
}

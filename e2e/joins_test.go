package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

// TestJoins is S40: a manager joins eight that hold reservations of two, 200 of them where HEARTH_LONG is set. About a ninth of the members move, and no call notices.
func TestJoins(t *testing.T) {
	t.Parallel()
	t.Run("S40", func(t *testing.T) {
		const managers = 8
		reservations := 50
		if os.Getenv("HEARTH_LONG") != "" {
			reservations = 200
		}
		cfg := deploy.Config{Managers: managers, Capacity: managers * 100, Set: map[string]string{"t": "5", "start-by": "60s"}}
		f, c := routed(t, cfg)
		var names []string
		for i := range reservations {
			names = append(names, fmt.Sprintf("f%d", i))
		}
		emptyFunction(t, c, names...)
		crew := pool.New().WithMaxGoroutines(4).WithErrors()
		for _, name := range names {
			crew.Go(func() error { _, err := c.Reserve(withDeadline(t), name, "1", 2); return err })
		}
		if err := crew.Wait(); err != nil {
			t.Fatal(err)
		}
		look := func(so func(*schema.ReservationOutput) bool) map[string]bool {
			all, err := c.Reservations(withDeadline(t), "")
			if err != nil || len(all) != reservations {
				return nil
			}
			at := make(map[string]bool)
			for i := range all {
				if all[i].Status != schema.ReservationReady || !so(&all[i]) {
					return nil
				}
				for _, m := range all[i].Arc {
					if m.Rank >= 0 {
						at[all[i].Function+" at "+m.Manager] = true
					}
				}
			}
			return at
		}
		exact := func(r *schema.ReservationOutput) bool {
			for _, m := range r.Arc {
				if m.Members != m.Share {
					return false
				}
			}
			return true
		}
		var before, after map[string]bool
		eventuallyWithin(t, 2*deadline, "all are ready", func() bool { before = look(exact); return before != nil })

		ctx, cancel := context.WithTimeout(t.Context(), 4*deadline)
		defer cancel()
		var stop atomic.Bool
		var cold, moved, calls atomic.Int64
		var callers conc.WaitGroup
		for k := range 4 {
			callers.Go(func() {
				for i := k; !stop.Load(); i += 4 {
					a, err := c.Invoke(ctx, client.Call{Function: names[i%reservations], Qualifier: "1", Payload: []byte("1")})
					if err != nil {
						t.Errorf("a call of %s: %v", names[i%reservations], err)
						return
					}
					switch {
					case a.Start == schema.StartWarm:
					case a.Reason == schema.ReasonOverflow: // it came in the moment before a member is offered (S59)
						moved.Add(1)
					default:
						cold.Add(1)
						t.Logf("call %d: %s, %s on %s, by %s, %v", calls.Load(), a.Start, a.Reason, a.Arc, a.Manager, a.FunctionError)
						t.Log(whole(c, a.RequestID))
					}
					calls.Add(1)
				}
			})
		}
		defer callers.Wait()
		defer stop.Store(true)
		credential, err := deploy.MakeCredential(deploy.CredentialConfig{Role: deploy.RoleManager, ID: "m9", DataDir: filepath.Dir(f.CredsFile)})
		if err != nil {
			t.Fatal(err)
		}
		admitted(t, f.NATSURL, credential.File)
		m9, err := deploy.StartManager(withDeadline(t), deploy.ManagerConfig{
			ID: "m9", DataDir: filepath.Join(t.TempDir(), "m9"), Server: deploy.Server{URL: f.NATSURL, Creds: credential.File}, Capacity: 100,
			Driver: deploy.DriverNull, Set: cfg.Set,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m9.Stop(withDeadline(t)) }()
		eventuallyWithin(t, 2*deadline, "shares have moved, and nobody holds more", func() bool {
			after = look(exact)
			return joined(after) && calls.Load() > int64(reservations)
		})
		stop.Store(true)
		callers.Wait()
		came := 0
		for at := range after {
			if !before[at] {
				came++
			}
		}
		n, p := float64(len(before)), 1.0/(managers+1)
		if most := n*p + 3*math.Sqrt(n*p*(1-p)); came == 0 || float64(came) > most {
			t.Errorf("%d of %d memberships moved, at most %.1f should", came, len(before), most)
		}
		if cold.Load() > 0 || moved.Load() > calls.Load()/500+1 {
			t.Errorf("of %d calls %d were not warm, and %d moved", calls.Load(), cold.Load(), moved.Load())
		}
		t.Logf("%d of %d memberships moved under %d calls", came, len(before), calls.Load())
	})
}

// joined reports whether the one who joined holds something.
func joined(at map[string]bool) bool {
	for member := range at {
		if strings.HasSuffix(member, " at m9") {
			return true
		}
	}
	return false
}

// admitted waits until a server knows a credential.
func admitted(t *testing.T, url, creds string) {
	t.Helper()
	eventually(t, "the credential is taken in", func() bool {
		c, err := client.Connect(withDeadline(t), client.Options{URL: url, Creds: creds})
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// whole is the story of a call, for a test that is about to fail over it.
func whole(c *client.Client, id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	story, err := c.Trace(ctx, id)
	if err != nil {
		return err.Error()
	}
	b, err := json.MarshalIndent(story, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

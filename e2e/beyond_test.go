package e2e_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// throttled counts the calls that were refused with this reason and a hint when to come again; any other refusal fails the test.
func (fl *flight) throttled(reason string) (n int) {
	fl.t.Helper()
	fl.wg.Wait()
	for _, err := range fl.errs {
		e := new(schema.Error)
		if !errors.As(err, &e) || e.Code != schema.CodeThrottled || e.Reason != reason || e.Retry <= 0 {
			fl.t.Errorf("refused: %v", err)
			continue
		}
		n++
	}
	return n
}

// refusedEverywhere calls by HTTP and by the command, and wants the same reason, a hint, and exit code 3.
func (r *reserved) refusedEverywhere(f *fabric.Fabric, reason string) {
	r.t.Helper()
	resp, body := post(r.t, f, r.name, strings.NewReader("1"), nil)
	var e struct{ Reason string }
	if resp.StatusCode != http.StatusTooManyRequests || json.Unmarshal(body, &e) != nil || e.Reason != reason || resp.Header.Get("Retry-After") == "" {
		r.t.Errorf("by HTTP: %s, retry after %q, %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
	c := f.CLI("invoke", r.name, "--payload", "1")
	if c.Code != 3 || !strings.Contains(c.Stderr, string(schema.CodeThrottled)) || !strings.Contains(c.Stderr, reason+", retry after ") {
		r.t.Errorf("by the command: exit %d, %s", c.Code, c.Stderr)
	}
}

// TestBeyond are the scenarios of what is beyond a reservation and not granted.
func TestBeyond(t *testing.T) {
	t.Parallel()
	t.Run("S05", func(t *testing.T) {
		t.Parallel()
		f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: 10, Flags: []string{"--set", "t=5", "--set", "start-by=10s"}})
		r, g := reserve(t, f, "f", 10), reserve(t, f, "g", 0)
		ring := environments(f)
		if _, err := g.c.Invoke(withDeadline(t), client.Call{Function: "g"}); schema.CodeOf(err) != schema.CodeCapacityExceeded {
			t.Errorf("g without any room: %v", err)
		}
		if v := r.look(); v.Size != 10 || v.Busy != 0 || environments(f) != ring {
			t.Errorf("f has %d, %d of them busy; %d environments where %d were", v.Size, v.Busy, environments(f), ring)
		}
		if reasons, starts := count(r.send(10, "1").wait()); starts[schema.StartWarm] != 10 {
			t.Errorf("calls of f: %v %v", reasons, starts)
		}
	})
	t.Run("S12", func(t *testing.T) {
		t.Parallel()
		f := reservedFabric(t, "--set", "growth=20", "--set", "keep-alive=12s") // an interval is ten seconds
		r, g := reserve(t, f, "f", 10), newGate(t)
		if os.Getenv("HEARTH_LONG") != "" {
			held := r.send(11, g.payload()) // opens the first interval, of which nearly all is left unused
			eleven := g.wait(t, 11)
			eventually(t, "one is made beyond the reservation", func() bool { return environments(f) > 10 })
			release(eleven)
			held.wait()
			eventuallyWithin(t, 2*deadline, "an interval has passed: what was made has been idle for longer, and has gone", func() bool { return environments(f) == 10 })
		}
		all := r.send(50, g.payload())
		held := g.wait(t, 30)
		eventually(t, "the others are refused", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.errs) == 20
		})
		release(held)
		if n := all.throttled(schema.ThrottleRate); n != 20 || len(all.answers) != 30 {
			t.Errorf("%d ran, %d were throttled", len(all.answers), n)
		}
	})
	t.Run("S13", func(t *testing.T) {
		t.Parallel()
		f := reservedFabric(t)
		r, other, g := reserve(t, f, "f", 0), reserve(t, f, "other", 3), newGate(t)
		f.MustCLI("limit", "f", "30")
		all := r.sendTo("", 30, g.payload())
		held := g.wait(t, 30)
		if n := r.sendTo("", 1, "1").throttled(schema.ThrottleFunctionConcurrency); n != 1 {
			t.Error("call 31 was not throttled")
		}
		r.refusedEverywhere(f, schema.ThrottleFunctionConcurrency)
		// The account's: all that there is, and no more.
		f.MustCLI("limit", "f", "--delete")
		f.MustCLI("fabric", "set", "max-environments=33")
		eventually(t, "the account is full", func() bool {
			fl := r.sendTo("", 1, "1")
			fl.wg.Wait()
			return len(fl.errs) == 1 && fl.throttled(schema.ThrottleConcurrency) == 1
		})
		r.refusedEverywhere(f, schema.ThrottleConcurrency)
		if reasons, starts := count(other.send(3, "1").wait()); starts[schema.StartWarm] != 3 || reasons[schema.ReasonReserved] != 3 {
			t.Errorf("what others have reserved: %v %v", reasons, starts)
		}
		release(held)
		all.wait()
	})
	t.Run("S14", func(t *testing.T) {
		t.Parallel()
		f := reservedFabric(t, "--set", "quiet=1s", "--set", "keep-alive=1s")
		r, g := reserve(t, f, "f", 10), newGate(t)
		first := unreservedLength(f, "f")
		all := r.send(200, g.payload())
		held := g.wait(t, 200)
		if n := unreservedLength(f, "f"); n <= first {
			t.Errorf("the arc had %d managers and has %d in the burst", first, n)
		}
		release(held)
		all.wait()
		eventually(t, "the arc is as long as at first", func() bool { return unreservedLength(f, "f") == first })
	})
	t.Run("S21", func(t *testing.T) {
		t.Parallel()
		// Members above the limit stay for as long as this test takes.
		f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: 40, Flags: []string{"--set", "t=5", "--set", "theta=0.9", "--set", "reclaim=10m"}})
		r, g := reserve(t, f, "f", 10), newGate(t)
		r.limit(4)
		nine := r.send(9, g.payload())
		held := g.wait(t, 9)
		for _, c := range []struct {
			busy   int
			reason schema.Reason
		}{{9, schema.ReasonScale}, {8, schema.ReasonSpillover}} {
			release(held[c.busy:])
			r.becomes("the frontend knows how many are busy", func(v *schema.ReservationOutput) bool { return v.Size == 10 && v.Busy == c.busy && v.Limit == 4 })
			if a := r.call("1"); a.Reason != c.reason {
				t.Errorf("with %d of ten busy: %s on %s", c.busy, a.Reason, a.Arc)
			}
		}
		release(held)
		nine.wait()
	})
}

// sendTo is send to a qualifier.
func (r *reserved) sendTo(qualifier string, n int, payload string) *flight {
	fl := &flight{t: r.t}
	ctx := withDeadline(r.t)
	for range n {
		fl.wg.Go(func() {
			fl.add(r.c.Invoke(ctx, client.Call{Function: r.name, Qualifier: qualifier, Payload: []byte(payload)}))
		})
	}
	return fl
}

// environments are those of the whole fabric.
func environments(f *fabric.Fabric) (n int) {
	for _, m := range f.Ring("").Managers {
		n += m.Environments.Idle + m.Environments.Busy + m.Environments.Starting
	}
	return n
}

// unreservedLength is how many managers the function's unreserved arc has.
func unreservedLength(f *fabric.Fabric, function string) int {
	for _, a := range f.Ring(function).Arcs {
		if a.Kind == "unreserved" {
			return a.Length
		}
	}
	return 0
}

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// many is what became of the calls of many callers.
type many struct {
	mu                 sync.Mutex
	calls, cold, moved int // cold ones are not among those that a catcher moved
	scale              int // calls that were cold, or not, for the reason "scale"
	failed             error
	last               []time.Time // cold calls
	most               int         // of them within a second
}

func (c *many) count(a *client.Answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = err
		return
	}
	c.calls++
	if a.Reason == schema.ReasonScale {
		c.scale++
	}
	switch {
	case a.Reason == schema.ReasonOverflow:
		c.moved++
	case a.Start != schema.StartWarm:
		c.cold++
		now := time.Now()
		c.last = append(c.last, now)
		for now.Sub(c.last[0]) >= time.Second {
			c.last = c.last[1:]
		}
		c.most = max(c.most, len(c.last))
	}
}

// TestShrinkUnderMany is S31: a reservation of 100 with 80 callers shrinks to 50. With theta 1.0 nothing goes cold by it, and what they
// use stays; with theta 0.9 the set bleeds down to the limit, and hardly more goes cold than the members that the callers lose. On
// paper: TestBleed.
//
// Broken to see it fail: managers that let go what is idle at this moment, and not what was idle all along, had a fifth of the calls
// moved; with surplus offered in the classes of shares 88 stayed for ever with theta 0.9, and 79 where idle members were told first.
func TestShrinkUnderMany(t *testing.T) {
	if os.Getenv("HEARTH_LONG") == "" {
		t.Skip("80 callers for two minutes; with HEARTH_LONG=1")
	}
	t.Parallel()
	const limit, callers, less = 100, 80, 50
	shrink := func(t *testing.T, theta string, so func(*schema.ReservationOutput) bool) (*many, *schema.ReservationOutput) {
		f := reservedFabric(t, "--set", "theta="+theta)
		r := reserve(t, f, "s31", limit)
		counted := new(many)
		work := loaded(callers, func(ctx context.Context) {
			nap := fmt.Sprintf(`"nap %d"`, 500+rand.IntN(1000)) // in step with one another they would all be idle at once
			a, err := r.c.Invoke(ctx, client.Call{Function: r.name, Qualifier: "1", Payload: []byte(nap), Timeout: patience})
			if ctx.Err() == nil {
				counted.count(a, err)
			}
		})
		defer work.stop()
		r.becomes("80 are busy", func(v *schema.ReservationOutput) bool { return v.Busy > callers*9/10 })
		r.limit(less)
		var v *schema.ReservationOutput
		var steps []int
		defer func() { t.Logf("members step by step: %v; last %+v", steps, v) }()
		eventuallyWithin(t, 3*deadline, "what is idle has gone", func() bool {
			if v = r.look(); len(steps) == 0 || steps[len(steps)-1] != v.Size {
				steps = append(steps, v.Size)
			}
			return v.Limit == less && so(v)
		})
		work.more(t, 5*callers) // more than two reclaim times of them
		v = r.look()
		work.stop()
		t.Logf("theta %s: of %d calls %d cold, at most %d within a second, %d moved, %d scaled; %d members", theta, counted.calls, counted.cold, counted.most,
			counted.moved, counted.scale, v.Size)
		if counted.failed != nil {
			t.Errorf("a call was refused: %v", counted.failed)
		}
		return counted, v
	}
	t.Run("S31 theta 1.0", func(t *testing.T) {
		c, v := shrink(t, "1.0", func(v *schema.ReservationOutput) bool { return v.Size <= callers+2 })
		if v.Size < callers {
			t.Errorf("%d members for %d callers", v.Size, callers)
		}
		if c.cold > 0 || c.moved > c.calls/500+1 {
			t.Errorf("of %d calls %d were cold, %d moved", c.calls, c.cold, c.moved)
		}
	})
	t.Run("S31 theta 0.9", func(t *testing.T) {
		c, v := shrink(t, "0.9", func(v *schema.ReservationOutput) bool { return v.Size == less })
		if v.Size != less {
			t.Errorf("%d members, and the limit is %d", v.Size, less)
		}
		// 80 less 45 for the members that they lose, and some for the moments at which fewer than 45 are busy: statuses are 20 ms old.
		if c.cold > callers-less*9/10+callers/8 || c.most > callers/8 || c.moved > c.calls/500+1 {
			t.Errorf("of %d calls %d were cold, at most %d within a second, %d moved", c.calls, c.cold, c.most, c.moved)
		}
	})
}

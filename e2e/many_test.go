package e2e_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// TestShrinkUnderMany is S31 with theta 1.0: a reservation of 100 with 80 callers shrinks to 50. Nothing goes cold by it, and what they
// use stays.
//
// Broken to see it fail: managers that let go what is idle at this moment, and not what was idle all along, had a fifth of the calls moved.
func TestShrinkUnderMany(t *testing.T) {
	if os.Getenv("HEARTH_LONG") == "" {
		t.Skip("80 callers for half a minute; with HEARTH_LONG=1")
	}
	t.Parallel()
	const limit, callers, less = 100, 80, 50
	f := reservedFabric(t)
	r := reserve(t, f, "s31", limit)
	var mu sync.Mutex
	var calls, cold, moved int
	var failed atomic.Pointer[error]
	work := loaded(callers, func(ctx context.Context) {
		a, err := r.c.Invoke(ctx, client.Call{Function: r.name, Qualifier: "1", Payload: []byte(`"nap 200"`), Timeout: patience})
		if err != nil {
			if ctx.Err() == nil {
				failed.Store(&err)
			}
			return
		}
		mu.Lock()
		defer mu.Unlock()
		calls++
		switch {
		case a.Reason == schema.ReasonOverflow:
			moved++
		case a.Start != schema.StartWarm:
			cold++
		}
	})
	defer work.stop()
	r.becomes("80 are busy", func(v *schema.ReservationOutput) bool { return v.Busy > callers*9/10 })

	r.limit(less)
	// Calls pack onto the first ranks: what the last have above their share goes, the share itself stays, idle as it is.
	r.becomes("what is idle has gone", func(v *schema.ReservationOutput) bool {
		idle := 0
		for _, m := range v.Arc[len(v.Arc)/2:] {
			idle += max(0, m.Share-m.Busy)
		}
		return v.Limit == less && v.Size <= callers+idle
	})
	work.more(t, 20*callers) // more than two reclaim times of them
	if v := r.look(); v.Size < callers {
		t.Errorf("%d members for %d callers", v.Size, callers)
	}
	work.stop()
	if t.Logf("of %d calls %d cold, %d moved", calls, cold, moved); cold > 0 || moved > calls/500+1 {
		t.Errorf("of %d calls %d were cold, %d moved", calls, cold, moved)
	}

	if err := failed.Load(); err != nil {
		t.Errorf("a call was refused: %v", *err)
	}
}

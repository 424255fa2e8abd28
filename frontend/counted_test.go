package frontend_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// C is exact: of calls that come at once each has a number of its own, and L of them are reserved.
func TestDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	const limit, rounds = 4, 40
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	r := b.reserve(t, "f", limit)
	b.tells(t, "m2", r.arc(limit, limit)) // all busy: what is above L goes elsewhere
	natstest.Eventually(t, patience, func() bool {
		ready, busy := b.f.Members("default", "f", "1")
		return ready == limit && busy == limit
	}, "members are not counted")
	members, unreserved := r.claimer(t), b.claimer(t, "f")
	for range rounds {
		start := make(chan struct{})
		for range 2 * limit {
			go func() {
				<-start
				_, _ = b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "f", Qualifier: "1"})
			}()
		}
		close(start)
		var claims []*claim
		for range limit {
			claims = append(claims, unreserved.claim(t).ack(t), members.claim(t).ack(t))
		}
		for i, c := range claims {
			c.wants(t, []schema.Reason{schema.ReasonScale, schema.ReasonReserved}[i%2])
			c.answer(t, []byte("1"), nil)
		}
		b.nothingInFlight(t)
	}
}

// Calls of versions with a reservation are told as they come and go, those of others with the whole.
func TestCallsAreToldOnChange(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{functions: []*schema.FunctionRecord{published("f")}})
	other := b.start(t, settings{})
	r := b.reserve(t, "f", 1)
	natstest.Eventually(t, patience, func() bool { return other.Sees("default", "f", "1", r.record.Marker) }, "the other sees nothing")
	sub, err := b.caller.SubscribeSync(b.Names.FrontendStatuses())
	if err != nil {
		t.Fatal(err)
	}
	// told is the next status of the frontend that tells so many calls of f, and those of echo only with the whole.
	told := func(frontend string, number, echoes int) schema.FrontendStatus {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			var s schema.FrontendStatus
			if err := schema.Unmarshal(next(t, sub).Data, &s); err != nil {
				t.Fatal(err)
			}
			n, named := s.InFlight["id-f.1"]
			if s.ID != frontend || n != number || !named && s.Partial {
				continue
			}
			if got := s.InFlight["id-echo.$LATEST"]; s.Partial && got == 0 || !s.Partial && got == echoes {
				return s
			}
		}
		t.Fatalf("nothing tells %d of f in flight at %s", number, frontend)
		panic("unreachable")
	}
	b.send(t, "echo", nil)
	echo := b.claimer(t, "echo").claim(t).ack(t)
	unreserved := b.claimer(t, "f")
	// A whole status may be due at the very moment of a change, and then tells it alone.
	for deadline := time.Now().Add(patience); ; {
		if time.Now().After(deadline) {
			t.Fatal("only whole statuses are told")
		}
		b.send(t, "f", one())
		c := unreserved.claim(t).ack(t)
		// Either frontend may have taken the one and the other.
		frontend, echoes := c.call.Frontend, 0
		if frontend == echo.call.Frontend {
			echoes = 1
		}
		first := told(frontend, 1, echoes)
		c.end(t)
		last := told(frontend, 0, echoes)
		if last.Number <= first.Number {
			t.Errorf("told %+v, then %+v", first, last)
		}
		if first.Partial && last.Partial {
			if len(first.InFlight) != 1 || len(last.InFlight) != 1 {
				t.Errorf("told %+v, then %+v", first, last)
			}
			break
		}
	}
	echo.end(t)
}

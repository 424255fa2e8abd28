package frontend

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// A move that becomes known after the call's start-by has passed, and its message was found gone by it, has the copy deleted at
// once: nothing else would look at it any more.
func TestMoveAfterTheStartBy(t *testing.T) {
	t.Parallel()
	f := benchFrontend(t)
	v := f.reserveBench(t)
	r := v.tally.reservation.Load()
	for name, expired := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			c := &call{
				token: 7, version: v, reserved: r, stream: r.stream, sequence: 3, reason: schema.ReasonReserved, gone: 4, expired: expired,
				deleting: true, fallback: &fallback{},
			}
			f.pending.enter(c)
			f.pending.add(c)
			defer f.pending.take(c.token, false)
			f.stored(c.token, f.stream(0), 11)
			if c.onShard() || c.stream != f.stream(0) || c.sequence != 11 || c.reason != schema.ReasonOverflow || c.gone != 0 || c.fallback != nil {
				t.Errorf("moved to %+v", c)
			}
			due := f.startBys.count
			if want := map[bool]int{true: 1, false: 0}[expired]; due != want {
				t.Errorf("%d deletes are due, want %d", due, want)
			}
			f.startBys = newWheel()
			f.stored(c.token, r.stream, 3) // the first PubAck, late
			if c.onShard() || c.sequence != 11 {
				t.Errorf("a late PubAck made it %+v", c)
			}
		})
	}
}

// Of calls that enter at once each is given a number of its own.
func TestEnterNumbersCalls(t *testing.T) {
	t.Parallel()
	const n = 1000
	p, v := newPending(n, 0), benchFunction().versions[""]
	var seen [n + 1]atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				own, ok := p.enter(&call{version: v})
				if !ok || own < 1 || own > n || seen[own].Add(1) != 1 {
					t.Errorf("call %d, %v", own, ok)
				}
			}
		})
	}
	wg.Wait()
	if _, ok := p.enter(&call{version: v}); ok || v.tally.calls.Load() != n {
		t.Errorf("%d calls are counted, the limit is %d", v.tally.calls.Load(), n)
	}
}

// A shard that was not there holds what was stored in it since: it was made again, and is asked for. Nothing of before is.
func TestShardMadeAgain(t *testing.T) {
	t.Parallel()
	f := benchFrontend(t)
	s := f.shard(3)
	f.streamSeen(s.number, &nats.Msg{Data: []byte(`{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`)})
	if c := (&call{stream: s, sequence: 1 << 60}); !c.streamLost() || s.asked.Load() {
		t.Errorf("its calls are not lost with a stream that is not there: %d", s.first.Load())
	}
	f.saw(s, 1<<50)
	if c := (&call{stream: s, sequence: 1 << 50}); c.streamLost() || !s.asked.Load() {
		t.Error("what was stored in it is lost, or it is not asked for")
	}
	f.streamSeen(s.number, &nats.Msg{Data: []byte(`{"config":{"name":"HEARTH_CALLS_R3","first_seq":1000},"state":{"last_seq":1005}}`)})
	if (&call{stream: s, sequence: 1000}).streamLost() || !(&call{stream: s, sequence: 999}).streamLost() || s.asked.Load() || s.floor() != 1<<50 {
		t.Errorf("first %d, floor %d", s.first.Load(), s.floor())
	}
	// CALLS_U is always made again: that it is not there yet says nothing.
	u := f.stream(0)
	f.ask(u)
	f.streamSeen(0, &nats.Msg{Data: []byte(`{"error":{"code":404,"err_code":10059}}`)})
	if u.first.Load() != 0 || !u.asked.Load() {
		t.Errorf("first %d", u.first.Load())
	}
}

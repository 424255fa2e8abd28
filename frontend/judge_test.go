package frontend

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// The rules of DESIGN 3 and 6, each at its edge, in ticks of the connected clock.
func TestJudge(t *testing.T) {
	t.Parallel()
	const start = uint64(100)
	base := func(change func(*call)) *call {
		c := &call{published: start, sequence: 1000, startBy: 10 * time.Second, floor: 990}
		if change != nil {
			change(c)
		}
		return c
	}
	unmet := func(c *call) { // what is published where no stream is known to be
		s := new(stream)
		s.first.Store(gone)
		c.sequence, c.floor, c.reserved = 0, s.floor(), &reservation{}
	}
	yes := func(uint64, uint64) bool { return true }
	no := func(uint64, uint64) bool { return false }
	silent := func(string) uint64 { return 0 }
	at := func(tick uint64) func(string) uint64 { return func(string) uint64 { return tick } }
	for _, c := range []struct {
		name string
		call *call
		now  moment

		first uint64 // of the stream that is there now; 0: not known
		want  verdict
	}{
		{"just published", base(nil), moment{tick: start, beat: silent, spoke: no}, 1, wait},
		{"in the stream, not yet two seconds", base(nil), moment{tick: start + twoSeconds - 1, beat: silent}, 0, wait},
		{"two seconds without a beat", base(nil), moment{tick: start + twoSeconds, beat: silent}, 0, look},
		{"found there lately", base(func(c *call) { c.seen = start + 3 }), moment{tick: start + 3 + twoSeconds - 1, beat: silent}, 0, wait},
		{"found there two seconds ago", base(func(c *call) { c.seen = start + 3 }), moment{tick: start + 3 + twoSeconds, beat: silent}, 0, look},
		{"its delete is on the way", base(func(c *call) { c.deleting = true }), moment{tick: start + 10, beat: silent}, 0, wait},
		{"no PubAck yet", base(func(c *call) { c.sequence = 0 }), moment{tick: start + unheard - 1, beat: silent}, 0, wait},
		{"no PubAck for a while", base(func(c *call) { c.sequence = 0 }), moment{tick: start + unheard, beat: silent}, 0, askStream},
		{"gone, a beat may still come", base(func(c *call) { c.gone = start + 4 }), moment{tick: start + 4 + twoSeconds - 1, beat: silent}, 0, wait},
		{"gone for two seconds", base(func(c *call) { c.gone = start + 4 }), moment{tick: start + 4 + twoSeconds, beat: silent}, 0, lost},
		{"gone for two seconds, and one who lives has said nothing since", base(func(c *call) { c.gone = start + 4 }), moment{tick: start + 4 + twoSeconds, beat: silent, heard: func(since uint64) bool { return since != start+4 }}, 0, wait},
		{"gone for two seconds, and somebody waits to hear whether it is his", base(func(c *call) { c.gone, c.locked = start+4, start+5 }), moment{tick: start + 5 + twoSeconds - 1, beat: silent}, 0, wait},
		{"gone, and nobody waits any more", base(func(c *call) { c.gone, c.locked = start+4, start+5 }), moment{tick: start + 5 + twoSeconds, beat: silent}, 0, lost},
		{"runs", base(func(c *call) { c.gone, c.beat = start+4, start+5 }), moment{tick: start + 5 + threeSeconds - 1, beat: at(start + 5)}, 0, wait},
		{"beats stopped for three seconds", base(func(c *call) { c.beat = start + 5 }), moment{tick: start + 5 + threeSeconds, beat: at(start + 5)}, 0, lost},
		{"its manager beats on without it", base(func(c *call) { c.beat = start + 5 }), moment{tick: start + 5 + twoSeconds, beat: at(start + 5 + twoSeconds)}, 0, lost},
		{"its manager has beaten on once", base(func(c *call) { c.beat = start + 5 }), moment{tick: start + 7, beat: at(start + 6)}, 0, wait},
		{"ended, its answer is under way", base(func(c *call) { c.over = start + 5 }), moment{tick: start + 5 + threeSeconds - 1, beat: silent}, 0, wait},
		{"ended, its answer got lost", base(func(c *call) { c.over = start + 5 }), moment{tick: start + 5 + threeSeconds, beat: silent}, 0, lost},

		{"gone from a shard for two seconds", base(func(c *call) { c.gone, c.reserved = start+4, &reservation{} }), moment{tick: start + 4 + twoSeconds, beat: silent}, 0, lost},
		{"gone from a shard, and the PubAck of a copy may have been missed", base(func(c *call) { c.gone, c.reserved = start+4, &reservation{} }), moment{tick: start + 4 + twoSeconds, reconnected: start + 2, beat: silent}, 0, wait},
		{"the copy has outlived its time to live", base(func(c *call) { c.gone, c.reserved = start+4, &reservation{} }), moment{tick: start + 12*uint64(time.Second/tickTime) + twoSeconds, reconnected: start + 2, beat: silent}, 0, lost},
		{"reconnected before it was published", base(func(c *call) { c.gone, c.reserved = start+4, &reservation{} }), moment{tick: start + 4 + twoSeconds, reconnected: start - 1, beat: silent}, 0, lost},
		{"the shard is not there any more", base(nil), moment{tick: start + twoSeconds, beat: silent, spoke: yes}, gone, notStarted},

		{"nothing heard of a shard for a while", base(func(c *call) { c.sequence, c.reserved = 0, &reservation{} }), moment{tick: start + unheard, beat: silent}, 0, askStream},
		{"published to a shard that was gone, a while ago", base(unmet), moment{tick: start + unheard, beat: silent, spoke: yes}, gone, askStream},
		{"published to a shard that was gone, and is", base(unmet), moment{tick: start + twoSeconds, beat: silent, spoke: yes}, gone, notStarted},
		{"published to a shard that was gone, and is there again", base(unmet), moment{tick: start + threeSeconds, beat: silent, spoke: yes}, 2000, askStream},
		{"nothing heard of a shard, and it is gone", base(func(c *call) { c.sequence, c.reserved = 0, &reservation{} }), moment{tick: start + twoSeconds, beat: silent, spoke: yes}, gone, notStarted},

		{"stream lost, too early to tell", base(nil), moment{tick: start + 6, reconnected: start + 5, beat: silent, spoke: yes}, 2000, wait},
		{"stream lost, all managers spoke", base(nil), moment{tick: start + 5 + twoSeconds, reconnected: start + 5, beat: silent, spoke: yes}, 2000, notStarted},
		{"stream lost, one is silent", base(nil), moment{tick: start + 5 + twoSeconds, reconnected: start + 5, beat: silent, spoke: no}, 2000, wait},
		{"stream lost, one stays silent", base(nil), moment{tick: start + 5 + threeSeconds, reconnected: start + 5, beat: silent, spoke: no}, 2000, lost},
		{"stream lost, but it runs", base(func(c *call) { c.beat = start + 6 }), moment{tick: start + 8, reconnected: start + 5, beat: at(start + 6), spoke: yes}, 2000, wait},
		{"stream lost, named before a second reconnect", base(func(c *call) { c.beat = start + 4 }), moment{tick: start + 5 + twoSeconds, reconnected: start + 5, beat: at(start + 4), spoke: yes}, 2000, wait},
		{"stream lost, named before a second reconnect and never again", base(func(c *call) { c.beat = start + 4 }), moment{tick: start + 5 + threeSeconds, reconnected: start + 5, beat: at(start + 4), spoke: yes}, 2000, lost},
		{"stream lost before the PubAck came", base(func(c *call) { c.sequence = 0 }), moment{tick: start + 5 + twoSeconds, reconnected: start + 5, beat: silent, spoke: yes}, 2000, notStarted},
		{"stream lost, this one is in the new one", base(func(c *call) { c.sequence = 2001 }), moment{tick: start + 3, reconnected: start, beat: silent, spoke: yes}, 2000, wait},
		{"same stream after a reconnect", base(nil), moment{tick: start + 3, reconnected: start + 1, beat: silent, spoke: yes}, 990, wait},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.call.stream = new(stream)
			c.call.stream.first.Store(c.first)
			if c.now.heard == nil {
				c.now.heard = func(uint64) bool { return true }
			}
			if got := c.call.judge(c.now); got != c.want {
				t.Errorf("verdict %d, want %d", got, c.want)
			}
		})
	}
}

// A call whose PubAck and delete were lost is not kept for ever: its message outlives its time to live, then two
// seconds without a beat make it lost.
func TestJudgeEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []*call{
		{published: 1, startBy: 10 * time.Second, stream: new(stream)},
		{published: 1, startBy: 10 * time.Second, sequence: 7, deleting: true, stream: new(stream)},
	} {
		now := moment{beat: func(string) uint64 { return 0 }, spoke: func(uint64, uint64) bool { return false }, heard: func(uint64) bool { return true }}
		for now.tick = 1; c.judge(now) != lost; now.tick++ {
			if now.tick > 100 {
				t.Fatalf("%+v is never lost", c)
			}
		}
		// 10 s start-by, 2 s grace, 2 s to be sure, 2 s for a beat, with a tick to spare for each.
		if least := uint64(16 * time.Second / tickTime); now.tick < least || now.tick > least+5 {
			t.Errorf("lost at tick %d, want %d or little later", now.tick, least)
		}
	}
}

// A caller of this process is not kept past the moment at which its call must have ended, though this frontend is cut
// off and nobody can be asked.
func TestAwayEndsTheHopeless(t *testing.T) {
	t.Parallel()
	f := &Frontend{pending: newPending(10, 0), counters: newCounters(), metrics: newMetrics(), log: slog.New(slog.DiscardHandler)}
	add := func(c *call) {
		f.pending.enter(c)
		f.pending.add(c)
	}
	v := newFunction(&schema.FunctionRecord{Name: "f", ID: "i", Latest: schema.VersionRecord{Version: schema.Latest}}, 1, nil, newFunctions().told.Hold(target{})).versions[""]
	waits, hopeless := make(chan ended, 1), make(chan ended, 1)
	add(&call{token: 1, version: v, waiter: func(e ended) { waits <- e }, hopeless: time.Now().Add(time.Hour)})
	add(&call{token: 2, version: v, waiter: func(e ended) { hopeless <- e }, hopeless: time.Now().Add(-time.Nanosecond)})
	add(&call{token: 3, version: v, reply: "_INBOX.x", hopeless: time.Now().Add(-time.Hour)})
	f.away()
	select {
	case e := <-hopeless:
		if e.err != nil || e.answer.Header.Get(schema.HeaderFunctionError) != schema.FunctionErrorUnhandled {
			t.Errorf("got %+v, want ExecutionLost", e)
		}
	default:
		t.Error("the hopeless call was not answered")
	}
	if n := f.pending.count.Load(); n != 2 || len(waits) != 0 {
		t.Errorf("%d calls are left, want the one that may still end and that of NATS", n)
	}
	if n := v.tally.calls.Load(); n != 2 {
		t.Errorf("C is %d, want 2", n)
	}
}

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// shardDeleted has the stream of a shard deleted by hand under the calls of three reservations whose arcs are on it, while calls run on
// their members and others lie claimed and unread. What runs ends well; what lay in the stream is refused and never runs, or has
// started and ends well; what is called meanwhile runs elsewhere; and all arcs take calls again.
//
// Broken to see it fail: a sweeper that does not doubt what was seen of an arc whose marker or consumer is gone: the arcs stayed closed.
func shardDeleted(t *testing.T, f *fabric.Spread) {
	const callers = 2         // of each reservation
	const limit = callers + 3 // one is held, one waits, and one is to see where calls go
	l, g := newLedger(t, &f.Door, newRecord(t)), newGate(t)
	defer g.open()
	js, err := jetstream.New(f.Server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	var all []*reserved
	var work []*load
	for i := range 3 {
		r := reserve(t, f, fmt.Sprint("shard", i), limit)
		all = append(all, r)
		w := loaded(callers, func(context.Context) { l.call(r.name+":1", "nap 20", patience) })
		defer w.stop()
		work = append(work, w)
	}
	more := func(n int64) {
		t.Helper()
		for _, w := range work {
			w.more(t, n)
		}
	}
	stream, err := js.Stream(withDeadline(t), "HEARTH_CALLS_R0")
	if err != nil {
		t.Fatal(err)
	}
	var held []*entry
	for _, r := range all {
		held = append(held, l.beginAll(t, 1, r.name+":1", g.words())...)
	}
	g.wait(t, len(held))
	more(20)
	for _, m := range f.Managers {
		m.Pause() // what they offer is claimed and not read
	}
	var waiting []*entry
	for _, r := range all {
		waiting = append(waiting, l.beginAll(t, 1, r.name+":1", "")...)
	}
	eventually(t, "a call lies on each arc", func() bool {
		info, err := stream.Info(withDeadline(t), jetstream.WithSubjectFilter("hearth.arc.>"))
		return err == nil && len(info.State.Subjects) == len(all)
	})
	err = js.DeleteStream(withDeadline(t), "HEARTH_CALLS_R0")
	for _, m := range f.Managers {
		m.Resume()
	}
	if err != nil {
		t.Fatal(err)
	}
	more(20)
	for _, r := range all {
		eventually(t, "the arc of "+r.name+" takes calls again, through each frontend", func() bool {
			return reasonAt(t, f.Frontends[0], r.name) == schema.ReasonReserved && reasonAt(t, f.Frontends[1], r.name) == schema.ReasonReserved
		})
	}
	more(20)
	g.open()
	for _, e := range held {
		if got := l.await(withDeadline(t), e); got != fine {
			t.Errorf("call %s ran when its shard was deleted: %s", e.tag, got)
		}
	}
	for _, e := range waiting {
		l.await(withDeadline(t), e)
	}
	for _, w := range work {
		w.stop()
	}
	l.onlyEnds(t, fine, refused+"503 Unavailable")
	if n, most := l.tally()[refused+"503 Unavailable"], len(all)*callers+len(waiting); n > most {
		t.Errorf("%d calls were refused; %d waited, and at most %d were out", n, len(waiting), most)
	}
	for _, r := range all {
		r.becomes("its members are those that it had", func(v *schema.ReservationOutput) bool {
			return v.State == schema.ReservationActive && v.Size == limit && v.Busy == 0
		})
	}
	quiet(t, f)
	stranded(t, l)
	l.settle(t)
	t.Logf("calls ended: %v", l.tally())
}

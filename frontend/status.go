package frontend

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// coalesce is how long a change is held back so that others travel with it, and how long the next one of calls in flight waits
// for the last. DESIGN 5.
const coalesce = 10 * time.Millisecond

// tell broadcasts this frontend's status until ctx ends: the whole of it each tick and soon after the functions changed; the
// calls in flight that other frontends count as they change, at once and then at most each 10 ms.
func (f *Frontend) tell(ctx context.Context) {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	pause := time.NewTimer(coalesce)
	defer pause.Stop()
	var settled uint64
	t := teller{f: f, told: make(map[string]int)}
	changed := f.pending.changed // nil while the last change is too recent
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			t.changes()
			changed = nil
			pause.Reset(coalesce)
			continue
		case <-pause.C:
			changed = f.pending.changed
			continue
		case <-ticker.C:
		case <-f.functionsChanged:
			select {
			case <-ctx.Done():
				return
			case <-time.After(coalesce):
			}
		}
		// A revision that changed no function that calls could see is not told by the watch. What it had reached a status
		// ago has been applied by now.
		f.view.saw(settled)
		settled = f.watches.functions.Revision()
		t.whole()
	}
}

// teller numbers the statuses, and knows what the last ones said. One goroutine uses it.
type teller struct {
	f      *Frontend
	number uint64
	told   map[string]int // calls in flight, by version, of those with a reservation
}

// whole broadcasts everything.
func (t *teller) whole() {
	all := t.f.inFlight()
	clear(t.told)
	for _, s := range *t.f.functions.shared.Load() {
		if n := all[s.name]; n != 0 {
			t.told[s.name] = n
		}
	}
	t.send(all, false)
}

// changes broadcasts the calls in flight that changed, of versions that others count. It reads one number a reservation and
// no call.
func (t *teller) changes() {
	if t.f.view.alone() {
		return // who comes hears the whole soon
	}
	var changed map[string]int
	for _, s := range *t.f.functions.shared.Load() {
		n := int(s.tally.calls.Load())
		if n == t.told[s.name] {
			continue
		}
		if changed == nil {
			changed = make(map[string]int)
		}
		changed[s.name], t.told[s.name] = n, n
	}
	if changed != nil {
		t.send(changed, true)
	}
}

func (t *teller) send(inFlight map[string]int, partial bool) {
	f := t.f
	t.number++
	s := schema.FrontendStatus{
		V: schema.Version, ID: f.id, Incarnation: f.incarnation, Number: t.number, Functions: f.view.seen.Load(),
		InFlight: inFlight, Reconnects: f.nc.Stats().Reconnects, Partial: partial,
	}
	b, err := schema.Marshal(&s)
	if err == nil {
		err = f.nc.Publish(f.names.FrontendStatus(f.id), b)
	}
	if err != nil {
		f.log.Debug("status not sent", "error", err)
	}
}

// inFlight is C by version, under "<function id>.<version>".
func (f *Frontend) inFlight() map[string]int {
	counts := make(map[*version]int)
	f.pending.each(func(c *call) bool {
		if c.over == 0 {
			counts[c.version]++
		}
		return false
	})
	if len(counts) == 0 {
		return nil
	}
	out := make(map[string]int, len(counts))
	for v, n := range counts {
		out[v.key.FunctionID+"."+v.key.Version] += n // several records of one version may stand for it
	}
	return out
}

// heard takes in a status, or the end of a call that is told with them. Statuses that cannot be read, or whose subject is not their sender's, are left aside.
func (f *Frontend) heard(m *nats.Msg) {
	if strings.HasPrefix(m.Subject, f.inbox) {
		f.told(m)
		return
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, f.statusPrefix), ".")
	switch kind {
	case "manager":
		var s schema.ManagerStatus
		if err := schema.Unmarshal(m.Data, &s); err != nil || m.Subject != f.names.ManagerStatus(s.ID) {
			f.log.Warn("status of a manager cannot be used", "subject", m.Subject, "error", err)
			return
		}
		f.view.told(s, f.clock.now())
	case "frontend":
		var s schema.FrontendStatus
		if err := schema.Unmarshal(m.Data, &s); err != nil || m.Subject != f.names.FrontendStatus(s.ID) {
			f.log.Warn("status of a frontend cannot be used", "subject", m.Subject, "error", err)
			return
		}
		switch {
		case s.ID != f.id:
			f.view.heardFrom(s)
		case s.Incarnation != f.incarnation && f.twin.Swap(s.Incarnation) != s.Incarnation:
			f.log.Error("another process tells statuses as this frontend: give each an id of its own", "incarnation", s.Incarnation)
		}
	}
}

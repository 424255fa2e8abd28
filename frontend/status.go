package frontend

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// coalesce is how long a change of the functions is held back so that others travel with it. DESIGN 5.
const coalesce = 10 * time.Millisecond

// tell broadcasts this frontend's status, each tick and soon after the functions changed, until ctx ends.
func (f *Frontend) tell(ctx context.Context) {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	var number, settled uint64
	for {
		select {
		case <-ctx.Done():
			return
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
		number++
		f.tellOnce(number)
	}
}

// tellOnce broadcasts the status once.
func (f *Frontend) tellOnce(number uint64) {
	s := schema.FrontendStatus{
		V: schema.Version, ID: f.id, Incarnation: f.incarnation, Number: number, Functions: f.view.seen.Load(),
		InFlight: f.inFlight(), Reconnects: f.nc.Stats().Reconnects,
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

// heard takes in a status. Statuses that cannot be read, or whose subject is not their sender's, are left aside.
func (f *Frontend) heard(m *nats.Msg) {
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

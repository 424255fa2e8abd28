package frontend

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

// Operate gives the console of this frontend the operations of `hearth.api`. Until then, what it shows of them is left out.
func (f *Frontend) Operate(ops console.Operations) {
	if f.console != nil {
		f.console.Operate(ops)
	}
}

// Pages serve the console of this frontend at another listener than HTTP, to whom that one's guard lets in; end ends what is live there, as
// a server that stops needs it. Without [Config].Console there are none.
func (f *Frontend) Pages(listener net.Addr, hosts []string) (pages http.Handler, end func()) {
	return newGuard(listener, hosts, true, f.console, f.console), f.console.End
}

// consoleFabric is what the console sees of its frontend.
type consoleFabric struct{ *Frontend }

var _ console.Fabric = consoleFabric{}

// Functions are the names of an account's functions, sorted.
func (f consoleFabric) Functions(account string) []string {
	f.functions.mu.RLock()
	names := make([]string, 0, len(f.functions.known))
	for t := range maps.Keys(f.functions.known) {
		if t.account == account {
			names = append(names, t.function)
		}
	}
	f.functions.mu.RUnlock()
	slices.Sort(names)
	return names
}

// Totals are what this frontend counted since its start.
func (f consoleFabric) Totals() console.Totals {
	c := f.counters
	t := console.Totals{Calls: c.calls.Load() + c.tries.Load(), Lost: c.lost.Load(), Failed: f.pending.failed.Load(), InFlight: int(f.pending.count.Load())}
	for _, n := range c.refused {
		t.Refused += n.Load()
	}
	return t
}

// how a call ended, as far as this frontend has been told: what its manager's notice says, or the answer that passed here.
type how struct {
	outcome console.Outcome
	code    string
	start   schema.Start
	manager string
}

// failed reports whether the function ran and gave no good answer.
func (h how) failed() bool {
	return h.outcome == console.OutcomeError || h.outcome == console.OutcomeTimeout
}

// howMarked is how a call ended of which a manager tells.
func howMarked(m schema.Mark, manager string) how {
	h := how{outcome: console.OutcomeEnded, start: m.Start(), manager: manager}
	switch m.End() {
	case schema.MarkOK:
		h.outcome = console.OutcomeOK
	case schema.MarkFailed:
		h.outcome = console.OutcomeError
	case schema.MarkTimedOut:
		h.outcome = console.OutcomeTimeout
	case schema.MarkRefused:
		h.outcome = console.OutcomeRefused
	}
	return h
}

// howAnswered is how a call ended whose answer passed here.
func howAnswered(m *nats.Msg) how {
	if text := m.Header.Get(schema.HeaderError); text != "" {
		return howRefused(schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), text))
	}
	h := how{outcome: console.OutcomeOK, start: schema.Start(m.Header.Get(schema.HeaderStart)), manager: m.Header.Get(schema.HeaderManager)}
	if m.Header.Get(schema.HeaderFunctionError) != "" {
		// Whatever it calls its failure: a function's word must not pass for the platform's.
		h.outcome, h.code = console.OutcomeError, failureOf(m)
		if timedOut(m) {
			h.outcome = console.OutcomeTimeout
		}
	}
	return h
}

func howRefused(err error) how {
	code := schema.CodeOf(err)
	return how{outcome: console.OutcomeOf(code), code: string(code)}
}

// show tells the console of a call that left, where somebody watches.
func (c *call) show() {
	if !c.feed.Watched() {
		return
	}
	now := time.Now()
	// Its own clock began with its last publication, whose start-by and what may come after are known.
	began := c.hopeless.Add(-(c.startBy + c.version.record.Timeout + initTime + ttlGrace*time.Second))
	if c.hopeless.IsZero() {
		began = now // it was never published
	}
	if c.how.outcome == "" {
		c.how.outcome = console.OutcomeEnded
	}
	c.feed.Tell(&console.Call{
		RequestID: c.requestID, Function: c.version.function.Name, Version: c.version.record.Version, Tenant: c.tenant, Ended: now, Took: now.Sub(began),
		Outcome: c.how.outcome, Code: c.how.code, Start: c.how.start, Reason: c.reason, Arc: c.arcName(), Manager: c.how.manager,
	})
}

// showRefused tells the console of a request that was refused before it became a call, where somebody watches.
func (f *Frontend) showRefused(r *schema.Request, err error) {
	feed := f.feed()
	if r == nil || !feed.Watched() {
		return
	}
	h := howRefused(err)
	feed.Tell(&console.Call{
		RequestID: r.RequestID, Function: r.Function, Version: r.Qualifier, Tenant: r.Tenant, Ended: time.Now(), Outcome: h.outcome, Code: h.code,
	})
}

// feed is that of the console; nil without one.
func (f *Frontend) feed() *console.Feed {
	if f.console == nil {
		return nil
	}
	return f.console.Feed()
}

package sim

import (
	"slices"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// call is one call on its way.
type call struct {
	Call
	of        *function
	from      *frontend
	came      time.Duration
	reason    schema.Reason
	lies      *arc // on which it is stored; nil: on none
	delivered uint64
	began     bool     // it runs, or did
	counted   bool     // in flight, at its frontend
	over      bool     // it has ended, or was refused
	waits     *manager // whose pool holds it until an environment is ready
	handed    bool     // by one manager to another: that happens once
}

// arc is a subject of the server with its one consumer: the calls that wait and the pulls that are open.
type arc struct {
	s      *sim
	name   string
	number int          // of an unreserved one
	stored int          // managers of an unreserved one, as the record says
	res    *reservation // nil: unreserved

	again, fresh fifo // calls given back, which come first, and those that nobody had yet
	queued       uint64
	pulls        [subjects.ClassCatcher + 1][]*open
}

// open is what is left of one pull.
type open struct {
	gen    *generation
	n      int
	number uint64 // in the order in which they came to their places
}

// fifo is calls in their order. Those that are over are passed by.
type fifo struct {
	calls []*call
	first int
}

func (f *fifo) add(c *call) { f.calls = append(f.calls, c) }

func (f *fifo) head(a *arc) *call {
	for ; f.first < len(f.calls); f.drop() {
		if c := f.calls[f.first]; c.lies == a && !c.over {
			return c
		}
	}
	return nil
}

func (f *fifo) drop() {
	f.calls[f.first] = nil
	f.first++
	if f.first == len(f.calls) {
		f.calls, f.first = f.calls[:0], 0
	} else if f.first > 1024 && f.first > len(f.calls)/2 {
		f.calls = slices.Delete(f.calls, 0, f.first)
		f.first = 0
	}
}

// subject is what calls are stored under: so many may lie on one.
type subject struct {
	arc      *arc
	function *function
	tenant   string
}

func (c *call) subject() subject { return subject{c.lies, c.of, c.Tenant} }

// publish stores a call on an arc; false: its subject is full.
func (s *sim) publish(c *call, a *arc) bool {
	at := subject{a, c.of, c.Tenant}
	if s.stored[at] >= topology.CallsPerSubject {
		return false
	}
	s.stored[at]++
	c.lies, c.delivered = a, 0
	a.fresh.add(c)
	a.match()
	return true
}

// remove takes a call out of its arc: it was acknowledged, or deleted.
func (s *sim) remove(c *call) {
	if c.lies == nil {
		return
	}
	at := c.subject()
	if s.stored[at]--; s.stored[at] == 0 {
		delete(s.stored, at)
	}
	c.lies = nil
}

// match hands calls to open pulls.
func (a *arc) match() {
	for {
		from := &a.again
		c := from.head(a)
		if c == nil {
			from = &a.fresh
			if c = from.head(a); c == nil {
				return
			}
		}
		g := a.s.rules.pick(a)
		if g == nil {
			return
		}
		from.drop()
		c.delivered++
		a.s.count(messageDelivery)
		a.s.after(a.s.cfg.Hop, func() { g.side.m.deliver(g, c) })
	}
}

// best takes one from the pull that comes first in the best class. What is left of it goes behind the others of its class, as
// nats-server 2.12 does with prioritized pulls.
func (a *arc) best() *generation {
	for class := range a.pulls {
		for len(a.pulls[class]) > 0 {
			p := a.pulls[class][0]
			a.pulls[class] = slices.Delete(a.pulls[class], 0, 1)
			if p.gen.drained {
				continue
			}
			if p.n--; p.n > 0 {
				a.requeue(class, p)
			}
			return p.gen
		}
	}
	return nil
}

// pull opens n pulls of a generation.
func (a *arc) pull(g *generation, n int) {
	if g.drained {
		return
	}
	a.requeue(g.class, &open{gen: g, n: n})
	a.match()
}

// requeue puts a pull behind the others of its class.
func (a *arc) requeue(class int, p *open) {
	a.queued++
	p.number = a.queued
	a.pulls[class] = append(a.pulls[class], p)
}

// drain takes the pulls of a generation back.
func (a *arc) drain(g *generation) {
	g.drained = true
	a.pulls[g.class] = slices.DeleteFunc(a.pulls[g.class], func(p *open) bool { return p.gen == g })
}

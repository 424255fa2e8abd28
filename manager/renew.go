package manager

import (
	"context"
	"time"
)

const (
	renewEvery = time.Second
	debounce   = 2 * time.Millisecond  // of changes that only the loop repairs
	offersTick = 25 * time.Millisecond // of the loop, for what is due
	offersAll  = 4 * offersTick        // until all arcs are looked at again where nobody asked for it: there may be a thousand
	astrayFor  = 10 * time.Millisecond // that pulls are left open for environments that other claims took
)

// change is what the loop does to one side of one arc after it has let the mutex go.
type change struct {
	add pull
	old *generation
}

// offersLoop renews offers, takes back what is too much, and sends what is lacking.
func (m *Manager) offersLoop(ctx context.Context) {
	ticker := time.NewTicker(offersTick)
	defer ticker.Stop()
	wait := time.NewTimer(debounce)
	defer wait.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if v := m.view.Load(); v.served > v.fabric.Arcs && time.Now().After(v.servedUntil) {
				m.reread()
			}
		case <-m.offers.kicked:
			asked = true
			wait.Reset(debounce)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		m.offerDue(asked)
	}
}

// offerAgain makes every side of every arc have exactly what it should. With anew every generation is replaced, since
// nobody knows what the server still holds.
func (m *Manager) offerAgain(anew bool) { m.offerOn(true, anew) }

// offerDue is offerAgain, on the arcs alone of which something is due where nothing else was asked for.
func (m *Manager) offerDue(all bool) { m.offerOn(all, false) }

func (m *Manager) offerOn(all, anew bool) {
	if !m.nc.IsConnected() {
		return
	}
	now := time.Now()
	var changes []change
	m.mu.Lock()
	if m.offers.out.look(m.pool.Room(), m.pool.Freed(), now) {
		m.tellSoon() // catchers elsewhere act on it
		all = true
	}
	if all = all || m.offers.out.lasts || now.Sub(m.offers.looked) >= offersAll; all {
		m.offers.looked = now
		for name := range m.pool.OfferedArcs {
			m.offers.arc(m, name)
		}
		m.rankAll(now)
	}
	for _, a := range m.offers.arcs {
		if a.gone {
			changes = m.offers.leave(a, changes)
			continue
		}
		if !all && now.Before(a.soonest) {
			continue
		}
		if now.Before(a.backoff) {
			continue
		}
		a.backoff = time.Time{}
		if !a.held.IsZero() && !now.Before(a.held) {
			a.held = time.Time{}
		}
		for k := range kinds {
			if c, ok := m.offers.settle(m, a, k, now, anew); ok {
				changes = append(changes, c)
			}
		}
		a.soonest = a.nextDue(now)
	}
	m.mu.Unlock()
	for _, c := range changes {
		m.send(c.add)
		if c.old != nil {
			m.withdraw(c.old)
		}
	}
}

// nextDue is when something of an arc is due by time alone: at the latest when all are looked at.
func (a *arc) nextDue(now time.Time) time.Time {
	at := now.Add(offersAll)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	sooner(a.held)
	for k := range kinds {
		s := &a.sides[k]
		if s.gen != nil {
			sooner(s.due)
		}
		if s.astray > 0 {
			sooner(s.astrayAt.Add(astrayFor))
		}
	}
	return at
}

// settle finds what one side needs. Manager.mu is held.
func (o *offers) settle(m *Manager, a *arc, k kind, now time.Time, anew bool) (change, bool) {
	s, wanted, class := o.sideOf(m, a, k, now)
	g := s.gen
	if g == nil {
		if wanted == 0 {
			return change{}, false
		}
		s.gen = o.generation(a, k, class)
		s.due = now.Add(a.stagger())
		s.gen.open = wanted
		return change{add: pull{s.gen, wanted}}, true
	}
	lacking := wanted - g.open
	due := !now.Before(s.due)
	// A credit is no promise: a little too much of it is taken back by the next renewal, all of it when room is out.
	excess := lacking < 0 && (k == idle || wanted == 0)
	s.astray = min(s.astray, max(0, -lacking))
	if excess && -lacking <= s.astray && m.offering && now.Sub(s.astrayAt) < astrayFor && !now.Before(a.held) {
		excess = false
	}
	if !anew && !excess && !g.stale && g.class == class && !(due && g.open > 0) {
		if lacking <= 0 || k == caught && k.few(lacking, wanted) {
			return change{}, false
		}
		g.open = wanted
		return change{add: pull{g, lacking}}, true
	}
	g.retire = true
	if excess {
		m.count.withdrawals.Add(1)
	}
	s.gen, s.astray = nil, 0
	if wanted == 0 {
		return change{old: g}, true
	}
	s.gen = o.generation(a, k, class)
	s.gen.open = wanted
	s.due = now.Add(renewEvery)
	if !due {
		s.due = now.Add(a.stagger())
	}
	return change{add: pull{s.gen, wanted}, old: g}, true
}

// leave ends all that is offered on an arc that is no more. Manager.mu is held.
func (o *offers) leave(a *arc, changes []change) []change {
	for _, g := range a.retire(nil) {
		changes = append(changes, change{old: g})
	}
	delete(o.arcs, a.name)
	return changes
}

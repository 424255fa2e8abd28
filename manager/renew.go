package manager

import (
	"context"
	"slices"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
)

const (
	renewEvery = pace.RenewEvery
	debounce   = 2 * time.Millisecond // of changes that only the loop repairs
	offersTick = pace.OffersEvery     // of the loop, for what is due
	offersAll  = pace.OffersAll       // until all arcs are looked at again where nobody asked for it: there may be a thousand
	astrayFor  = pace.AstrayFor       // that pulls are left open for environments that other claims took
)

// pass is one look of the loop at arcs, and what is to be done once the mutex is let go.
type pass struct {
	now  time.Time
	anew bool
	due  bool           // it is the turn of the reserved arcs that are looked at
	into *[kinds]*inbox // where their new pulls come together; nil: each to an inbox of its own

	adds   []pull
	old    []*inbox // to be drained after that
	broken []*inbox // of which some are left whose pulls are to be renewed
}

// offersLoop renews offers, takes back what is too much, and sends what is lacking.
func (m *Manager) offersLoop(ctx context.Context) {
	ticker := time.NewTicker(offersTick)
	defer ticker.Stop()
	wait := time.NewTimer(debounce)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if v := m.view.Load(); v.served > v.fabric.Arcs && time.Now().After(v.servedUntil) {
				m.reread()
			}
		case <-m.offers.kicked:
			wait.Reset(debounce)
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
		}
		m.offerDue()
	}
}

// offerAgain makes every side of every arc have exactly what it should. With anew every generation is replaced, since
// nobody knows what the server still holds.
func (m *Manager) offerAgain(anew bool) { m.offerOn(true, anew) }

// offerDue is offerAgain, on the arcs alone of which something is due or changed where nothing else was asked for.
func (m *Manager) offerDue() { m.offerOn(m.offers.askedAll.Swap(false), false) }

func (m *Manager) offerOn(all, anew bool) {
	if !m.nc.IsConnected() {
		return
	}
	m.offers.round.Lock()
	defer m.offers.round.Unlock()
	m.mu.Lock()
	p := m.offers.pass(m, time.Now(), all, anew)
	m.mu.Unlock()
	for _, add := range p.adds {
		m.send(add)
	}
	for _, i := range p.old {
		m.withdraw(i)
	}
}

// pass looks at the arcs of which something is due or changed, or at all. Manager.mu is held.
func (o *offers) pass(m *Manager, now time.Time, all, anew bool) pass {
	p := pass{now: now, anew: anew}
	plain := o.asked.Swap(false) || all
	if o.out.Look(m.pool.Room(), m.pool.Freed(), p.now) {
		m.tellSoon() // catchers elsewhere act on it
		plain = true
	}
	if all {
		for name := range m.pool.OfferedArcs {
			o.arc(m, name)
		}
	}
	m.rankAll(p.now)
	m.pool.Stirred(func(arc string) {
		if a := o.arc(m, arc); a != nil {
			o.watch(a)
		}
	})
	if plain = plain || o.out.Lasts || p.now.Sub(o.looked) >= offersAll; plain {
		o.looked = p.now
	}
	for _, a := range o.plain {
		if plain || a.watched || !p.now.Before(a.soonest) {
			o.look(m, a, &p)
			a.soonest = a.nextDue(p.now)
		}
	}
	o.lookInTurn(m, all, &p)
	for _, i := range p.broken {
		o.mend(m, i, &p)
	}
	o.unsent.Add(int64(len(p.adds)))
	return p
}

// lookInTurn looks at the reserved arcs whose turn it is and at those that are watched, or at all. Manager.mu is held.
func (o *offers) lookInTurn(m *Manager, all bool, p *pass) {
	o.turns.due(p.now, func(arcs []*arc) {
		p.due, p.into = true, new([kinds]*inbox)
		for _, a := range slices.Backward(arcs) { // one that is gone is taken out
			a.cool()
			o.look(m, a, p)
		}
		p.due = false
	})
	for i := range o.turns.arcs {
		if all {
			p.due, p.into = p.anew, new([kinds]*inbox)
			for _, a := range slices.Backward(o.turns.arcs[i]) {
				o.look(m, a, p)
			}
		}
	}
	p.due, p.into = false, nil
	watched := o.watched
	o.watched = o.watching[:0]
	for _, a := range watched {
		a.watched = false
		if a.of != nil && o.arcs[a.name] == a {
			o.look(m, a, p)
		}
	}
	clear(watched)
	o.watching = watched[:0]
}

// look looks at one arc. Manager.mu is held.
func (o *offers) look(m *Manager, a *arc, p *pass) {
	if a.gone {
		o.leave(a, p)
		return
	}
	if p.now.Before(a.backoff) {
		o.watch(a)
		return
	}
	a.backoff = time.Time{}
	if !a.held.IsZero() && !p.now.Before(a.held) {
		a.held = time.Time{}
	}
	for k := range kinds {
		o.settle(m, a, k, p)
	}
	if a.sides[surplus].gen != nil {
		o.even(m, a, p)
	}
	if a.sides[idle].astray+a.sides[surplus].astray > 0 {
		o.watch(a)
	}
}

// even has members within the share offered that were left out because surplus had pulls too many, which have just been taken
// back. Manager.mu is held.
func (o *offers) even(m *Manager, a *arc, p *pass) {
	due, anew := p.due, p.anew
	p.due, p.anew = false, false
	o.settle(m, a, idle, p)
	p.due, p.anew = due, anew
}

// nextDue is when something of an unreserved arc is due by time alone: at the latest when all are looked at.
func (a *arc) nextDue(now time.Time) time.Time {
	at := now.Add(offersAll)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	sooner(a.held)
	sooner(a.backoff)
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
func (o *offers) settle(m *Manager, a *arc, k kind, p *pass) {
	s, wanted, class := o.sideOf(m, a, k, p.now)
	g := s.gen
	if spared := o.spared(m, a, k, p.now); spared > 0 {
		open := 0
		if g != nil {
			open = g.open
		}
		wanted = max(wanted-spared, min(wanted, open))
	}
	if g == nil {
		if wanted > 0 {
			s.gen = o.next(a, k, class, p)
			s.due = p.now.Add(a.stagger())
			s.gen.open = wanted
			p.adds = append(p.adds, pull{s.gen, wanted})
		}
		return
	}
	lacking := wanted - g.open
	due := p.due
	if a.of == nil {
		due = !p.now.Before(s.due)
	}
	// A credit is no promise: a little too much of it is taken back by the next renewal, all of it when room is out.
	excess := lacking < 0 && (k.exact() || wanted == 0)
	s.astray = min(s.astray, max(0, -lacking))
	if excess && s.tolerates(-lacking, p.now) && m.offering && !p.now.Before(a.held) {
		excess = false
	}
	if !p.anew && !excess && !g.stale && g.class == class && !(due && (g.open > 0 || g.at.shared)) {
		if lacking > 0 && !(k == caught && k.few(lacking, wanted)) {
			g.open = wanted
			p.adds = append(p.adds, pull{g, lacking})
		}
		return
	}
	if excess {
		m.count.withdrawals.Add(1)
	}
	if g.at.shared && !due {
		a.calmAt = p.now.Add(calmFor)
	}
	s.gen, s.astray = nil, 0
	p.retire(g)
	if wanted == 0 {
		return
	}
	s.gen = o.next(a, k, class, p)
	s.gen.open = wanted
	s.due = p.now.Add(renewEvery)
	if !due {
		s.due = p.now.Add(a.stagger())
	}
	p.adds = append(p.adds, pull{s.gen, wanted})
}

// next is the generation for the new pulls of a side.
func (o *offers) next(a *arc, k kind, class int, p *pass) *generation {
	if p.into == nil || p.now.Before(a.calmAt) {
		return o.generation(a, k, class)
	}
	if p.into[k] == nil {
		p.into[k] = &inbox{subject: o.newInbox() + ".*", shared: true, calls: make(map[string]*generation)}
	}
	g := &generation{arc: a, kind: k, class: class, rank: a.rank}
	p.into[k].add(g)
	return g
}

// retire notes that a generation was replaced. Manager.mu is held.
func (p *pass) retire(g *generation) {
	g.retire = true
	switch g.at.live--; {
	case g.at.live == 0:
		p.old = append(p.old, g.at)
	case !g.at.broken:
		g.at.broken = true
		p.broken = append(p.broken, g.at)
	}
}

// mend renews those that are left of an inbox, so that it can be drained. Manager.mu is held.
func (o *offers) mend(m *Manager, i *inbox, p *pass) {
	p.due, p.into = true, new([kinds]*inbox)
	for _, g := range i.gens {
		switch a := g.arc; {
		case g.retire:
		case p.now.Before(a.backoff): // they were refused
			a.sides[g.kind].gen = nil
			p.retire(g)
		default:
			if o.settle(m, a, g.kind, p); g.kind == surplus {
				o.even(m, a, p)
			}
		}
	}
	p.due, p.into = false, nil
}

// leave ends all that is offered on an arc that is no more. Manager.mu is held.
func (o *offers) leave(a *arc, p *pass) {
	a.retire(p)
	o.turns.remove(a)
	delete(o.arcs, a.name)
}

// retire replaces every generation by none. Manager.mu is held.
func (a *arc) retire(p *pass) {
	for k := range kinds {
		if s := &a.sides[k]; s.gen != nil {
			p.retire(s.gen)
			s.gen = nil
		}
	}
}

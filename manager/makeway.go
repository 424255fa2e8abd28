package manager

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// At a cap what is idle makes way for what is called, at whichever manager it is: else what nobody uses would keep out what is. The
// managers that hold permits of the cap, as its record says, are asked one after the other for an environment that has been idle for
// longer than the one here that would have to go:
//
//	asker: a permit is refused               another manager, on hearth.m.<id>.claim
//	  │ ── WayAsk: whose cap, for what ────────►│ what it is for is idle there: warm; no environment makes way for its own kind
//	  │                                         │ else the least recently used one ends ─► gone ─► its permits are back in the bucket
//	  │ ◄─ Way: warm, ended, or nothing ────────│
//	  │ ended: asks for a permit again; warm: its claims go back, for they will find it; nothing by all: its own goes, if any
//
// A permit changes hands by the bucket alone, after the environment has gone: however many ask, and whoever dies meanwhile, a cap is
// kept exactly. Nothing of this is on the path of a warm call. Where everything is busy nobody asks all the time: who found nothing
// asks again after a pause, which doubles, or when a status tells that something is idle. Who does not answer may have ended one all
// the same, so the bucket is looked at before the next is asked.
const (
	evictLooks = 5 // for an idle environment that makes way
	evictEvery = 10 * time.Millisecond
	seekMost   = 500 * time.Millisecond // between two rounds over the others that find nothing, at most
	wayWait    = time.Second            // for another manager's environment to end
	ways       = 64                     // that this manager makes for others at once
)

// errElsewhere says that no environment is made, since another manager has an idle one of its kind: the claims go there.
var errElsewhere = schema.Errorf(schema.CodeUnavailable, "another manager has an idle environment of this kind")

// seeking is when the others were asked for environments of a cap that make way. permits.mu guards it.
type seeking struct {
	others []string      // who holds permits, as the record said last; who holds most first
	vain   time.Duration // when a round began that was in vain, the last one
	pause  time.Duration // after that; 0: there is none
}

// rests reports whether the others are left alone, but for a status that tells of something idle.
func (s *seeking) rests(now time.Duration) bool { return s.pause > 0 && now-s.vain < s.pause }

// sought notes what came of a round that began then. A pause begins at that of the looks, for what runs a short call is idle in a
// moment, and doubles with each round in vain that was not under way beside another. It is forgotten after a while of quiet.
func (s *seeking) sought(began time.Duration, found bool) {
	switch quiet := began - s.vain; {
	case found:
		s.pause = 0
		return
	case s.pause == 0 || quiet >= s.pause+seekMost:
		s.pause = evictEvery
	case quiet >= s.pause:
		s.pause = min(seekMost, 2*s.pause)
	}
	s.vain = max(s.vain, began)
}

// askOrEvict waits for a permit of one cap, for which idle environments make way. What has just answered is idle in a moment, so they
// are looked for a few times. Those that are set aside anyway go before others.
func (p *permits) askOrEvict(ctx context.Context, s *permitScope, mk *pool.Make, aside []string) (left []string, err error) {
	var silent []string
	for look := 1; ; {
		err := p.ask(ctx, s, mk.Environment)
		if schema.CodeOf(err) != schema.CodeThrottled || err == nil || !p.mayGrow(mk) || !p.needed(mk) {
			return aside, err
		}
		switch way, mute := p.seek(ctx, s, mk, aside, silent); {
		case way.Ended:
			continue
		case way.Warm:
			return aside, errElsewhere
		case ctx.Err() != nil:
			return aside, err
		case mute != "":
			silent = append(silent, mute)
			continue
		}
		var gone <-chan struct{}
		var ok bool
		if gone, aside, ok = p.evict(s.of, aside); ok {
			select {
			case <-gone:
			case <-ctx.Done():
				return aside, err
			}
			continue
		}
		if look == evictLooks {
			return aside, err
		}
		look++
		select {
		case <-time.After(evictEvery):
		case <-ctx.Done():
			return aside, err
		}
	}
}

// evict ends an idle environment and gives what is closed when its permits are back.
func (p *permits) evict(of pool.Scope, aside []string) (gone <-chan struct{}, left []string, ok bool) {
	var id string
	p.m.mu.Lock()
	if at := slices.IndexFunc(aside, func(id string) bool { return p.m.pool.Within(of, id) }); at >= 0 {
		id, ok = aside[at], true // before Delete clears its place: within one assignment it may be read after that
		aside = slices.Delete(aside, at, at+1)
	} else {
		id, ok = p.m.pool.Evict(time.Now(), of)
	}
	p.m.mu.Unlock()
	if !ok {
		return nil, aside, false
	}
	return p.evicted(id), aside, true
}

// evicted ends an environment that the pool has let go of, and gives what is closed when its permits are back.
func (p *permits) evicted(id string) (gone <-chan struct{}) {
	closed := make(chan struct{})
	p.mu.Lock()
	if _, holds := p.of[id]; holds {
		p.leaving[id] = closed
	} else {
		close(closed) // it went by itself meanwhile
	}
	p.mu.Unlock()
	p.m.count.ended.Add(1)
	p.m.count.evicted.Add(1)
	p.m.worker.End(id)
	p.m.changed()
	return closed
}

// needed reports whether an environment is still for somebody: what its claim waited for may have found one that has answered
// meanwhile, and nobody's environment ends for that. Members of reservations are asked for by name.
func (p *permits) needed(mk *pool.Make) bool {
	if mk.Home.Reservation != 0 {
		return true
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	_, ok := p.m.pool.Needs(mk.Home)
	return ok
}

// seek asks the other managers that hold permits of a cap for an environment that makes way. What is set aside here goes before. It
// stops at one that does not answer, whom it gives, and passes by those that did not before.
func (p *permits) seek(ctx context.Context, s *permitScope, mk *pool.Make, aside, silent []string) (way schema.Way, mute string) {
	m, now := p.m, p.m.now()
	p.mu.Lock()
	others, vain, rests := s.others, s.vain, s.rests(now)
	p.mu.Unlock()
	if len(others) == 0 || rests && !m.peers.tellSpare(s.of, vain, now) {
		return way, ""
	}
	ask := m.wayAsk(s.of, mk, aside)
	if ask == nil {
		return way, ""
	}
	for _, id := range others {
		if slices.Contains(silent, id) || !m.peers.lives(id, now) { // the permits of one that does not live are void soon
			continue
		}
		var answers bool
		if way, answers = m.askForWay(ctx, id, ask); !answers {
			return way, id
		} else if way.Ended || way.Warm {
			break
		}
	}
	p.mu.Lock()
	s.sought(now, way.Ended || way.Warm)
	p.mu.Unlock()
	return way, ""
}

// wayAsk is what the others are asked for an environment, nil where one that is set aside goes. Only a claim of the unreserved arc
// goes where what it needs is idle: a reservation has its member whatever others have.
func (m *Manager) wayAsk(of pool.Scope, mk *pool.Make, aside []string) *schema.WayAsk {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(aside, func(id string) bool { return m.pool.Within(of, id) }) {
		return nil
	}
	ask := &schema.WayAsk{Account: mk.Spec.Account, Function: of.Function, Idle: m.pool.LongestIdle(time.Now(), of)}
	if mk.Home.Reservation == 0 {
		if home, ok := m.pool.Needs(mk.Home); ok {
			kind := kindOf(home)
			ask.For = &kind
		}
	}
	return ask
}

// kindOf names the environments of a home.
func kindOf(home pool.Home) schema.PromiseAsk {
	return schema.PromiseAsk{
		FunctionID: home.FunctionID, Version: home.Version, CodeSHA256: home.CodeSHA256, ConfigRevision: home.ConfigRevision, Tenant: home.Tenant,
		Reservation: home.Reservation,
	}
}

// homeOf is the home that a kind names.
func homeOf(kind *schema.PromiseAsk) pool.Home {
	return pool.Home{Reservation: kind.Reservation, Key: schema.Key{
		FunctionID: kind.FunctionID, Version: kind.Version, CodeSHA256: kind.CodeSHA256, ConfigRevision: kind.ConfigRevision, Tenant: kind.Tenant,
	}}
}

// askForWay asks another manager for an environment that makes way. Where answers is false one may have ended there all the same.
func (m *Manager) askForWay(ctx context.Context, peer string, ask *schema.WayAsk) (way schema.Way, answers bool) {
	body, err := schema.Marshal(schema.ManagerClaim{V: schema.Version, Way: ask})
	if err != nil {
		m.log.Error("ask for an environment to make way", "of", peer, "error", err)
		return way, true
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wayWait, errors.New("waiting for an environment to make way"))
	defer cancel()
	msg, err := m.nc.RequestWithContext(ctx, m.names.ManagerClaim(peer), body)
	if err == nil {
		err = schema.Unmarshal(msg.Data, &way)
	}
	if err != nil {
		m.log.Debug("ask for an environment to make way", "of", peer, "error", err)
		return schema.Way{}, errors.Is(err, nats.ErrNoResponders)
	}
	return way, true
}

// makeWay answers another manager that asks for an environment to make way. It reports false for what cannot be such a question.
func (m *Manager) makeWay(reply string, ask *schema.WayAsk) bool {
	if ask.Account == "" || ask.Idle < 0 {
		return false
	}
	if m.ways.Add(1) > ways {
		m.ways.Add(-1)
		m.tell(reply, schema.Way{V: schema.Version})
		return true
	}
	m.spawn(func() {
		defer m.ways.Add(-1)
		way := m.permits.yield(ask)
		way.V = schema.Version
		m.tell(reply, way)
	})
	return true
}

// yield has an idle environment end that a cap counts, and returns when its permits are back. Where there is no such cap by what is
// known here, nothing makes way for it.
func (p *permits) yield(ask *schema.WayAsk) (way schema.Way) {
	caps := []*permitScope{p.account(ask.Account)}
	if ask.Function != "" { // both change
		caps = append(caps, p.function(ask.Account, ask.Function))
	}
	defer p.release(caps...)
	of := caps[len(caps)-1]
	if _, capped := of.limit(); !capped {
		return way
	}
	ctx, cancel := context.WithTimeoutCause(p.m.life, wayWait, errors.New("waiting for an environment to make way"))
	defer cancel()
	p.m.mu.Lock()
	id := ""
	if way.Warm = p.m.offering && ask.For != nil && p.m.pool.Warms(homeOf(ask.For)); !way.Warm { // what is not offered no claim finds
		now := time.Now()
		if p.m.pool.LongestIdle(now, of.of) > ask.Idle {
			id, _ = p.m.pool.Evict(now, of.of)
		}
	}
	p.m.mu.Unlock()
	if id == "" {
		return way
	}
	select {
	case <-p.evicted(id):
	case <-ctx.Done():
		return way
	}
	for _, s := range caps {
		if !p.written(ctx, s) {
			return way
		}
	}
	way.Ended = true
	return way
}

// written waits until the bucket says what this manager holds of a cap by now.
func (p *permits) written(ctx context.Context, s *permitScope) bool {
	done := make(chan struct{})
	p.mu.Lock()
	if _, capped := s.limit(); !capped {
		p.mu.Unlock()
		return true
	}
	s.waits = append(s.waits, done)
	p.kick(s)
	p.mu.Unlock()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// holders are the others that hold permits by a record, who holds most first.
func holders(rec *schema.LimitRecord, own string) []string {
	all := slices.Collect(maps.Keys(rec.Held))
	all = slices.DeleteFunc(all, func(id string) bool { return id == own || rec.Held[id].N <= 0 })
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(rec.Held[b].N, rec.Held[a].N), cmp.Compare(a, b))
	})
	return all
}

// lives reports whether a manager told a status while its lease could not have ended.
func (p *peers) lives(id string, now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.byID[id]
	return s != nil && now-s.at <= peerCounted
}

// tellSpare reports whether a status that came after a moment tells idle environments of a scope that may make way.
func (p *peers) tellSpare(of pool.Scope, after, now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.byID {
		if s := p.valid(id, now); s != nil && s.at > after {
			for w, n := range s.idle {
				if n > 0 && w.spares(of) {
					return true
				}
			}
		}
	}
	return false
}

// spares reports whether idle environments of a kind may make way for others of a scope: members of reservations may not.
func (w *warmth) spares(of pool.Scope) bool {
	return (of == pool.Scope{} || of == pool.Scope{Account: w.account, Function: w.function}) &&
		(w.tenant != "" || !subjects.IsReservedName(w.arc))
}

package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A cap is how many environments there may be: of a function (its concurrency), of the account (max-environments), and how many a
// function may get in ten seconds (growth). No environment, no call: so a manager that holds a permit for each environment that it
// makes keeps a cap exactly, and a warm call costs nothing (DESIGN 5). The permits of a cap are one key of bucket limits, by
// manager, changed by compare-and-set; what several environments ask for at once is asked for together:
//
//	make ──take──► [asks] ── one task a key: read, add up, write by revision ──► granted, or 429 with the cap's reason
//	gone ──back──► [less] ──┘                                             ├─ full: holdings of managers without a lease are void
//	                                                                      └─ more than the cap: this manager's part of it goes
//
// At the cap what is idle makes way for what is called, wherever it is (makeway.go). A holding is absolute, what this manager has now,
// so that whoever writes it again mends what was missed.
//
// # What is exact, and what is bounded
//
// While a cap stands, no environment is made beyond it. More than it allows may be there when it is set below what runs, and when a
// manager comes back whose lease had ended and whose permits others have got since: nothing running is cut off, but each manager
// sheds its part at once, idle ones now and busy ones as their calls end (limits.go). A manager whose lease may have ended by its
// own clock makes nothing under a cap: so what is void is void for good.
const (
	permitWait  = 5 * time.Second        // for the bucket's answer
	permitAgain = 500 * time.Millisecond // after the bucket did not answer
	permitTries = 64
	growthEvery = pace.GrowthEvery
	growthParts = 50 // of the growth in a window, taken at once: with the default of 1,000 a write for 20 environments
)

// permits are those that this manager holds. Safe for concurrent use; nothing waits under its mutex.
type permits struct {
	m *Manager

	mu      sync.Mutex
	scopes  map[string]*permitScope  // by key
	of      map[string][2]string     // keys of an environment's permits, by its id
	growth  map[string]*growth       // by key
	leaving map[string]chan struct{} // closed when an environment that made way has gone, by its id
	looked  time.Time                // for what is to be done or forgotten
}

// permitScope is one cap. permits.mu guards it.
type permitScope struct {
	key     string
	held    map[string]bool // environments with a permit
	asks    []*permitAsk
	waits   []chan struct{} // closed when what is held now is in the bucket
	changed bool            // held is not what the bucket says
	written bool            // the bucket says that this manager holds some
	running bool            // a task settles it
	seeking
	users  int       // takes that are under way with it
	over   time.Time // when more were there than the cap allows; zero: that is not so
	unsure time.Time // until then others may not have written what they hold
	of     pool.Scope
	limit  func() (n int, capped bool)
	denied func(n int) error
}

type permitAsk struct {
	environment string
	granted     chan error // gets one
}

func newPermits(m *Manager) *permits {
	return &permits{m: m, scopes: make(map[string]*permitScope), of: make(map[string][2]string), growth: make(map[string]*growth),
		leaving: make(map[string]chan struct{}),
	}
}

// take waits for the permits to make an environment. An error is a [schema.CodeThrottled] with the reason of the cap that is
// reached, or a [schema.CodeUnavailable]: the bucket did not answer, or [errElsewhere]; nothing is held then. Members of a reservation
// were asked for by name: they count, but do not wait for growth. Those do that replace one that was bound to a sub-tenant: it keeps its permits,
// and the reservation holds one environment more. Idle environments that are set aside to make room are the first to make way for a
// cap that counts them; it gives those that are left.
func (p *permits) take(ctx context.Context, mk pool.Make, aside []string) (left []string, err error) {
	account, function := mk.Spec.Account, mk.Spec.Function
	ctx, cancel := context.WithTimeoutCause(ctx, permitWait, errors.New("waiting for a permit to make an environment"))
	defer cancel()
	f, a := p.function(account, function), p.account(account)
	defer p.release(f, a)
	if aside, err = p.askOrEvict(ctx, f, &mk, aside); err != nil {
		return aside, err
	}
	if aside, err = p.askOrEvict(ctx, a, &mk, aside); err != nil {
		p.drop(f, mk.Environment)
		return aside, err
	}
	if grows(&mk) { // last: what a cap refuses is no growth
		if err := p.grow(ctx, account, function); err != nil {
			p.drop(f, mk.Environment)
			p.drop(a, mk.Environment)
			return aside, err
		}
	}
	p.mu.Lock()
	p.of[mk.Environment] = [2]string{f.key, a.key}
	p.mu.Unlock()
	return aside, nil
}

// stands reports whether an environment's permits surely are its own still, a moment before it is made: under a cap they may have
// been given to others once this manager's lease could have ended.
func (p *permits) stands(environment string) error {
	if p.m.leased() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range p.of[environment] {
		if s := p.scopes[key]; s != nil {
			if _, capped := s.limit(); capped {
				return schema.Errorf(schema.CodeUnavailable, "the permit for an environment may have ended with this manager's lease")
			}
		}
	}
	return nil
}

// release ends what p.function and p.account began.
func (p *permits) release(scopes ...*permitScope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range scopes {
		s.users--
	}
}

// back gives back the permits of an environment that has gone. Without any it does nothing.
func (p *permits) back(environment string) {
	p.mu.Lock()
	keys := p.of[environment]
	delete(p.of, environment)
	left := p.leaving[environment]
	delete(p.leaving, environment)
	f, a := p.scopes[keys[0]], p.scopes[keys[1]]
	p.mu.Unlock()
	for _, s := range []*permitScope{f, a} {
		if s != nil {
			p.drop(s, environment)
		}
	}
	if left != nil {
		close(left)
	}
}

// function is the cap of a function. Whoever asks for it gives it back by release.
func (p *permits) function(account, function string) *permitScope {
	at := functionKey(account, function)
	return p.scope("f."+at, pool.Scope{Account: account, Function: function}, func() (int, bool) {
		if rec, _, ok := p.m.versions.cache.Get(at); ok && rec.Concurrency != nil {
			return *rec.Concurrency, true
		}
		return 0, false
	}, func(n int) error {
		return &schema.Error{
			Code: schema.CodeThrottled, Reason: schema.ThrottleFunctionConcurrency,
			Message: fmt.Sprintf("function %s has all %d environments that its limit allows; `hearth limit %[1]s N` sets another", function, n),
		}
	})
}

// account is the cap of an account: of the fabric, while there is one account.
func (p *permits) account(account string) *permitScope {
	return p.scope("a."+subjects.Escape(account), pool.Scope{}, func() (int, bool) {
		n := p.m.view.Load().fabric.MaxEnvironments
		return n, n > 0
	}, func(n int) error {
		return &schema.Error{
			Code: schema.CodeThrottled, Reason: schema.ThrottleConcurrency,
			Message: fmt.Sprintf("the fabric has all %d environments that it may have; `hearth fabric set max-environments=N` sets another limit", n),
		}
	})
}

func (p *permits) scope(key string, of pool.Scope, limit func() (int, bool), denied func(int) error) *permitScope {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.scopes[key]
	if s == nil {
		s = &permitScope{key: key, held: make(map[string]bool), of: of, limit: limit, denied: denied}
		p.scopes[key] = s
	}
	s.users++
	return s
}

// ask waits for a permit of one cap. Where there is none, what is held is noted all the same: it counts once there is one.
func (p *permits) ask(ctx context.Context, s *permitScope, environment string) error {
	a := &permitAsk{environment: environment, granted: make(chan error, 1)}
	p.mu.Lock()
	if _, capped := s.limit(); !capped {
		s.held[environment] = true
		p.mu.Unlock()
		return nil
	}
	s.asks = append(s.asks, a)
	p.kick(s)
	p.mu.Unlock()
	select {
	case err := <-a.granted:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-a.granted: // it came at the last moment
		return err
	default:
	}
	p.mu.Lock()
	a.environment = "" // whoever settles it passes it by
	p.mu.Unlock()
	p.drop(s, environment) // and if it has just done so, gives it back
	return schema.Errorf(schema.CodeUnavailable, "no permit for an environment: %w", context.Cause(ctx))
}

func (p *permits) drop(s *permitScope, environment string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.held[environment] {
		return
	}
	delete(s.held, environment)
	s.changed = true
	if _, capped := s.limit(); capped {
		p.kick(s)
	}
}

// kick has a scope settled. permits.mu is held.
func (p *permits) kick(s *permitScope) {
	if !s.running {
		s.running = true
		if !p.m.spawned(func() { p.run(s) }) {
			s.running = false
		}
	}
}

// run settles a scope until nothing is left to do. Where the bucket does not answer it goes on, with pauses.
func (p *permits) run(s *permitScope) {
	for {
		more, err := p.settle(s)
		if !more {
			return
		}
		if err != nil {
			p.m.log.Warn("write down permits", "key", s.key, "error", err)
			select {
			case <-p.m.life.Done(): // settle sees it
			case <-time.After(permitAgain):
			}
		}
	}
}

// settle answers what is asked of a scope now by one write, and reports whether there may be more.
func (p *permits) settle(s *permitScope) (more bool, err error) {
	p.mu.Lock()
	if len(s.asks)+len(s.waits) == 0 && !s.changed || p.m.life.Err() != nil {
		p.answer(s, s.asks, context.Cause(p.m.life))
		s.asks, s.waits, s.running = nil, nil, false // who waits, waits no longer than this manager lives
		p.mu.Unlock()
		return false, nil
	}
	asks, waits, held := s.asks, s.waits, len(s.held)
	s.asks, s.waits, s.changed = nil, nil, false
	limit, capped := s.limit()
	written := s.written
	p.mu.Unlock()
	granted, over := len(asks), 0
	var others []string
	switch {
	case capped:
		granted, over, others, err = p.write(s.key, held, len(asks), limit)
	case written: // nobody looks at it any more
		err = p.unwrite(s.key)
	}
	if err == nil {
		p.shed(s, over)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.answer(s, asks, schema.Errorf(schema.CodeUnavailable, "no permit for an environment: %w", err))
		s.changed = true // what the bucket says is not known: others may wait for what was given back
		s.written = true
		s.waits = append(s.waits, waits...)
		return true, err
	}
	s.others = others
	for _, done := range waits {
		close(done)
	}
	s.written = capped && held+granted > 0
	if s.over = (time.Time{}); over > 0 {
		s.over = time.Now()
	}
	for _, a := range asks {
		switch {
		case a.environment == "": // it waits no more
			s.changed = s.changed || granted > 0
			granted = max(0, granted-1)
		case granted > 0:
			granted--
			s.held[a.environment] = true
			a.granted <- nil
		default:
			a.granted <- s.denied(limit)
		}
	}
	return true, nil
}

// answer tells asks that they got nothing. permits.mu is held.
func (p *permits) answer(s *permitScope, asks []*permitAsk, err error) {
	for _, a := range asks {
		if a.environment != "" {
			a.granted <- err
		}
	}
}

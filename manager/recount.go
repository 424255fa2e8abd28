package manager

import (
	"time"

	"github.com/hearth-run/hearth/manager/pool"
)

const (
	shedEvery = 500 * time.Millisecond // that a cap is looked at again of which more are there than it allows
	allWrite  = 2 * time.Second        // until all managers have written what they hold of a cap that changed
	tendEvery = 500 * time.Millisecond // that it is looked what is to be done or forgotten
)

// recount writes down what this manager holds of every cap: one may be new, another or gone, or the bucket may say something else.
func (p *permits) recount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.scopes {
		p.counted(s)
	}
}

// recountFunction is recount of a function by its key.
func (p *permits) recountFunction(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.scopes["f."+key]; s != nil {
		p.counted(s)
	}
}

// counted has a scope settled whose cap may have changed, and for a while again: a manager that writes before others have does not see
// that with theirs there are too many. permits.mu is held.
func (p *permits) counted(s *permitScope) {
	s.unsure = time.Now().Add(allWrite)
	p.again(s)
}

// again has a scope settled though nothing here changed. permits.mu is held.
func (p *permits) again(s *permitScope) {
	s.changed = true
	if _, capped := s.limit(); capped || s.written {
		p.kick(s)
	}
}

// tend looks again at caps of which more are there than they allow, and forgets what nobody needs: one of a function that has no
// environment here, whose last word in the bucket is that.
func (p *permits) tend(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.looked) < tendEvery {
		return
	}
	p.looked = now
	for key, s := range p.scopes {
		switch {
		case !s.over.IsZero() && now.Sub(s.over) >= shedEvery, now.Before(s.unsure):
			p.again(s)
		case s.users == 0 && !s.running && len(s.held)+len(s.asks) == 0 && !s.written && s.over.IsZero():
			delete(p.scopes, key)
		}
	}
	for key, g := range p.growth {
		if g.ready == nil && g.users == 0 && !within(g.began, p.m.serverNow()) {
			delete(p.growth, key)
		}
	}
}

// shed has this manager's part of what is too many for a cap end.
func (p *permits) shed(s *permitScope, over int) {
	p.mu.Lock()
	was := !s.over.IsZero()
	p.mu.Unlock()
	if over == 0 && !was {
		return
	}
	p.m.mu.Lock()
	end := p.m.pool.Shed(time.Now(), s.of, over)
	p.m.mu.Unlock()
	p.m.carryOut(pool.Plan[*claim]{End: end}, nil)
	if len(end) > 0 {
		p.m.changed()
	}
}

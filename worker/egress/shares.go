package egress

import "sync"

// shares divides room: among accounts, what an account may have among its functions, what a function may have among its sub-tenants,
// and what each of these may have among its environments, so that none of them takes all of it. At each of these levels one has at most
// a part of what the others beside it have left ([levels]): of what all may have an account alone comes to a half, its function to a
// third, a sub-tenant of that to a sixth, and who comes later to as large a part of the rest.
//
// Parts of a rest become nothing at last, and a connection may stay for ever. So an eighth of all is a reserve, which only those draw
// on that have nothing: a sub-tenant of one function, its environments together, has `first` of it at most, its function a
// thirty-second of it and its account an eighth. Whoever has nothing is therefore given something, whatever one sub-tenant, function or
// account does and has done, until there are that many others beside it who live on the reserve. Safe for concurrent use.
type shares struct {
	most    int // of all
	reserve int // of that
	first   int

	mu  sync.Mutex
	all node
}

// holder is who an environment belongs to. Those of no sub-tenant, or of none yet, count together and apart from the others.
type holder struct{ account, function, tenant string }

// node is what one holds at its level.
type node struct {
	has   int // with all below
	lent  int // of that out of the reserve
	below map[string]*node
}

// part is a fraction, rounded up.
type part struct{ of, parts int }

func (p part) from(rest int) int { return (max(0, rest)*p.of + p.parts - 1) / p.parts }

// levels are which part of the rest one may have: an account, a function of it, a sub-tenant of that. Those of no sub-tenant are bounded
// by their function: what runs there is its own.
var levels = [...]part{{1, 2}, {2, 3}, {1, 2}}

var ofEnvironment = part{2, 3}

func newShares(most, first int) *shares {
	return &shares{most: most, reserve: min(max(0, most-1), max(1, most/8)), first: first}
}

// share is what one environment has. Its fields are guarded by the mutex of the shares.
type share struct {
	of  *shares
	who holder
	own int
}

func (s *shares) share(who holder) *share { return &share{of: s, who: who} }

// line is the nodes from all to a sub-tenant.
type line [len(levels) + 1]*node

// line finds them, and makes those that are not there. The mutex is held.
func (s *shares) line(who holder) (l line) {
	l[0] = &s.all
	for i, name := range [...]string{who.account, who.function, who.tenant} {
		n := l[i].below[name]
		if n == nil {
			n = &node{}
			if l[i].below == nil {
				l[i].below = map[string]*node{}
			}
			l[i].below[name] = n
		}
		l[i+1] = n
	}
	return l
}

// add adds to all of them, and forgets those that have nothing. The mutex is held.
func (l line) add(who holder, has, lent int) {
	for _, n := range l {
		n.has += has
		n.lent += lent
	}
	for i, name := range [...]string{who.account, who.function, who.tenant} {
		if l[i+1].has == 0 {
			delete(l[i].below, name)
			return
		}
	}
}

// take takes one more; false if that is beyond a share.
func (p *share) take() bool {
	s := p.of
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.line(p.who)
	has, lent := 1, 0
	if !s.fits(l, p) {
		if lent = 1; !s.lends(l) {
			has, lent = 0, 0
		}
	}
	l.add(p.who, has, lent)
	p.own += has
	return has > 0
}

// fits reports whether one more is within the share of each level, beside the reserve. The mutex is held.
func (s *shares) fits(l line, p *share) bool {
	room, used := s.most-s.reserve, s.all.has-s.all.lent
	for i, n := range l[1:] {
		mine := n.has - n.lent
		if room -= used - mine; i < len(levels)-1 || p.who.tenant != "" {
			room = levels[i].from(room)
		}
		if mine >= room {
			return false
		}
		used = mine
	}
	return p.own < ofEnvironment.from(room-used+p.own)
}

// lends reports whether there is one in the reserve for who has nothing, or less than `first`. The mutex is held.
func (s *shares) lends(l line) bool {
	if l[len(levels)].has >= s.first {
		return false
	}
	for i, most := range s.reserves() {
		if l[i].lent >= most {
			return false
		}
	}
	return true
}

// reserves are how much of the reserve all, an account, a function and a sub-tenant have at most.
func (s *shares) reserves() [len(levels) + 1]int {
	if s.reserve == 0 {
		return [...]int{0, 0, 0, 0}
	}
	return [...]int{s.reserve, max(1, s.reserve/8), max(1, s.reserve/32), s.first}
}

// give gives n back, those of the reserve first.
func (p *share) give(n int) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.drop(n)
}

// drop gives n back and tells how many of them were of the reserve. The mutex is held.
func (p *share) drop(n int) (lent int) {
	l := p.of.line(p.who)
	lent = min(n, l[len(levels)].lent)
	l.add(p.who, -n, -lent)
	p.own -= n
	return lent
}

// bind has all that the environment has and takes be of a sub-tenant, also where that has more than its share then.
func (p *share) bind(tenant string) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	own := p.own
	lent := p.drop(own)
	p.who.tenant = tenant
	p.of.line(p.who).add(p.who, own, lent)
	p.own = own
}

// taken tells how many the environment's function and all have.
func (p *share) taken() (theirs, all int) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if a := p.of.all.below[p.who.account]; a != nil {
		if f := a.below[p.who.function]; f != nil {
			theirs = f.has
		}
	}
	return theirs, p.of.all.has
}

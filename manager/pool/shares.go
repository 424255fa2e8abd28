package pool

import (
	"slices"
	"time"
)

// Of members that cannot be made: after so many failures in a row the home is failing, and tried again with one member after a
// pause that doubles. Members that end by themselves before they ran anything, soon after their init, count too.
const (
	failures   = 3
	firstPause = time.Second
	lastPause  = time.Minute
	early      = time.Second
)

const (
	// DrainWindow is the reclaim window of a home that drains: what nobody used for so long goes. Ending members the moment they
	// are idle would take them from between two calls of one caller, and drive calls that old environments serve to new ones.
	DrainWindow = time.Second

	// UnableAfter is how long a share does not fit until its home is called unable: places come free as calls end.
	UnableAfter = 500 * time.Millisecond
)

// Share is how many members of a reservation a manager keeps ready (DESIGN 5, 6).
type Share struct {
	Members  int
	Hold     bool // nothing above it ends: its place is elsewhere and not ready there yet
	Draining bool // members go as they become idle, after [DrainWindow]; Members is 0
}

// share is what a pool remembers of a reserved home's share.
type share struct {
	Share
	lows    lows
	short   time.Time // since when it does not fit; zero: it does
	inits   int       // that failed in a row
	deaths  int       // of members that had not run anything yet, in a row
	why     string    // the last failure
	denials int       // times in a row that none might be made, though nothing is wrong with it
	pause   time.Duration
	retryAt time.Time // no member is made before, while failing or denied
	last    time.Time // that an init ended, or a member by itself
}

func (s *share) failing() string {
	if s.inits+s.deaths < failures && s.denials < failures {
		return ""
	}
	return s.why
}

// troubled reports whether members are tried one at a time, after a pause.
func (s *share) troubled() bool { return s.denials > 0 || s.inits+s.deaths >= failures }

func (s *share) unable(now time.Time) bool {
	return !s.short.IsZero() && now.Sub(s.short) >= UnableAfter
}

func (s *share) failed(now time.Time, why string) {
	s.inits++
	s.failedSo(now, why)
}

func (s *share) died(now time.Time) {
	s.deaths++
	s.failedSo(now, "environments end by themselves before their first call")
}

func (s *share) failedSo(now time.Time, why string) {
	s.why, s.last = why, now
	if s.inits+s.deaths < failures || now.Before(s.retryAt) { // several that began together are one try
		return
	}
	s.pause = min(max(firstPause, 2*s.pause), lastPause)
	s.retryAt = now.Add(s.pause)
}

// denied notes that a member might not be made. That passes by itself, so the pause stays short.
func (s *share) denied(now time.Time, why string) {
	if s.denials > 0 && now.Before(s.retryAt) {
		return // they were asked for together
	}
	s.denials++
	s.why, s.retryAt = why, now.Add(firstPause)
}

// inited notes an init that succeeded.
func (s *share) inited(now time.Time) {
	s.last, s.denials = now, 0
	if s.inits = 0; s.deaths == 0 {
		s.pause, s.retryAt = 0, time.Time{}
	}
}

// SetShare gives a reserved home its share here. What lacks is made, also in place of idle unreserved environments; members that
// are there already count, whatever made them surplus before (S36). What is above it is surplus: not replaced, and ended by
// [Pool.Tick] as the reclaim window shows it idle. A home with nothing left and no share is forgotten.
func (p *Pool[C]) SetShare(now time.Time, home Home, spec Spec, to Share) Plan[C] {
	var plan Plan[C]
	p.now = now
	g := p.groups[home]
	if g == nil && to.Members > 0 {
		g = p.newGroup(home, spec)
		g.share = &share{}
		p.shared = append(p.shared, g)
	}
	if g != nil {
		g.share.Share = to
		p.settle(g)
	}
	p.refill(now, &plan)
	return plan
}

// tend ends what is surplus and makes what lacks.
func (p *Pool[C]) tend(now time.Time, reclaim time.Duration, plan *Plan[C]) {
	for _, g := range p.shared {
		s, window := g.share, reclaim
		if g.members() == s.Members && s.deaths+s.denials == 0 && !(s.Draining && g.family != nil) {
			continue // there may be a thousand of these, and nothing is to be done about them
		}
		if s.Draining {
			window = min(DrainWindow, reclaim)
			p.endBound(now, g.family, window, plan)
		}
		if g.lacks() == 0 && now.Sub(s.last) > 2*early {
			s.deaths = 0 // they stay
		}
		if g.lacks() == 0 {
			s.denials = 0
		}
		n := min(s.lows.least(now.Add(-window)), g.idle, g.ready()-s.Members)
		if s.Hold || n <= 0 {
			continue
		}
		s.lows.less(n)
		for range n {
			plan.End = append(plan.End, p.end(now, g.bottom))
		}
	}
	p.refill(now, plan)
}

// refill makes what reserved homes lack for their shares, those first that have theirs for longest.
func (p *Pool[C]) refill(now time.Time, plan *Plan[C]) {
	if p.draining {
		return
	}
	for _, g := range p.shared {
		s := g.share
		for g.lacks() > 0 && (!s.troubled() || g.start == 0 && !now.Before(s.retryAt)) && p.room() >= g.spec.Places {
			plan.End = append(plan.End, p.clear(now, g.spec.Places)...)
			plan.Make = append(plan.Make, p.make(now, g))
			p.settle(g)
		}
		switch {
		case g.owes() == 0:
			s.short = time.Time{}
		case s.short.IsZero():
			s.short = now
		}
	}
}

// members are the environments of a home that are ready or start.
func (g *group[C]) members() int { return g.start + g.ready() }

func (g *group[C]) ready() int { return g.idle + g.busy + g.finish + g.promised }

// lacks is how many members are to be made. A home gone by gets none.
func (g *group[C]) lacks() int {
	if g.spec.Past {
		return 0
	}
	return max(0, g.share.Members-g.members())
}

// owes is how many members lack only for want of room: what nothing else may take the room of.
func (g *group[C]) owes() int {
	if g.share.troubled() {
		return 0
	}
	return g.lacks()
}

// settleShare brings what a group lacks, what it has had idle, and how much of what it offers is surplus, up to date.
func (p *Pool[C]) settleShare(g *group[C]) {
	surplus := min(g.offered, max(0, g.ready()-g.share.Members))
	if d := surplus - g.surplus; d != 0 {
		g.surplus = surplus
		p.stir(g)
		if n := p.surplus[g.spec.Arc] + d; n == 0 {
			delete(p.surplus, g.spec.Arc)
		} else {
			p.surplus[g.spec.Arc] = n
		}
	}
	owed := g.owes() * g.spec.Places
	p.owed += owed - g.owed
	g.owed = owed
	if g.family != nil && g.lacks() == 0 {
		g.family.left = 0
	}
	g.share.lows.note(p.now, max(0, g.idle+g.fresh-len(g.claims)))
}

// forget takes a group out that has nothing and no share.
func (p *Pool[C]) forget(g *group[C]) {
	if p.groups[g.home] != g || !p.leave(g) {
		return
	}
	delete(p.groups, g.home)
	if g.share != nil {
		p.shared = slices.DeleteFunc(p.shared, func(other *group[C]) bool { return other == g })
	}
}

// lows finds the smallest number at any moment of a window that ends now. It remembers rising levels only, each with the last
// moment at which the number was as low: no more of them than the number is high.
type lows struct{ levels []low }

type low struct {
	number int
	until  time.Time // of the last one: it still is
}

// note says that the number is this one from now on.
func (l *lows) note(now time.Time, number int) {
	if n := len(l.levels); n > 0 {
		last := &l.levels[n-1]
		if last.number == number {
			return
		}
		last.until = now
	}
	for n := len(l.levels); n > 0 && l.levels[n-1].number >= number; n-- {
		l.levels = l.levels[:n-1]
	}
	l.levels = append(l.levels, low{number: number})
}

// least is the smallest number since this moment. What was before it is forgotten.
func (l *lows) least(since time.Time) int {
	past := 0
	for past < len(l.levels)-1 && !l.levels[past].until.After(since) {
		past++
	}
	l.levels = slices.Delete(l.levels, 0, past)
	if len(l.levels) == 0 {
		return 0
	}
	return l.levels[0].number
}

// less says that so many of the number have gone for good, and were as good as gone all the time.
func (l *lows) less(n int) {
	for i := range l.levels {
		l.levels[i].number -= n
	}
}

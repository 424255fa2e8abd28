package pool

import "time"

// What a pool tells of itself.

// Counts are the environments of a pool or of a group by state. Closing ones have been told to end or end by
// themselves, and have not gone yet.
type Counts struct{ Starting, Idle, Busy, Finishing, Promised, Closing int }

// Counts are the environments of the whole pool.
func (p *Pool[C]) Counts() Counts {
	return Counts{
		p.states[starting], p.states[idle], p.states[busy], p.states[finishing], p.states[promised],
		p.states[dying] + p.states[closing],
	}
}

// Group is what a pool has of one home.
type Group struct {
	Home    Home
	Spec    Spec
	Counts  Counts
	Waiting int
	Share   Share  // of a reserved one
	Short   bool   // its share does not fit
	Unable  bool   // and has not for a while
	Failing string // why its members cannot be made, "" while they can
}

// Ready is how many of them have been initialised and have not been told to end.
func (n Counts) Ready() int { return n.Idle + n.Busy + n.Finishing + n.Promised }

// Groups calls yield for every home that has an environment, a waiting claim or a share, until it returns false.
func (p *Pool[C]) Groups(yield func(Group) bool) {
	for _, g := range p.groups {
		if !yield(g.told(p.now)) {
			return
		}
	}
}

// Above calls yield for every reserved home that has more members than its share here, until it returns false.
func (p *Pool[C]) Above(yield func(Group) bool) {
	for _, g := range p.shared {
		if g.ready() > g.share.Members && !yield(g.told(p.now)) {
			return
		}
	}
}

// Group is what the pool has of this home; false if it has nothing of it.
func (p *Pool[C]) Group(home Home) (Group, bool) {
	g := p.groups[home]
	if g == nil {
		return Group{}, false
	}
	return g.told(p.now), true
}

func (g *group[C]) told(now time.Time) Group {
	counts := Counts{Starting: g.start, Idle: g.idle, Busy: g.busy, Finishing: g.finish, Promised: g.promised}
	counts.Closing = g.all - g.members()
	t := Group{Home: g.home, Spec: g.spec, Counts: counts, Waiting: len(g.claims)}
	if g.share != nil {
		t.Share, t.Short, t.Unable, t.Failing = g.share.Share, !g.share.short.IsZero(), g.share.unable(now), g.share.failing()
	}
	return t
}

// Environments appends the ids of all environments that have not gone to dst.
func (p *Pool[C]) Environments(dst []string) []string {
	for id := range p.environments {
		dst = append(dst, id)
	}
	return dst
}

// Live is how many environments have not gone, closing ones too.
func (p *Pool[C]) Live() int { return len(p.environments) }

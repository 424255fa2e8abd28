package manager

import (
	"cmp"
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// What is known of the members of reservations comes by the same statuses (peers.go), with one difference: a member that went
// idle is told before its call is answered, by a status of that arc alone, which is laid over the last whole one (DESIGN 5).

// peerCounted is how long a manager's members count after its last status: as long as its lease lives without renewal.
const peerCounted = 2 * time.Second

// maxTold bounds what one number of a status counts for: sums of liars do not run over.
const maxTold = 1 << 20

// memberSeen is what one manager tells of one reserved arc. Of a function with sub-tenants the members are the generic ones.
type memberSeen struct {
	Manager  string
	Share    int
	Ready    int // idle and busy ones
	Bound    int // that were members until they were bound to a sub-tenant, and are still there
	Idle     int
	Busy     int
	Starting int
	Unable   bool
	Failed   string
}

// members are the managers that told anything of a reserved arc within [peerCounted], sorted; this one too, as it told last.
// What is older than [peerValid] counts all its busy members as idle: the view errs towards the reserved arc, where the
// catcher repairs it (DESIGN 5).
func (p *peers) members(arc string, now time.Duration) []memberSeen {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []memberSeen
	for _, s := range p.byID {
		all = s.appendMember(all, arc, now)
	}
	if p.own != nil {
		all = p.own.appendMember(all, arc, now)
	}
	slices.SortFunc(all, func(a, b memberSeen) int { return cmp.Compare(a.Manager, b.Manager) })
	return all
}

// heard reports whether every one of these managers told a status lately.
func (p *peers) heard(now time.Duration, ids ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if p.own != nil && p.own.id == id && now-p.own.at <= peerValid {
			continue
		}
		if p.valid(id, now) == nil {
			return false
		}
	}
	return true
}

// free is how many places the managers tell that could be had, and how many managers those are.
func (p *peers) free(now time.Duration) (places, managers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := func(s *peer) {
		if s != nil && now-s.at <= peerValid && s.room > 0 {
			places += s.room
			managers++
		}
	}
	for _, s := range p.byID {
		count(s)
	}
	count(p.own)
	return places, managers
}

// toldOwn keeps what this manager told of itself, beside what the others tell.
func (p *peers) toldOwn(s *schema.ManagerStatus, now time.Duration) (stirred []string) {
	if s.Partial {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.own.lay(s, now)
	}
	next := newPeer(s, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.own
	p.own = next
	return next.stirred(was)
}

// stirred are the reserved arcs of which this status tells other members than the one before, which may be nil: how many there
// are, and how many there should be. That one is busy now and idle then moves no reservation.
func (p *peer) stirred(was *peer) (arcs []string) {
	if was == nil {
		was = &peer{}
	}
	for arc, of := range p.reserved {
		if !slices.EqualFunc(of, was.reserved[arc], sameMembers) {
			arcs = append(arcs, arc)
		}
	}
	for arc := range was.reserved {
		if _, still := p.reserved[arc]; !still {
			arcs = append(arcs, arc)
		}
	}
	return arcs
}

func sameMembers(a, b schema.ArcStatus) bool {
	if a.Tenant != "" && b.Tenant == a.Tenant { // no members any more: that there are some is all that matters
		return (a.Ready > 0) == (b.Ready > 0)
	}
	return a.Tenant == b.Tenant && a.Share == b.Share && a.Ready == b.Ready && a.Starting == b.Starting && a.Unable == b.Unable && a.Failed == b.Failed
}

// toldPart lays a partial status over the last whole one of the same life. Without one, the next whole one says it all.
func (p *peers) toldPart(s *schema.ManagerStatus, now time.Duration) (stirred []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.byID[s.ID]
	if was == nil || was.incarnation != s.Incarnation || s.Number < was.number {
		return nil
	}
	return was.lay(s, now)
}

// lay lays a partial status over what was told.
func (p *peer) lay(s *schema.ManagerStatus, now time.Duration) (stirred []string) {
	p.number, p.at = s.Number, now
	if s.Counted {
		p.count(s)
	}
	for i := range s.Arcs {
		if p.take(&s.Arcs[i]) {
			stirred = append(stirred, s.Arcs[i].Arc)
		}
	}
	return stirred
}

// take lays what is told of one arc over what was, and reports whether it has other members now.
func (p *peer) take(a *schema.ArcStatus) (stirred bool) {
	w := warmth{a.Arc, a.Account, a.Function, a.Version, a.Tenant}
	switch {
	case a.Idle <= 0:
		delete(p.idle, w)
	case len(p.idle) < maxWarm:
		if p.idle == nil {
			p.idle = make(map[warmth]int)
		}
		p.idle[w] = a.Idle
	}
	if !subjects.IsReservedName(a.Arc) {
		return false
	}
	of := p.reserved[a.Arc]
	at := slices.IndexFunc(of, func(b schema.ArcStatus) bool { return b.Tenant == a.Tenant })
	switch {
	case at >= 0:
		stirred = !sameMembers(of[at], *a)
		of[at] = *a
	case len(p.reserved) < maxWarm && len(of) < maxWarm:
		if p.reserved == nil {
			p.reserved = make(map[string][]schema.ArcStatus)
		}
		p.reserved[a.Arc] = append(of, *a)
		stirred = true
	}
	return stirred
}

// appendMember appends what this manager told of an arc, if it told anything and that still counts.
func (p *peer) appendMember(dst []memberSeen, arc string, now time.Duration) []memberSeen {
	of := p.reserved[arc]
	if len(of) == 0 || now-p.at > peerCounted {
		return dst
	}
	seen := memberSeen{Manager: p.id}
	for i := range of {
		a := &of[i]
		ready := min(max(0, a.Ready), maxTold)
		busy := min(max(0, a.Busy), ready)
		if now-p.at > peerValid {
			busy = 0
		}
		if a.Tenant != "" {
			seen.Bound += ready
			continue
		}
		seen.Ready += ready
		seen.Busy += busy
		seen.Idle += max(0, ready-busy)
		seen.Starting += min(max(0, a.Starting), maxTold)
		seen.Share = max(seen.Share, a.Share)
		seen.Unable = seen.Unable || a.Unable
		seen.Failed = cmp.Or(seen.Failed, a.Failed)
	}
	return append(dst, seen)
}

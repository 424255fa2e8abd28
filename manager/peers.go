package manager

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// What the managers know of one another comes from the statuses that all of them tell. It is asked for only where a claim
// found nothing warm at home, never on the path of a warm call, and decides nothing alone: whoever acts on a stale one asks in
// vain, or comes back 10 ms later.
const (
	peerValid = time.Second // a status older than that counts for nothing
	peerKept  = 10 * time.Second
	maxPeers  = 4096
	maxWarm   = 1 << 14 // function versions of one manager
)

// peers are the other managers, by id.
type peers struct {
	turned atomic.Uint64 // grows with each status that tells of other members of reservations
	fresh  atomic.Bool   // somebody was heard of for the first time, or again, who knows no whole status of this manager

	mu   sync.Mutex
	byID map[string]*peer
	own  *peer // what this manager told last: of its members alone
}

// peer is the last status of a manager.
type peer struct {
	id          string
	incarnation string
	number      uint64
	at          time.Duration // on this manager's clock
	capacity    int           // places
	hot         int           // places of environments that make way for who has waited
	room        int           // places, those that come soon too
	idle        map[warmth]int
	reserved    map[string][]schema.ArcStatus // by arc; one for each sub-tenant that it has members for
}

// warmth names environments as a status tells of them: what it leaves out, the receiver of a hand-over looks at.
type warmth struct{ arc, account, function, version, tenant string }

// heard takes in a status. What is none, or is told in another's name, is left aside.
func (m *Manager) heard(msg *nats.Msg) {
	if msg.Subject == m.names.ManagerStatus(m.cfg.ID) {
		return // our own, or that of somebody who took our id
	}
	var s schema.ManagerStatus
	if err := schema.Unmarshal(msg.Data, &s); err != nil || m.names.ManagerStatus(s.ID) != msg.Subject {
		m.count.garbage.Add(1)
		m.log.Debug("not a status of whose it says", "subject", msg.Subject, "bytes", len(msg.Data))
		return
	}
	m.stirred(m.peers.told(&s, m.now()))
}

// stirred hears that other members of these reserved arcs were told of.
func (m *Manager) stirred(arcs []string) {
	if len(arcs) > 0 {
		m.peers.turned.Add(1)
		m.control.stirred(arcs)
	}
}

// told takes in a status; an older one of the same life, as another way could bring, changes nothing. It gives the reserved
// arcs whose members are others than before.
func (p *peers) told(s *schema.ManagerStatus, now time.Duration) (stirred []string) {
	if s.Partial {
		return p.toldPart(s, now)
	}
	next := newPeer(s, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.byID[s.ID]
	if was == nil || was.incarnation != s.Incarnation {
		p.fresh.Store(true)
	}
	switch {
	case was == nil:
		if p.byID == nil {
			p.byID = make(map[string]*peer)
		}
		for id, old := range p.byID {
			if now-old.at > peerKept {
				delete(p.byID, id)
			}
		}
		if len(p.byID) >= maxPeers {
			return nil
		}
	case was.incarnation == s.Incarnation && s.Number < was.number:
		return nil
	}
	p.byID[s.ID] = next
	return next.stirred(was)
}

// newPeer is what a whole status says.
func newPeer(s *schema.ManagerStatus, now time.Duration) *peer {
	next := &peer{id: s.ID, incarnation: s.Incarnation, at: now}
	next.count(s)
	for i := range s.Arcs {
		next.take(&s.Arcs[i])
	}
	return next
}

// count takes in what a status says beside its arcs.
func (p *peer) count(s *schema.ManagerStatus) {
	p.number, p.capacity = s.Number, s.Capacity
	p.hot = min(max(0, s.Hot), maxTold)
	p.room = max(0, min(s.Room, maxTold)-p.hot) + min(max(0, s.Soon), maxTold)
}

// valid is the status of a manager that was heard of lately, else nil. The mutex is held.
func (p *peers) valid(id string, now time.Duration) *peer {
	if s := p.byID[id]; s != nil && now-s.at <= peerValid {
		return s
	}
	return nil
}

// withRoom is the first of these managers that tells this much room, -1 if none does.
func (p *peers) withRoom(managers []string, order []int, places int, now time.Duration) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rank, i := range order {
		if s := p.valid(managers[i], now); s != nil && s.room >= places {
			return rank
		}
	}
	return -1
}

// anybody reports whether one of the others tells this much room, and whether one tells as many places of hot environments.
func (p *peers) anybody(places int, now time.Duration) (room, hot bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.byID {
		if s := p.valid(id, now); s != nil {
			room, hot = room || s.room >= places, hot || s.hot >= places
		}
	}
	return room, hot
}

// largest is the capacity of the largest of the others, in places.
func (p *peers) largest(now time.Duration) (places int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.byID {
		if s := p.valid(id, now); s != nil {
			places = max(places, s.capacity)
		}
	}
	return places
}

// warm is the first of these managers that tells an idle environment of this kind, "" if none does; order nil is as they are. Given an
// order, of an unreserved arc, it is counted as taken until the manager tells its next status; a member that was taken is replaced,
// and its manager may tell nothing new for half a second.
func (p *peers) warm(managers []string, order []int, w warmth, now time.Duration) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	has := func(id string) bool {
		s := p.valid(id, now)
		if s == nil || s.idle[w] <= 0 {
			return false
		}
		if order != nil {
			s.idle[w]--
		}
		return true
	}
	if order == nil {
		if at := slices.IndexFunc(managers, has); at >= 0 {
			return managers[at]
		}
		return ""
	}
	for _, i := range order {
		if has(managers[i]) {
			return managers[i]
		}
	}
	return ""
}

// cold notes that a manager has nothing idle of this kind after all.
func (p *peers) cold(id string, w warmth) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.byID[id]; s != nil {
		delete(s.idle, w)
	}
}

package egress

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	nameLife   = 30 * time.Second // what functions are told as TTL: the host's resolver tells none
	nameGrace  = 5 * time.Second  // between the answer and the connection
	noNameLife = 3 * time.Second
	maxNames   = 1024     // an environment remembers
	allNames   = 32 << 10 // all of them, a kilobyte each
	firstNames = 16       // of the reserve, for who has none: a function needs several at once
	maxFour    = 12       // addresses of an answer: more do not fit into 512 bytes beside a long name
	maxSix     = 8
)

// names are what a resolver gave one environment. Safe for concurrent use.
type names struct {
	room *share // of all that are remembered; nil: there is no end to it

	mu    sync.Mutex
	given map[string]given
}

// given is one name's answer.
type given struct {
	addrs []netip.Addr
	until time.Time
	part  bool // nobody answered for the other family
}

// know is the answer that is still good.
func (n *names) know(name string, now time.Time) (given, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.given[name]
	return g, ok && now.Before(g.until)
}

// give remembers an answer; false if there are too many.
func (n *names) give(name string, g given, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.given == nil {
		n.given = map[string]given{}
	}
	if _, known := n.given[name]; !known && !n.another() {
		for old, was := range n.given {
			if now.After(was.until.Add(nameGrace)) {
				n.drop(old)
			}
		}
		if !n.another() {
			return false
		}
	}
	n.given[name] = g
	return true
}

// another takes room for one more. The mutex is held.
func (n *names) another() bool {
	if len(n.given) >= maxNames {
		return false
	}
	return n.room == nil || n.room.take()
}

// drop forgets one. The mutex is held.
func (n *names) drop(name string) {
	delete(n.given, name)
	if n.room != nil {
		n.room.give(1)
	}
}

// forget forgets all.
func (n *names) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.given {
		n.drop(name)
	}
}

// gave reports whether a name leads to an address now.
func (n *names) gave(name string, addr netip.Addr, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.given[name]
	return ok && now.Before(g.until.Add(nameGrace)) && slices.Contains(g.addrs, addr)
}

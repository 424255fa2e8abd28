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
	maxNames   = 1024 // an environment remembers
	maxFour    = 12   // addresses of an answer: more do not fit into 512 bytes beside a long name
	maxSix     = 8
)

// names are what a resolver gave one environment. Safe for concurrent use.
type names struct {
	mu    sync.Mutex
	given map[string]given
}

// given is one name's answer.
type given struct {
	addrs []netip.Addr
	until time.Time
}

// know is the answer that is still good.
func (n *names) know(name string, now time.Time) (given, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.given[name]
	return g, ok && now.Before(g.until)
}

// give remembers an answer; false if there are too many.
func (n *names) give(name string, addrs []netip.Addr, until, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.given == nil {
		n.given = map[string]given{}
	}
	if _, known := n.given[name]; !known && len(n.given) >= maxNames {
		for old, g := range n.given {
			if now.After(g.until.Add(nameGrace)) {
				delete(n.given, old)
			}
		}
		if len(n.given) >= maxNames {
			return false
		}
	}
	n.given[name] = given{addrs, until}
	return true
}

// gave reports whether a name leads to an address now.
func (n *names) gave(name string, addr netip.Addr, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.given[name]
	return ok && now.Before(g.until.Add(nameGrace)) && slices.Contains(g.addrs, addr)
}

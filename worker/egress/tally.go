package egress

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/hearth-run/hearth/worker/driver"
)

// maxNews is how many refusals a report names. The others are counted.
const maxNews = 8

// tally counts what one environment does with its network. Safe for concurrent use.
type tally struct {
	// soon is told of a refusal that the next report names; nil: nobody.
	soon func()

	connections, flows, queries, failed, sent, received atomic.Int64

	mu      sync.Mutex
	refused map[driver.Refusal]int64
	news    []driver.Refused
	told    tallied // the last report
}

// tallied is what changes between reports.
type tallied struct{ connections, flows, queries, failed, sent, received, refused int64 }

// refuse counts a refusal, and names it in the next report if there is room.
func (t *tally) refuse(r driver.Refused) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refused == nil {
		t.refused = map[driver.Refusal]int64{}
	}
	t.refused[r.Why]++
	if t.soon != nil && len(t.news) < maxNews {
		defer t.soon()
	}
	for i := range t.news {
		if n := &t.news[i]; n.Why == r.Why && n.To == r.To && n.Name == r.Name {
			n.Times++
			return
		}
	}
	if len(t.news) < maxNews {
		r.Times = 1
		t.news = append(t.news, r)
		return
	}
	for i := range t.news {
		if t.news[i].Why == r.Why {
			t.news[i].Times++
			return
		}
	}
}

// report is all of it, and whether it is news.
func (t *tally) report() (driver.Traffic, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := tallied{connections: t.connections.Load(), flows: t.flows.Load(), queries: t.queries.Load(), failed: t.failed.Load(),
		sent: t.sent.Load(), received: t.received.Load()}
	for _, n := range t.refused {
		now.refused += n
	}
	r := driver.Traffic{Connections: now.connections, Flows: now.flows, Queries: now.queries, Failed: now.failed, Sent: now.sent,
		Received: now.received, Refused: maps.Clone(t.refused), News: t.news}
	changed := now != t.told
	t.told, t.news = now, nil
	return r, changed
}

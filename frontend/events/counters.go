package events

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// counters counts what happened since the start.
type counters struct {
	done, retries, dead, told atomic.Uint64
}

// Counters is a snapshot of what pollers counted since their start.
type Counters struct {
	Done    uint64 // events that ran to a good end
	Retries uint64 // tries that were put off
	Dead    uint64 // events that were put on DEADLETTERS
	Told    uint64 // records sent to destinations
	Running int    // events that run now
}

// Counters is a snapshot; its numbers are not all of the same instant.
func (p *Pollers) Counters() Counters {
	c := Counters{Done: p.count.done.Load(), Retries: p.count.retries.Load(), Dead: p.count.dead.Load(), Told: p.count.told.Load()}
	for _, f := range p.all() {
		c.Running += f.running()
	}
	return c
}

// rarely logs what may happen a thousand times a second, once in a while.
type rarely struct {
	mu   sync.Mutex
	next time.Time
	left int // unsaid since
}

const rarelyEvery = 10 * time.Second

func (r *rarely) log(log *slog.Logger, message string, args ...any) {
	now := time.Now()
	r.mu.Lock()
	if now.Before(r.next) {
		r.left++
		r.mu.Unlock()
		return
	}
	unsaid := r.left
	r.next, r.left = now.Add(rarelyEvery), 0
	r.mu.Unlock()
	log.Warn(message, append(args, "unsaid", unsaid)...)
}

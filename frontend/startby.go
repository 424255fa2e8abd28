package frontend

import (
	"context"
	"sync"
	"time"
)

const (
	slotTime = 20 * time.Millisecond // how exactly a start-by is kept
	slots    = 512                   // one turn of the wheel: 10.24 s, a little more than the default start-by
)

// wheel wakes calls at their start-by: a hashed timing wheel, so that a call costs one append and no timer of its own.
// A call that ended meanwhile costs one look-up when its slot comes. While the wheel is empty nothing ticks.
type wheel struct {
	begin time.Time
	wake  chan struct{} // holds one: the wheel is no longer empty

	mu    sync.Mutex
	slots [slots][]due
	count int
	next  int64 // the first slot that has not come yet
}

type due struct {
	token uint64
	slot  int64 // counted from begin, not from the turn
}

func newWheel() *wheel { return &wheel{begin: time.Now(), wake: make(chan struct{}, 1)} }

// add has fire called with the token once d has passed, and never before.
func (w *wheel) add(token uint64, d time.Duration) {
	slot := int64((time.Since(w.begin)+d)/slotTime) + 1
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		w.next = int64(time.Since(w.begin) / slotTime)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	slot = max(slot, w.next)
	w.slots[slot%slots] = append(w.slots[slot%slots], due{token, slot})
	w.count++
}

// run turns the wheel until ctx ends. turned is called at each turn, then fire for each token that is due: without a
// lock, on this goroutine; both may add.
func (w *wheel) run(ctx context.Context, turned func(), fire func(token uint64)) {
	ticker := time.NewTicker(slotTime)
	defer ticker.Stop()
	var ready []uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		empty := false
		ready, empty = w.turn(ready[:0])
		turned()
		for _, token := range ready {
			fire(token)
		}
		if !empty {
			continue
		}
		ticker.Stop()
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		ticker.Reset(slotTime)
	}
}

// turn appends what is due by now to ready, and reports whether nothing is left.
func (w *wheel) turn(ready []uint64) ([]uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := int64(time.Since(w.begin) / slotTime)
	from := max(w.next, now-slots+1) // a turn looks at every slot once, however long it was held up
	for at := from; at <= now; at++ {
		slot := &w.slots[at%slots]
		kept := (*slot)[:0]
		for _, d := range *slot {
			if d.slot <= now {
				ready = append(ready, d.token)
			} else {
				kept = append(kept, d)
			}
		}
		w.count -= len(*slot) - len(kept)
		*slot = kept
		if len(kept) == 0 && cap(kept) > 1024 {
			*slot = nil // a burst gives its memory back
		}
	}
	w.next = max(w.next, now+1)
	return ready, w.count == 0
}

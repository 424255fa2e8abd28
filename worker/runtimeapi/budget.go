package runtimeapi

import "sync"

// Budget bounds the bytes that bodies and logs of all environments of a worker hold at once. What does not fit waits in
// the order of asking, so that a large body is not overtaken for ever. A nil Budget is without bound. Safe for concurrent
// use. SECURITY 3.
type Budget struct {
	mu      sync.Mutex
	total   int64
	free    int64
	waiting []*claim // oldest first
}

type claim struct {
	bytes   int64
	granted chan struct{}
}

// NewBudget makes a budget of so many bytes.
func NewBudget(total int64) *Budget { return &Budget{total: total, free: total} }

// Acquire takes n bytes and waits for them until done is closed; it reports whether it has them. More than the whole
// budget is never had.
func (b *Budget) Acquire(n int64, done <-chan struct{}) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	if n > b.total {
		b.mu.Unlock()
		return false
	}
	if len(b.waiting) == 0 && n <= b.free {
		b.free -= n
		b.mu.Unlock()
		return true
	}
	c := &claim{bytes: n, granted: make(chan struct{})}
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()
	select {
	case <-c.granted:
		return true
	case <-done:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted:
		b.free += n
	default:
		for i, w := range b.waiting {
			if w == c {
				b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
				break
			}
		}
	}
	b.grant()
	return false
}

// Try takes n bytes if they are free and nobody waits.
func (b *Budget) Try(n int64) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || n > b.free {
		return false
	}
	b.free -= n
	return true
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	if b == nil || n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.grant()
}

// Used is how many bytes are taken.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total - b.free
}

// grant serves who waits, oldest first; b.mu is held.
func (b *Budget) grant() {
	for len(b.waiting) > 0 && b.waiting[0].bytes <= b.free {
		c := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.free -= c.bytes
		close(c.granted)
	}
}

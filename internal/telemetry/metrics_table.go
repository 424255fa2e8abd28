package telemetry

import "sync"

// Other is the name under which everything is told that has no place of its own. No function and no sub-tenant can have it.
const Other = "(other)"

// Table keeps numbers apart by a key, for so many keys at once, so that names which strangers choose cannot grow what is told
// without end. Keys beyond that share one row. Who counts under a key holds its row while it does, and finds it once; a row that
// nobody holds makes way for a new key where the table is full, and what it had counted goes to the shared one: sums stay what they
// are. It is safe for concurrent use.
type Table[K comparable, R any] struct {
	most int
	make func() *R
	fold func(into, from *R)

	mu    sync.Mutex
	rows  map[K]*Held[K, R]
	other *Held[K, R]
	// Rows that nobody holds, longest first.
	first, last *Held[K, R]
}

// Held is a row that somebody holds.
type Held[K comparable, R any] struct {
	Row *R

	key        K
	holders    int
	prev, next *Held[K, R] // of those that nobody holds
}

// NewTable makes a table of at most so many rows, and the shared one. fold adds the numbers of a row that goes.
func NewTable[K comparable, R any](most int, row func() *R, fold func(into, from *R)) *Table[K, R] {
	return &Table[K, R]{most: most, make: row, fold: fold, rows: make(map[K]*Held[K, R]), other: &Held[K, R]{Row: row()}}
}

// Hold gives the row of a key, for [Table.Release] to give back.
func (t *Table[K, R]) Hold(key K) *Held[K, R] {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.rows[key]
	if h == nil {
		if len(t.rows) >= t.most {
			if t.first == nil {
				return t.other
			}
			old := t.first
			t.unlist(old)
			delete(t.rows, old.key)
			t.fold(t.other.Row, old.Row)
		}
		h = &Held[K, R]{Row: t.make(), key: key}
		t.rows[key] = h
	} else if h.holders == 0 {
		t.unlist(h)
	}
	h.holders++
	return h
}

// Release says that nothing more is counted in a row that was held. nil is none.
func (t *Table[K, R]) Release(h *Held[K, R]) {
	if h == nil || h == t.other {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.holders--; h.holders > 0 {
		return
	}
	if h.prev = t.last; t.last != nil {
		t.last.next = h
	} else {
		t.first = h
	}
	t.last = h
}

func (t *Table[K, R]) unlist(h *Held[K, R]) {
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		t.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		t.last = h.prev
	}
	h.prev, h.next = nil, nil
}

// Rest is the shared row.
func (t *Table[K, R]) Rest() *R { return t.other.Row }

// Count does something in the row of a key, for who counts there seldom.
func (t *Table[K, R]) Count(key K, do func(*R)) {
	h := t.Hold(key)
	do(h.Row)
	t.Release(h)
}

// Each tells every row, the shared one last with other set. Rows may be counted in meanwhile; none comes or goes, or its numbers
// would be told twice or not at all, and sums that only grow would fall. tell must not wait.
func (t *Table[K, R]) Each(tell func(key K, other bool, row *R)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, h := range t.rows {
		tell(key, false, h.Row)
	}
	var none K
	tell(none, true, t.other.Row)
}

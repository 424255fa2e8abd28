package telemetry

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// Other is the name under which everything is told that has no place of its own. No function and no sub-tenant can have it.
const Other = "(other)"

// Table keeps numbers apart by a key, for so many keys at once, so that names which strangers choose cannot grow what is told
// without end. Keys beyond that share one row. Who counts under a key holds its row while it does, and finds it once. A row that was
// told keeps its place for the life of the process: were it added to the shared one, a rate over both would have it twice. A row that
// nobody holds and that nobody was told of makes way for a new key where the table is full, and what it had counted goes to the
// shared one. It is safe for concurrent use.
type Table[K comparable, R any] struct {
	most   int
	places *Places // nil: as many as it likes
	make   func() *R
	fold   func(into, from *R)

	mu    sync.Mutex
	rows  map[K]*Held[K, R]
	other *Held[K, R]
	spare list.List // of rows that nobody holds and that were never told, longest first
}

// Held is a row that somebody holds.
type Held[K comparable, R any] struct {
	Row *R

	key     K
	holders int
	told    bool
	place   *list.Element // among those that may go; nil: it is none
}

// Places are a bound that several tables have together, besides their own. It is safe for concurrent use.
type Places struct{ left atomic.Int64 }

// NewPlaces makes so many.
func NewPlaces(most int) *Places {
	p := &Places{}
	p.left.Store(int64(most))
	return p
}

func (p *Places) take() bool {
	if p == nil {
		return true
	}
	if p.left.Add(-1) >= 0 {
		return true
	}
	p.left.Add(1)
	return false
}

// NewTable makes a table of at most so many rows, and the shared one. fold adds the numbers of a row that goes.
func NewTable[K comparable, R any](most int, row func() *R, fold func(into, from *R)) *Table[K, R] {
	return &Table[K, R]{most: most, make: row, fold: fold, rows: make(map[K]*Held[K, R]), other: &Held[K, R]{Row: row()}}
}

// Within has each row of a new table take one of the places too. The shared row needs none.
func (t *Table[K, R]) Within(p *Places) *Table[K, R] {
	t.places = p
	return t
}

// Leave gives back the places of a table that is used no more.
func (t *Table[K, R]) Leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.places != nil {
		t.places.left.Add(int64(len(t.rows)))
		t.places = nil
	}
}

// Hold gives the row of a key, for [Table.Release] to give back.
func (t *Table[K, R]) Hold(key K) *Held[K, R] {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.rows[key]
	if h == nil {
		if len(t.rows) >= t.most || !t.places.take() {
			front := t.spare.Front()
			if front == nil {
				return t.other
			}
			old := t.spare.Remove(front).(*Held[K, R])
			delete(t.rows, old.key)
			t.fold(t.other.Row, old.Row)
		}
		h = &Held[K, R]{Row: t.make(), key: key}
		t.rows[key] = h
	}
	t.hold(h)
	return h
}

func (t *Table[K, R]) hold(h *Held[K, R]) {
	if h.place != nil {
		t.spare.Remove(h.place)
		h.place = nil
	}
	h.holders++
}

// Release says that nothing more is counted in a row that was held. nil is none.
func (t *Table[K, R]) Release(h *Held[K, R]) {
	if h == nil || h == t.other {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(h)
}

func (t *Table[K, R]) release(h *Held[K, R]) {
	if h.holders--; h.holders > 0 || h.told {
		return
	}
	h.place = t.spare.PushBack(h)
}

// Rest is the shared row.
func (t *Table[K, R]) Rest() *R { return t.other.Row }

// Count does something in the row of a key, for who counts there seldom.
func (t *Table[K, R]) Count(key K, do func(*R)) {
	h := t.Hold(key)
	do(h.Row)
	t.Release(h)
}

// Each tells every row, the shared one last with other set, and tell says whether it told anything of it. Rows may be counted in
// meanwhile, and come, for the table is not locked; none goes.
func (t *Table[K, R]) Each(tell func(key K, other bool, row *R) (told bool)) {
	t.mu.Lock()
	rows := make([]*Held[K, R], 0, len(t.rows))
	for e := t.spare.Front(); e != nil; e = e.Next() { // first, and in this order they are given back
		rows = append(rows, e.Value.(*Held[K, R]))
	}
	for _, h := range t.rows {
		if h.place == nil {
			rows = append(rows, h)
		}
	}
	for _, h := range rows {
		t.hold(h)
	}
	t.mu.Unlock()
	told := make([]bool, len(rows))
	for i, h := range rows {
		told[i] = tell(h.key, false, h.Row)
	}
	var none K
	tell(none, true, t.other.Row)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, h := range rows {
		h.told = h.told || told[i]
		t.release(h)
	}
}

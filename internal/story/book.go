package story

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
)

const (
	inline  = 6   // steps that a record holds by itself: those of a warm call at any node
	most    = 32  // steps of one call; the others are counted
	spare   = 8   // of these, for what is not one more delivery
	longest = 36  // bytes of a request id: it is a UUID
	page    = 500 // records that are made at once, when they are needed
	buckets = 1 << 14
	sameID  = 8 // calls of other functions or sub-tenants under one request id: its caller may use it again and again

	// generation is how many names are kept for the next calls of the same functions and sub-tenants, at least, and half of what is kept
	// at most: more names than there are records would be of calls that are told no more.
	generation = schema.StoriesKept
)

// Book is the stories of one node's last [schema.StoriesKept] calls. A nil one records nothing. It is safe for concurrent use.
//
// Records lie in a ring and are used again, oldest first; the index by request id is chains through the records. Pages of it are made
// as the first calls come, so that a node that takes none has none.
type Book struct {
	node schema.StoryNode
	seed maphash.Seed

	mu     sync.Mutex
	pages  [schema.StoriesKept / page]*[page]record
	first  [buckets]uint16 // of a chain: 1 + its slot; 0: none
	links  [schema.StoriesKept]link
	opened uint64            // records, ever
	names  map[string]string // of this generation
	older  map[string]string // and of the one before
	last   Of                // of the record that was opened last
}

// link is a record in its chain. Links lie beside one another, so that walking a chain does not touch the records.
type link struct {
	hash  uint32
	after uint16 // 1 + slot
}

// record is one call. It points to nothing but shared strings, and to the rest of its steps where there are many.
type record struct {
	turn     uint64 // of its opening, from 1 on; 0: never used
	length   uint8  // of id
	n        uint8  // steps
	left     uint32
	id       [longest]byte
	of       Of
	steps    [inline]Step
	overflow *[most - inline]Step
}

// Of says whose call it is.
type Of struct {
	Account, Function, Version, Tenant string
}

// NewBook makes the book of a node.
func NewBook(kind, id string) *Book {
	return &Book{
		node: schema.StoryNode{Kind: kind, ID: id, Clock: Clock()}, seed: maphash.MakeSeed(),
		names: make(map[string]string), older: make(map[string]string),
	}
}

// Call is where the steps of one call go. The zero value goes nowhere.
type Call struct {
	book *Book
	turn uint64
}

// Open begins the story of a call at this node, or goes on with it where this node knows the id already: of a claim that comes
// again, or a retry. Steps without a time get that of now.
func (b *Book) Open(id string, of Of, steps ...Step) Call {
	if b == nil || id == "" || len(id) > longest {
		return Call{}
	}
	now := time.Now().UnixNano()
	hash := b.hash(id)
	b.mu.Lock()
	r, full := b.find(hash, id, &of, sameID)
	if full {
		b.mu.Unlock()
		return Call{}
	}
	if r == nil {
		r = b.take(hash, id)
		r.of = b.keep(&of)
	} else if r.of.Version != of.Version {
		r.of.Version = b.share(of.Version)
	}
	for i := range steps {
		r.add(&steps[i], now)
	}
	c := Call{b, r.turn}
	b.mu.Unlock()
	return c
}

// Refuse is the story of a request that was refused at the door, under an id that its caller claims: it never goes on with a story that
// is there, for that may be another's.
func (b *Book) Refuse(id string, of Of, refused Step) {
	if b == nil || id == "" || len(id) > longest {
		return
	}
	now := time.Now().UnixNano()
	hash := b.hash(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, full := b.find(hash, id, &of, 1); r != nil || full {
		return
	}
	r := b.take(hash, id)
	r.of = b.keep(&of)
	r.add(&refused, now)
}

// Add tells what happened next. A call whose record has gone to another meanwhile tells nothing more.
func (c Call) Add(steps ...Step) {
	if c.book == nil {
		return
	}
	now := time.Now().UnixNano()
	c.book.mu.Lock()
	if r := c.book.at(uint16((c.turn - 1) % schema.StoriesKept)); r.turn == c.turn {
		for i := range steps {
			r.add(&steps[i], now)
		}
	}
	c.book.mu.Unlock()
}

func (r *record) add(s *Step, now int64) {
	if int(r.n) >= most-spare && s.Code.again() || r.n >= most {
		r.left++
		return
	}
	var at *Step
	if i := int(r.n); i < inline {
		at = &r.steps[i]
	} else {
		if r.overflow == nil {
			r.overflow = new([most - inline]Step) // more than a warm call has: the one allocation that there is
		}
		at = &r.overflow[i-inline]
	}
	*at = *s
	if at.At == 0 {
		at.At = now
	}
	r.n++
}

func (r *record) step(i int) *Step {
	if i < inline {
		return &r.steps[i]
	}
	return &r.overflow[i-inline]
}

// is reports whether a record is of this call. b.mu is held.
func (r *record) is(id string, of *Of) bool {
	return r.named(id) && r.of.Function == of.Function && r.of.Account == of.Account && r.of.Tenant == of.Tenant
}

func (r *record) named(id string) bool { return string(r.id[:r.length]) == id }

func (b *Book) hash(id string) uint32 { return uint32(maphash.String(b.seed, id)) }

func (b *Book) at(slot uint16) *record { return &b.pages[slot/page][slot%page] }

// find looks for the record of a call; full: there is none, and as many others under its id as there may be.
func (b *Book) find(hash uint32, id string, of *Of, most int) (found *record, full bool) {
	same := 0
	for next := b.first[hash%buckets]; next != 0; next = b.links[next-1].after {
		if b.links[next-1].hash != hash {
			continue
		}
		r := b.at(next - 1)
		if r.is(id, of) {
			return r, false
		}
		if r.named(id) {
			if same++; same == most {
				return nil, true
			}
		}
	}
	return nil, false
}

// take makes the oldest record one of this id.
func (b *Book) take(hash uint32, id string) *record {
	slot := uint16(b.opened % schema.StoriesKept)
	b.opened++
	if b.pages[slot/page] == nil {
		b.pages[slot/page] = new([page]record)
	}
	r := b.at(slot)
	if r.turn != 0 {
		b.unlink(slot)
	}
	r.turn, r.n, r.left, r.overflow = b.opened, 0, 0, nil
	r.length = uint8(copy(r.id[:], id))
	b.links[slot] = link{hash, b.first[hash%buckets]}
	b.first[hash%buckets] = slot + 1
	return r
}

func (b *Book) unlink(slot uint16) {
	for at := &b.first[b.links[slot].hash%buckets]; *at != 0; at = &b.links[*at-1].after {
		if *at == slot+1 {
			*at = b.links[slot].after
			return
		}
	}
}

// keep is whose call it is, in strings that live on. Calls of one function often follow one another.
func (b *Book) keep(of *Of) Of {
	if *of != b.last {
		b.last = Of{b.share(of.Account), b.share(of.Function), b.share(of.Version), b.share(of.Tenant)}
	}
	return b.last
}

// share gives a string that many calls have once for all of them: one that was cut out of a call's message would keep that alive. What
// was in use lately is found in one of two generations, the older of which is forgotten when the other is full.
func (b *Book) share(s string) string {
	if s == "" {
		return ""
	}
	if kept, ok := b.names[s]; ok {
		return kept
	}
	kept, ok := b.older[s]
	if !ok {
		kept = strings.Clone(s)
	}
	if len(b.names) >= generation {
		b.names, b.older = b.older, b.names
		clear(b.names)
	}
	b.names[kept] = kept
	return kept
}

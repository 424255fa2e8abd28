package tokens

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
)

// state is where a key stands; doc.go draws it.
type state string

const (
	waiting state = "next"
	signing state = "signing"
	retired state = "retired"
)

// key is one of the manager's keys. It is not changed but by ring.turn, on a copy.
type key struct {
	id      string
	private ed25519.PrivateKey
	state   state
	made    time.Time     // by the wall clock of then
	entered time.Duration // when it came to its state, on the clock that never jumps; of one that waits, when it was published
	known   bool          // entered is; else it is not published yet
}

// ring is a manager's keys, of which exactly one signs, and what bucket keys has of them. It decides without I/O.
type ring struct {
	keys      []key
	published schema.TokenKeysRecord
}

// signing is the key that signs.
func (r *ring) signing() *key {
	for i := range r.keys {
		if r.keys[i].state == signing {
			return &r.keys[i]
		}
	}
	return &key{}
}

// turn is the ring as the clocks have it now, and whether it is another.
func (r *ring) turn(mono time.Duration, wall time.Time, rotate time.Duration) (next ring, changed bool, err error) {
	next = ring{keys: slices.Clone(r.keys), published: r.published}
	before := len(next.keys)
	next.keys = slices.DeleteFunc(next.keys, func(k key) bool { return k.state == retired && mono-k.entered >= linger })
	changed = len(next.keys) != before
	ready := slices.IndexFunc(next.keys, func(k key) bool { return k.state == waiting && k.known && mono-k.entered >= settle })
	waits := slices.ContainsFunc(next.keys, func(k key) bool { return k.state == waiting })
	now := next.signing()
	switch {
	case now.id == "":
		k, err := newKey(signing, wall)
		if err != nil {
			return *r, false, err
		}
		k.entered, k.known = mono, true
		next.keys, changed = append(next.keys, k), true
	case ready >= 0:
		now.state, now.entered = retired, mono
		next.keys[ready].state, next.keys[ready].entered = signing, mono
		changed = true
	case !waits && len(next.keys) < schema.MaxTokenKeys && (mono-now.entered >= rotate || wall.Sub(now.made) >= rotate):
		k, err := newKey(waiting, wall)
		if err != nil {
			return *r, false, err
		}
		next.keys, changed = append(next.keys, k), true
	}
	return next, changed, nil
}

func newKey(s state, wall time.Time) (key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key{}, fmt.Errorf("make a key for tokens: %w", err)
	}
	return key{id: token.KeyID(public), private: private, state: s, made: wall.Round(0).UTC()}, nil
}

// record is what bucket keys should have, and whether what it has will not do: a time is near, or the clock has jumped.
func (r *ring) record(manager string, mono time.Duration, wall time.Time) (record schema.TokenKeysRecord, due bool) {
	record = schema.TokenKeysRecord{V: schema.Version, Manager: manager}
	for _, k := range r.keys {
		least, most := again, ahead
		if k.state == retired { // keeps the time that it was published for, which is at least that long after its last token
			most = linger - (mono - k.entered)
			least = most - look
		}
		until := r.until(k.id)
		if left := until.Sub(wall); left < least || left > ahead+look {
			until, due = wall.Add(most).Round(0).UTC(), true
		}
		record.Keys = append(record.Keys, schema.TokenKey{ID: k.id, Public: k.private.Public().(ed25519.PublicKey), Until: until})
	}
	return record, due
}

// until is for when a key is published, zero if it is not.
func (r *ring) until(id string) time.Time {
	for _, k := range r.published.Keys {
		if k.ID == id {
			return k.Until
		}
	}
	return time.Time{}
}

// wasPublished notes what bucket keys has.
func (r *ring) wasPublished(record schema.TokenKeysRecord, mono time.Duration) {
	r.published = record
	for i := range r.keys {
		if k := &r.keys[i]; !k.known {
			k.entered, k.known = mono, true
		}
	}
}

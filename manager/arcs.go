package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// The stored length of an unreserved arc is how many managers of the ring it has, two at least (DESIGN 5). Its catcher
// makes it longer by one where somebody behind it has room, once in a round of statuses; its last rank makes it shorter
// by one when it was not needed for a while. Both are compare-and-sets, so of several that want the same one does it.
const (
	arcCall = time.Second // for writing a length
)

// need is what is remembered of an arc to judge its length by. Manager.mu guards it.
type need struct {
	needed time.Time // when this manager was last needed in it, or came to it
	pace.Need
}

// grow makes an arc of this length longer by one manager.
func (m *Manager) grow(nn, length int) {
	if m.resize(nn, length, length+1) {
		m.count.grown.Add(1)
		m.log.Info("arc grows", "arc", subjects.UnreservedName(nn), "managers", length+1)
	}
}

// shrink makes those arcs shorter by this manager in which it stands last and was not needed for a while.
func (m *Manager) shrink() {
	v, now := m.view.Load(), time.Now()
	if v.ring == nil {
		return
	}
	used := make(map[string]bool)
	type last struct{ number, length int }
	var surplus []last
	m.mu.Lock()
	for g := range m.pool.Groups {
		if n := g.Counts; g.Waiting+n.Busy+n.Starting+n.Finishing+n.Promised > 0 {
			used[g.Spec.Arc] = true
		}
	}
	for _, a := range m.offers.arcs {
		switch {
		case a.opening != nil || a.rank < 0 || a.rank != a.length-1 || a.length <= subjects.UnreservedLength(v.ring.Len(), 0) || !m.offering:
		case used[a.name] || a.needed.IsZero():
			a.needed = now
		case now.Sub(a.needed) >= v.fabric.Quiet:
			surplus = append(surplus, last{a.number, a.length})
		}
	}
	m.mu.Unlock()
	for _, l := range surplus {
		m.spawn(func() {
			if m.resize(l.number, l.length, l.length-1) {
				m.count.shrunk.Add(1)
				m.log.Info("arc shrinks", "arc", subjects.UnreservedName(l.number), "managers", l.length-1)
			}
		})
	}
}

// resize stores a length for an arc, if this manager's view of it is the present one and its length this.
func (m *Manager) resize(nn, from, to int) bool {
	ctx, cancel := context.WithTimeoutCause(m.life, arcCall, errors.New("storing the length of an arc"))
	defer cancel()
	key := subjects.UnreservedName(nn)
	has, revision, ok := m.lengths.Get(key)
	if v := m.view.Load(); v.ring == nil || subjects.UnreservedLength(v.ring.Len(), has.Length) != from {
		return false
	}
	value, err := schema.Marshal(schema.ArcRecord{V: schema.Version, Length: to})
	if err == nil {
		if ok {
			_, err = m.stored.Update(ctx, key, value, revision)
		} else {
			_, err = m.stored.Create(ctx, key, value)
		}
	}
	if err != nil && !errors.Is(err, jetstream.ErrKeyExists) && ctx.Err() == nil {
		m.log.Warn("store the length of an arc", "arc", key, "error", fmt.Errorf("from %d to %d: %w", from, to, err))
	}
	return err == nil
}

package frontend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// view is what this frontend knows of the others: the ring and the numbers of the fabric as KV has them, and what
// managers and frontends tell of themselves. It is safe for concurrent use. Reads on the way of a call take no lock.
type view struct {
	fabric atomic.Pointer[schema.Fabric]
	ring   atomic.Pointer[schema.RingRecord]
	seen   atomic.Uint64 // highest revision of bucket functions that this frontend serves

	mu        sync.Mutex
	managers  map[string]*managerSeen
	frontends map[string]*frontendSeen
	arcs      map[part]*members  // of reserved arcs of which somebody tells, or whose record is known
	elsewhere map[string]*others // versions with a reservation, by "<function id>.<version>"
	departed  uint64             // tick at which a manager was last found gone, or another life of it
	changed   chan struct{}      // closed at the next change of a status
}

// managerSeen is one life of a manager as its statuses show it, in ticks of the connected clock.
type managerSeen struct {
	status schema.ManagerStatus // the last whole one, and what partial ones have changed since
	since  uint64               // first status of this life
	told   uint64               // last one
	whole  uint64               // last one that says all, with what was told before it
	missed bool                 // one since the last whole one
	beat   uint64               // last beat
	shares map[part]*share      // what it tells of reserved arcs
}

func newView() *view {
	v := &view{
		managers: make(map[string]*managerSeen), frontends: make(map[string]*frontendSeen), changed: make(chan struct{}),
		arcs: make(map[part]*members), elsewhere: make(map[string]*others),
	}
	fabric := schema.DefaultFabric()
	v.fabric.Store(&fabric)
	v.ring.Store(&schema.RingRecord{})
	return v
}

// largest is the capacity of the largest manager that tells its status, in places; 0 if none does.
func (v *view) largest() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	most := 0
	for _, m := range v.managers {
		most = max(most, m.status.Capacity)
	}
	return most
}

// deserted reports whether nobody on the ring takes new calls: those that leave it finish what they have and claim nothing more.
func (v *view) deserted() bool { return len(v.ring.Load().Members) == 0 }

// told takes in a manager's status. An older one than is known, as a second path could bring, is left aside, and so is what
// changed in a life of which the whole is not known yet.
func (v *view) told(s schema.ManagerStatus, tick uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.managers[s.ID]
	switch known := m != nil && m.status.Incarnation == s.Incarnation; {
	case known && s.Number < m.status.Number, !known && s.Partial:
		return
	case m == nil:
		m = &managerSeen{since: tick}
		v.managers[s.ID] = m
	case !known:
		v.unsum(m)
		*m = managerSeen{since: tick}
		v.departed = tick
	}
	m.told = tick
	v.sums(m, s.Arcs, s.Partial)
	if s.Partial {
		m.missed = m.missed || s.Number != m.status.Number+1
		if merge(&m.status, &s); s.Counted && !m.missed {
			m.whole = tick
		}
		return
	}
	m.status, m.whole, m.missed = s, tick, false
	v.notify()
}

// beat takes in that a manager told what it runs.
func (v *view) beat(manager string, tick uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m := v.managers[manager]; m != nil {
		m.beat = tick
	}
}

// lastBeat is the tick of a manager's last beat, 0 if there was none in this life of it.
func (v *view) lastBeat(manager string) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m := v.managers[manager]; m != nil {
		return m.beat
	}
	return 0
}

// tick forgets the managers that have been silent for two seconds, the length of their lease, takes those that told no whole
// status for one as idle, and forgets the frontends that have been silent for as long as counts.
func (v *view) tick(tick uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, m := range v.managers {
		switch {
		case tick-m.told >= twoSeconds:
			v.unsum(m)
			delete(v.managers, id)
			v.departed = tick
		case tick-m.whole >= oneSecond:
			m.silent()
		}
	}
	v.quiet(time.Now())
}

// spoke reports whether every manager of the ring has told its status well after the tick since, and each of them in
// the same life as at the tick published: what none of them names then was started by none of them.
func (v *view) spoke(since, published uint64) bool {
	ring := v.ring.Load()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.departed > published {
		return false
	}
	heard := func(id string) bool {
		m := v.managers[id]
		return m != nil && m.told > since+1 && m.since <= published
	}
	for _, ids := range [2][]string{ring.Members, ring.Leaving} {
		for _, id := range ids {
			if !heard(id) {
				return false
			}
		}
	}
	return true
}

// heard reports whether every manager that counts as alive has told its status well after the tick since.
func (v *view) heard(since uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.managers {
		if m.told <= since+1 {
			return false
		}
	}
	return true
}

// saw takes in that this frontend serves functions up to a revision.
func (v *view) saw(revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if revision > v.seen.Load() {
		v.seen.Store(revision)
		v.notify()
	}
}

// notify is called with mu held.
func (v *view) notify() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// round reports whether every manager on the ring has told a status.
func (v *view) round() bool {
	ring := v.ring.Load()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ring.Members {
		if v.managers[id] == nil {
			return false
		}
	}
	return true
}

// change is closed at the next change of a status.
func (v *view) change() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// behind names the live frontends, self included, that have not told a revision yet.
func (v *view) behind(self string, revision uint64) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ids []string
	if v.seen.Load() < revision {
		ids = append(ids, self)
	}
	now := time.Now()
	for id, f := range v.frontends {
		if id != self && f.status.Functions < revision && now.Sub(f.at) <= frontendSilence {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Ring is the ring as the controller wrote it last. The caller must not change its slices.
func (f *Frontend) Ring() schema.RingRecord { return *f.view.ring.Load() }

// Fabric is the numbers that all nodes share, as key fabric has them.
func (f *Frontend) Fabric() schema.Fabric { return *f.view.fabric.Load() }

// Managers are the last statuses of the managers that were heard within two seconds, by id.
func (f *Frontend) Managers() []schema.ManagerStatus {
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	ids := slices.Sorted(maps.Keys(f.view.managers))
	out := make([]schema.ManagerStatus, len(ids))
	for i, id := range ids {
		out[i] = f.view.managers[id].status
		out[i].Arcs = slices.Clone(out[i].Arcs) // partial statuses change them
	}
	return out
}

// Frontends are the ids of this frontend and of those that were heard within a second, sorted.
func (f *Frontend) Frontends() []string {
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	ids := []string{f.id}
	for id, other := range f.view.frontends {
		if id != f.id && time.Since(other.at) <= frontendSilence {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// places is the capacity of the managers that take calls.
func (v *view) places() (n int) {
	if v.deserted() {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.managers {
		if m.status.State == schema.MemberActive {
			n += m.status.Capacity
		}
	}
	return n
}

// ArcLength is the stored length of unreserved arc nn, 0 if none is stored.
func (f *Frontend) ArcLength(nn int) int {
	r, _, ok := f.watches.arcs.Get(arcKey(nn))
	if !ok {
		return 0
	}
	return r.Length
}

// Function is the record of a function as calls see it at this frontend, and its revision. The record is shared: read
// it only.
func (f *Frontend) Function(account, name string) (*schema.FunctionRecord, uint64, bool) {
	fn := f.functions.get(target{account, name})
	if fn == nil {
		return nil, 0, false
	}
	return fn.record, fn.revision, true
}

// WaitFunctions returns once every live frontend, this one included, has told that it serves bucket functions up to
// revision. Its error, when ctx ends first, names those that have not. DESIGN 9.
func (f *Frontend) WaitFunctions(ctx context.Context, revision uint64) error {
	silent := time.NewTicker(frontendSilence / 4) // frontends that fall silent leave without a word
	defer silent.Stop()
	for {
		change := f.view.change()
		behind := f.view.behind(f.id, revision)
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-change:
		case <-silent.C:
		case <-f.done:
			return errors.New("wait for frontends: this frontend has stopped")
		case <-ctx.Done():
			return fmt.Errorf("wait for frontends %v to serve revision %d of the functions: %w", behind, revision, context.Cause(ctx))
		}
	}
}

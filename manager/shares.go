package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Every manager knows its own share of each reservation, from the record, the ring and the fabric's T alone (DESIGN 5, 6), and
// gives it to the pool, which makes members up to it and lets go of idle ones above it:
//
//	record, ring, fabric, function ──► stake: Places, its own share ──► pool.SetShare
//	statuses of the managers of Places ──► held: what is above the share stays until the others hold theirs
//
// A shrinking limit needs nobody: the own share falls, and the others keep theirs. Where the ring moved a share away the members
// here are the reservation's until they are ready there.
const (
	holdEveryShare = 100 * time.Millisecond // holds are looked at again
	functionRead   = time.Second            // for a record that the watch has not brought
)

// shares are the members of reservations that this manager should have.
type shares struct {
	kick chan struct{}

	mu        sync.Mutex // guards what is to be looked at
	keys      map[string]bool
	functions map[string]bool
	all       bool

	byKey map[string][]*stake // by key of bucket reservations; the loop's

	byEpoch map[uint64]*stake // Manager.mu guards it, and stake.share, ring, lost and busy
	lost    int               // of these, those that can have no members
	ring    uint64            // epoch of the ring by which they were computed
}

// stake is this manager's part in one opening of a reservation.
type stake struct {
	key, arc, account, function, version string
	epoch                                uint64
	home                                 pool.Home
	spec                                 pool.Spec
	known                                bool // home and spec are
	kept                                 bool // it is to have members, and is not retired
	gone                                 bool // no record names it; it stands until the last of its members has gone
	stuck                                bool // the controller found nobody who can hold what lacks
	places                               []subjects.Place
	lost                                 string // why it can have no members, "" if it can
	share                                pool.Share
	toldBusy                                                  // of its members; of a function with sub-tenants: of the generic ones
	bound                                map[string]*toldBusy // of what was bound to each sub-tenant
}

// toldBusy is what is remembered of how many are busy.
type toldBusy = pace.Busy

// told is what was told of the environments of one home of a reservation.
func (h *stake) told(tenant string) *toldBusy {
	if tenant == "" {
		return &h.toldBusy
	}
	t := h.bound[tenant]
	if t == nil {
		if h.bound == nil {
			h.bound = make(map[string]*toldBusy)
		}
		t = &toldBusy{}
		h.bound[tenant] = t
	}
	return t
}

// forgetBound forgets what was told of sub-tenants that have nothing here any more.
func (m *Manager) forgetBound() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.shares.byEpoch {
		home := h.home
		for tenant := range h.bound {
			home.Tenant = tenant
			if _, ok := m.pool.Group(home); !ok {
				delete(h.bound, tenant)
			}
		}
	}
}

func newShares() shares {
	return shares{
		kick: make(chan struct{}, 1), keys: make(map[string]bool), functions: make(map[string]bool),
		byKey: make(map[string][]*stake), byEpoch: make(map[uint64]*stake),
	}
}

// changed has the shares of a key of bucket reservations looked at again.
func (s *shares) changed(key string) {
	s.mu.Lock()
	s.keys[key] = true
	s.mu.Unlock()
	signal(s.kick)
}

// again is changed that can wait for the next look at holds.
func (s *shares) again(key string) {
	s.mu.Lock()
	s.keys[key] = true
	s.mu.Unlock()
}

// functionChanged has those of a function looked at, by its key.
func (s *shares) functionChanged(key string) {
	s.mu.Lock()
	s.functions[key] = true
	s.mu.Unlock()
	signal(s.kick)
}

// ringChanged has all looked at.
func (s *shares) ringChanged() {
	s.mu.Lock()
	s.all = true
	s.mu.Unlock()
	signal(s.kick)
}

// take gives the keys that are to be looked at. all are those of the bucket.
func (s *shares) take(all func(yield func(key string))) map[string]bool {
	s.mu.Lock()
	keys, functions, every := s.keys, s.functions, s.all
	s.keys, s.functions, s.all = make(map[string]bool), make(map[string]bool), false
	s.mu.Unlock()
	if every || len(functions) > 0 {
		add := func(key string) {
			if every || functions[key[:max(0, strings.LastIndexByte(key, '.'))]] {
				keys[key] = true
			}
		}
		all(add)
		for key := range s.byKey {
			add(key)
		}
	}
	return keys
}

// sharesLoop keeps the pool's shares in line with what is watched.
func (m *Manager) sharesLoop(ctx context.Context) {
	tick := time.NewTicker(holdEveryShare)
	defer tick.Stop()
	for {
		m.shareAnew(ctx)
		m.reviewHolds()
		if m.draining.Load() {
			m.settled() // whoever leaves looks whether the others hold their shares
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.shares.kick:
		}
	}
}

// shareAnew computes the shares of what changed and gives them to the pool.
func (m *Manager) shareAnew(ctx context.Context) {
	v := m.view.Load()
	keys := m.shares.take(func(yield func(string)) {
		m.reservations.Range(func(key string, _ schema.ReservationRecord, _ uint64) bool { yield(key); return true })
	})
	for key := range keys {
		now, err := m.stakes(ctx, v, key)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Warn("read the function of a reservation", "key", key, "error", err)
			}
			m.shares.again(key)
			continue
		}
		m.hold(key, now)
	}
	m.mu.Lock()
	m.shares.ring = v.record.Epoch
	if len(keys) > 0 {
		m.shares.lost = 0
		for _, h := range m.shares.byEpoch {
			if h.lost != "" {
				m.shares.lost++
			}
		}
	}
	m.mu.Unlock()
	if len(keys) > 0 {
		m.offers.kick()
		m.tellSoon()
		m.settled()
	}
}

// stakes are this manager's parts in a record: in its present opening, and in those that close.
func (m *Manager) stakes(ctx context.Context, v *view, key string) ([]*stake, error) {
	rec, _, ok := m.reservations.Get(key)
	if !ok {
		return nil, nil
	}
	if key != subjects.ReservationKey(rec.Account, rec.Function, rec.Version) {
		m.log.Warn("leave aside a reservation that is not its key's", "key", key)
		return nil, nil
	}
	fn, ver, err := m.reserves(ctx, &rec)
	if err != nil {
		return nil, err
	}
	var all []*stake
	add := func(epoch uint64, shard int) *stake {
		h := &stake{
			key: key, arc: rec.Arc(epoch, shard).ArcName(), account: rec.Account, function: rec.Function, version: rec.Version, epoch: epoch,
			share: pool.Share{Draining: true},
		}
		if ver != nil {
			h.home = pool.Home{Key: schema.VersionKey(fn, ver, ""), Reservation: epoch}
			h.spec = pool.Spec{Account: rec.Account, Function: rec.Function, Arc: h.arc, Places: schema.Places(ver.MemoryMB), Tenants: fn.PerTenant}
			h.known = true
		}
		all = append(all, h)
		return h
	}
	for _, c := range rec.Closing {
		add(c.Epoch, c.Shard)
	}
	if rec.Epoch == 0 {
		return all, nil
	}
	h := add(rec.Epoch, rec.Shard)
	switch {
	case ver == nil:
		h.lost = fmt.Sprintf("function %q has no version %s that this reservation is for", rec.Function, rec.Version)
	case rec.Limit <= 0:
	case rec.State != schema.ReservationDraining:
		h.kept, h.stuck = true, rec.Failed != ""
		if v.ring != nil {
			h.places = v.ring.Places(nil, rec.Account, rec.Function, rec.Version, rec.Limit, v.fabric.T, rec.Skip)
		}
		h.share = pool.Share{Members: h.of(m.cfg.ID), Hold: !m.heldElsewhere(h)}
	case rec.Marker != 0: // asked for again while it drains: the controller decides whether it opens again, with what is left
		h.share = pool.Share{Hold: true}
	}
	return all, nil
}

// reserves is the function of a reservation and its version, nil if there is none. What the watch has not brought yet is read.
func (m *Manager) reserves(ctx context.Context, rec *schema.ReservationRecord) (*schema.FunctionRecord, *schema.VersionRecord, error) {
	find := func(fn *schema.FunctionRecord) *schema.VersionRecord {
		if fn.ID == rec.FunctionID {
			for i := range fn.Versions {
				if fn.Versions[i].Version == rec.Version {
					return &fn.Versions[i]
				}
			}
		}
		return nil
	}
	key := functionKey(rec.Account, rec.Function)
	if fn, _, ok := m.versions.cache.Get(key); ok {
		if ver := find(fn); ver != nil {
			return fn, ver, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, functionRead, errors.New("reading a function"))
	defer cancel()
	entry, err := m.versions.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read function %q: %w", rec.Function, err)
	}
	fn, err := decodeFunction(entry.Value())
	if err != nil {
		return nil, nil, fmt.Errorf("read function %q: %w", rec.Function, err)
	}
	return fn, find(fn), nil
}

// hold makes these the stakes of a key. Those that it had before and has no more drain.
func (m *Manager) hold(key string, now []*stake) {
	var ready pool.Plan[*claim]
	at := time.Now()
	m.mu.Lock()
	for _, h := range now {
		if was := m.shares.byEpoch[h.epoch]; was != nil {
			h.toldBusy, h.bound = was.toldBusy, was.bound
			if !h.known {
				h.home, h.spec, h.known = was.home, was.spec, was.known
			}
		}
		m.shares.byEpoch[h.epoch] = h
		m.setShare(at, h, &ready)
	}
	for _, was := range m.shares.byKey[key] {
		if m.shares.byEpoch[was.epoch] != was {
			continue
		}
		was.kept, was.gone, was.lost, was.share = false, true, "", pool.Share{Draining: true}
		m.setShare(at, was, &ready)
		if _, ok := m.pool.Group(was.home); ok && was.known {
			now = append(now, was)
		} else {
			delete(m.shares.byEpoch, was.epoch)
		}
	}
	m.mu.Unlock()
	if delete(m.shares.byKey, key); len(now) > 0 {
		m.shares.byKey[key] = now
	}
	m.carryOut(ready, nil)
}

// setShare gives a stake's share to the pool. Manager.mu is held.
func (m *Manager) setShare(now time.Time, h *stake, plan *pool.Plan[*claim]) {
	if !h.known {
		return
	}
	p := m.pool.SetShare(now, h.home, h.spec, h.share)
	plan.Make, plan.End = append(plan.Make, p.Make...), append(plan.End, p.End...)
}

// reviewHolds lets go of what was held for others that are ready by now, and holds what they lack again.
func (m *Manager) reviewHolds() {
	var surplus []*stake
	m.mu.Lock()
	for g := range m.pool.Above {
		if h := m.shares.byEpoch[g.Home.Reservation]; h != nil && h.kept && h.home == g.Home && g.Counts.Ready() > h.share.Members {
			surplus = append(surplus, h)
		}
	}
	for _, h := range m.shares.byEpoch {
		if !h.gone {
			continue // hardly any is: the others are not looked up
		}
		if _, ok := m.pool.Group(h.home); !ok {
			m.shares.again(h.key)
		}
	}
	m.mu.Unlock()
	for _, h := range surplus {
		hold := !m.heldElsewhere(h)
		m.mu.Lock()
		if m.shares.byEpoch[h.epoch] == h && h.share.Hold != hold {
			h.share.Hold = hold
			var plan pool.Plan[*claim]
			m.setShare(time.Now(), h, &plan)
			m.mu.Unlock()
			m.carryOut(plan, nil)
			continue
		}
		m.mu.Unlock()
	}
}

// of is a manager's share.
func (h *stake) of(manager string) int {
	for _, p := range h.places {
		if p.Manager == manager {
			return p.Share
		}
	}
	return 0
}

// heldElsewhere reports whether the other managers of a reservation tell that they hold their shares. With nobody on the ring
// nobody does.
func (m *Manager) heldElsewhere(h *stake) bool {
	if len(h.places) == 0 {
		return false
	}
	told := m.peers.members(h.arc, m.now())
	for _, p := range h.places {
		if p.Manager != m.cfg.ID && readyAt(told, p.Manager) < p.Share {
			return false
		}
	}
	return true
}

func readyAt(told []memberSeen, manager string) int {
	for i := range told {
		if told[i].Manager == manager {
			return told[i].Ready
		}
	}
	return 0
}

// tellLost adds to what is told of arcs why this one can have no members.
func (h *stake) tellLost(arcs []schema.ArcStatus) []schema.ArcStatus {
	for i := range arcs {
		if arcs[i].Arc == h.arc {
			arcs[i].Failed = h.lost
			return arcs
		}
	}
	return append(arcs, schema.ArcStatus{Arc: h.arc, Account: h.account, Function: h.function, Version: h.version, Failed: h.lost})
}

func (m *Manager) newReservations(ctx context.Context) error {
	kv, err := m.bucket(ctx, topology.Reservations)
	if err != nil {
		return err
	}
	m.reservations = watch.New(m.nc, kv, ">", decode[schema.ReservationRecord], m.log)
	m.reservations.OnChange(func(key string, rec schema.ReservationRecord, _ uint64, deleted bool) {
		m.reservationChanged(key, rec, deleted)
		m.shares.changed(key)
	})
	return nil
}

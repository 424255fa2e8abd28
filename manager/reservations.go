package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	keepersAtOnce = 16 // reservations that are worked at the same time
	keeperTick    = 500 * time.Millisecond
	keeperSteps   = 32 // of one reservation in a row, before others have their turn
	stepWait      = 2 * time.Second
	firstAgain    = 20 * time.Millisecond // pause after a step that failed, doubled up to lastAgain
	lastAgain     = 2 * time.Second
	lastHeld      = 250 * time.Millisecond // the same while an arc that closes still holds calls
	keeperAgain   = 500 * time.Millisecond // until the bucket is opened again
)

// keeper opens, keeps and retires the arcs of reservations while this manager is the controller. What is to be done next is
// decided in package reservation; the keeper does it (opening.go), one step at a time for each reservation and a few
// reservations at once, when a record, what the managers tell of it, or the ring changed, and looks after what nobody
// told (sweeper.go). It knows only what it saw itself: another one begins with nothing and finds the same.
type keeper struct {
	m     *Manager
	kv    jetstream.KeyValue
	cache *watch.Cache[schema.ReservationRecord]
	wake  chan struct{}
	sweep chan struct{}

	mu      sync.Mutex
	tasks   map[string]*task // by key
	queue   []*task          // to be worked now
	later   map[*task]bool   // to be worked when their pause is over
	running int
	seen    ringSeen
	barred  [subjects.MaxShards]bool // their streams are being deleted
	shards  [subjects.MaxShards]shardSeen
}

// ringSeen is what of ring and fabric the shares rest on.
type ringSeen struct {
	epoch     uint64
	t, vnodes int
}

func newKeeper(m *Manager) *keeper {
	return &keeper{
		m: m, wake: make(chan struct{}, 1), sweep: make(chan struct{}, 1), tasks: make(map[string]*task), later: make(map[*task]bool),
	}
}

// run works the reservations until ctx ends, and then waits for what it has begun.
func (k *keeper) run(ctx context.Context) {
	for k.start(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(keeperAgain/2 + k.m.jitter(keeperAgain/2)):
		}
	}
	defer k.cache.Stop()
	var workers conc.WaitGroup
	defer workers.Wait()
	workers.Go(func() { k.sweepLoop(ctx) })
	workers.Go(func() { k.homesLoop(ctx) })
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		for {
			t, next := k.pick()
			if t == nil {
				if next > 0 {
					pause.Reset(next)
				}
				break
			}
			workers.Go(func() { k.work(ctx, t) })
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-pause.C:
		case <-tick.C:
			k.unsettled()
		}
	}
}

// start opens the bucket and lists it.
func (k *keeper) start(ctx context.Context) error {
	kv, err := k.m.bucket(ctx, topology.Reservations)
	if err == nil {
		k.kv = kv
		k.cache = watch.New(k.m.nc, kv, ">", decode[schema.ReservationRecord], k.m.log)
		k.cache.OnChange(k.changed)
		err = k.cache.Start(ctx)
	}
	if err != nil && ctx.Err() == nil {
		k.m.log.Warn("watch the reservations", "error", err)
	}
	return err
}

// mark has a reservation worked. keeper.mu is held.
func (k *keeper) mark(t *task) {
	t.dirty = true
	if t.running || t.queued || t.rec == nil {
		return
	}
	if t.due > k.m.now() {
		k.later[t] = true
		signal(k.wake)
		return
	}
	delete(k.later, t)
	t.queued = true
	k.queue = append(k.queue, t)
	signal(k.wake)
}

// pick gives the next reservation to work, or when to ask again: 0 if that will be said.
func (k *keeper) pick() (t *task, next time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.m.now()
	for t := range k.later {
		switch {
		case t.due <= now:
			k.mark(t)
		case next == 0 || t.due-now < next:
			next = t.due - now
		}
	}
	for k.running < keepersAtOnce && len(k.queue) > 0 {
		t := k.queue[0]
		k.queue = k.queue[1:]
		t.queued = false
		if t.rec == nil {
			continue
		}
		t.running, t.dirty = true, false
		k.running++
		return t, 0
	}
	return nil, next
}

// work does steps for a reservation until there is nothing to do, or one has to be waited for.
func (k *keeper) work(ctx context.Context, t *task) {
	again := time.Duration(0)
	for range keeperSteps {
		step, ok := k.next(t)
		if !ok || ctx.Err() != nil {
			break
		}
		done, err := k.do(ctx, t, &step)
		if err != nil && ctx.Err() == nil {
			k.m.log.Warn("a step of a reservation", "reservation", t.key, "step", step.Act.String(), "epoch", step.Opening.Epoch, "error", err)
		}
		if err != nil || !done {
			again = lastAgain
			if err == nil {
				again = lastHeld
			}
			break
		}
		k.mu.Lock()
		t.failures = 0
		k.mu.Unlock()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	t.running, t.placing = false, 0
	if again > 0 {
		pause := min(firstAgain<<min(t.failures, 10), again)
		t.failures++
		t.due = k.m.now() + pause/2 + k.m.jitter(pause/2)
		t.dirty = true
	}
	switch {
	case t.rec == nil:
		delete(k.tasks, t.key)
	case t.dirty:
		k.mark(t)
	}
	signal(k.wake)
}

// decided is a step with the record that it was decided from. A write replaces that revision and no other: the watch may have
// told a newer one since, with a limit that the step knows nothing of.
type decided struct {
	reservation.Step
	rec      *schema.ReservationRecord
	revision uint64
}

// next asks what is to be done.
func (k *keeper) next(t *task) (d decided, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.rec == nil {
		return d, false
	}
	step := reservation.Next(t.rec, t.revision, k.facts(t))
	t.writing = step.Act == reservation.Write || step.Act == reservation.Remove
	return decided{step, t.rec, t.revision}, step.Act != reservation.Nothing
}

// facts is what is known beside a record. keeper.mu is held.
func (k *keeper) facts(t *task) *reservation.Facts {
	v, now, rec := k.m.view.Load(), k.m.now(), t.rec
	f := &reservation.Facts{
		Ring: v.ring, RingEpoch: v.record.Epoch, T: v.fabric.T, Members: make(map[uint64][]reservation.Member, 1+len(rec.Closing)),
		Sights: t.sights, Shard: func() (int, bool) { return k.place(t) }, Used: func() bool { return k.usedEpoch(t) },
		Told: k.m.peers.heard(now, v.record.Members...) && k.m.peers.heard(now, v.record.Leaving...),
	}
	tell := func(epoch uint64, shard int) {
		if epoch != 0 {
			f.Members[epoch] = told(k.m.peers.members(rec.Arc(epoch, shard).ArcName(), now))
		}
	}
	tell(rec.Epoch, rec.Shard)
	for _, c := range rec.Closing {
		tell(c.Epoch, c.Shard)
	}
	places, managers := k.m.peers.free(now)
	f.Free = fmt.Sprintf("%d places of 128 MB are free at %d managers", places, managers)
	return f
}

func told(seen []memberSeen) []reservation.Member {
	all := make([]reservation.Member, len(seen))
	for i, s := range seen {
		all[i] = reservation.Member{
			Manager: s.Manager, Share: s.Share, Ready: s.Ready, Busy: s.Busy + s.Bound, Starting: s.Starting, Unable: s.Unable, Failed: s.Failed,
		}
	}
	return all
}

// usedEpoch reports whether the revision of a record is the epoch of another one, as in a bucket that was put back. keeper.mu is
// held.
func (k *keeper) usedEpoch(t *task) bool {
	for _, other := range k.tasks {
		if other != t && other.rec != nil && reservation.Names(other.rec, t.revision) {
			return true
		}
	}
	return false
}

// place finds the lowest shard with a free place, which is then being taken. keeper.mu is held.
func (k *keeper) place(t *task) (int, bool) {
	var used reservation.Shards
	for _, other := range k.tasks {
		if other.rec != nil {
			used.Add(other.rec)
		}
		if other != t && other.placing > 0 {
			used.AddOne(other.placing - 1)
		}
	}
	shard, ok := used.Free(topology.ReservedArcs, func(shard int) bool { return k.barred[shard] })
	if ok {
		t.placing = shard + 1
	}
	return shard, ok
}

// unsettled has those worked that time alone may change: what a manager tells no more is not heard.
func (k *keeper) unsettled() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tasks {
		if r := t.rec; r != nil && (r.State != schema.ReservationActive || len(r.Closing) > 0 || r.Limit == 0) {
			k.mark(t)
		}
	}
}

// stirred hears that managers tell something else of these reserved arcs.
func (k *keeper) stirred(arcs []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, arc := range arcs {
		if key, ok := keyOfArc(arc); ok && k.tasks[key] != nil {
			k.mark(k.tasks[key])
		}
	}
}

// turned hears that the ring, or the fabric's numbers, may be others.
func (k *keeper) turned(v *view) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := ringSeen{v.record.Epoch, v.fabric.T, v.fabric.Vnodes}
	if now == k.seen {
		return
	}
	k.seen = now
	for _, t := range k.tasks {
		k.mark(t)
	}
}

var errNoStep = errors.New("a step that this build does not know")

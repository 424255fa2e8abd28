package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	sweepEvery = 2 * time.Second
	sweepWait  = 5 * time.Second // for one shard
	staleLease = time.Second     // since the lease was renewed: after it no stream is deleted
	emptyFor   = 5 * time.Second // that a stream was seen empty and unnamed before it is deleted
)

// shardSeen is what the last sweep saw of a shard's stream.
type shardSeen struct {
	there   bool
	created time.Time
	empty   time.Duration // since when it has been seen to hold nothing that a record names; 0: it is not so
}

// sweepLoop compares what stands in the streams of the shards with what the records say, now and again: nobody tells of a stream
// that was deleted by hand, or of what a slow controller made for an arc that is gone.
func (k *keeper) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for all := true; ; all = false {
		k.sweepAll(ctx, all)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.sweep:
		}
	}
}

// sweepAll looks at all shards, or at those that records name or that stood there the last time.
func (k *keeper) sweepAll(ctx context.Context, all bool) {
	var look [subjects.MaxShards]bool
	k.mu.Lock()
	var used reservation.Shards
	for _, t := range k.tasks {
		if t.rec != nil {
			used.Add(t.rec)
		}
	}
	for shard := range look {
		look[shard] = all || used[shard] > 0 || k.shards[shard].there
	}
	k.mu.Unlock()
	for shard, on := range look {
		if !on || ctx.Err() != nil {
			continue
		}
		if err := k.sweepShard(ctx, shard); err != nil && ctx.Err() == nil {
			k.m.log.Warn("sweep a shard of reserved arcs", "shard", shard, "error", err)
		}
	}
	k.compare(ctx)
}

// sweepShard looks at one shard.
func (k *keeper) sweepShard(ctx context.Context, shard int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepWait, errors.New("sweeping a shard of reserved arcs"))
	defer cancel()
	h, there, err := k.m.holds(ctx, k.m.names.CallsR(shard))
	if err != nil {
		return err
	}
	strays := k.judge(shard, h, there)
	for epoch := range strays {
		if err := k.sweepStray(ctx, shard, epoch, strays[epoch]); err != nil {
			return err
		}
	}
	if !k.rests(shard, there && len(strays) == 0 && h.messages == 0 && len(h.consumers) == 0) {
		return nil
	}
	return k.deleteShard(ctx, shard)
}

// rests reports whether the stream of a shard has been empty, and named by no record, for so long that nobody publishes to it any
// more whose view is behind: who does so while it is deleted hears nothing from the server.
func (k *keeper) rests(shard int, empty bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := &k.shards[shard]
	switch now := k.m.now(); {
	case !empty || k.used()[shard] > 0:
		seen.empty = 0
	case seen.empty == 0:
		seen.empty = now
	default:
		return now-seen.empty >= emptyFor
	}
	return false
}

// used counts the arcs in each shard, those that are about to be placed too. keeper.mu is held.
func (k *keeper) used() (used reservation.Shards) {
	for _, t := range k.tasks {
		if t.rec != nil {
			used.Add(t.rec)
		}
		if t.placing > 0 {
			used.AddOne(t.placing - 1)
		}
	}
	return used
}

// judge has the reservations worked whose arcs are not as they were seen, and gives what belongs to none: the subject of its
// calls or its marker by epoch, "" where only a consumer is there.
func (k *keeper) judge(shard int, h holding, there bool) (strays map[uint64]string) {
	names := k.m.names
	k.mu.Lock()
	defer k.mu.Unlock()
	anew := !there || k.shards[shard].created != h.created
	k.shards[shard].there, k.shards[shard].created = there, h.created
	named := make(map[uint64]string) // by epoch: the key of the reservation
	for _, t := range k.tasks {
		if t.rec == nil {
			continue
		}
		for _, c := range t.rec.Closing {
			named[c.Epoch] = t.key
		}
		named[t.rec.Epoch] = t.key
		seen := t.sights[t.rec.Epoch]
		if t.rec.Shard != shard || !seen.Looked {
			continue
		}
		rec := t.rec
		stands := h.subjects[names.ReservedMarker(shard, rec.Account, rec.Function, rec.Version, rec.Epoch)] > 0
		if anew || stands != (seen.Marker != 0) || h.consumers[names.ReservedDurable(rec.Epoch)] != seen.Consumer {
			t.sights[rec.Epoch] = seen.Doubted()
			k.mark(t)
		}
	}
	strays = make(map[uint64]string)
	for durable := range h.consumers {
		if epoch, ok := epochOf(durable); ok && named[epoch] == "" {
			strays[epoch] = ""
		}
	}
	for subject := range h.subjects {
		// Where a bucket was put back an epoch may come again, at another reservation.
		if arc, ok := k.parse(subject); ok && named[arc.Epoch] != subjects.ReservationKey(arc.Account, arc.Function, arc.Version) {
			strays[arc.Epoch] = subject
		}
	}
	return strays
}

// parse reads the subject of a call on a reserved arc, or of its marker.
func (k *keeper) parse(subject string) (subjects.ArcCall, bool) {
	prefix := k.m.names.Prefix()
	if rest, ok := strings.CutPrefix(subject, prefix+".open."); ok {
		subject = prefix + ".arc." + rest
	}
	arc, ok := k.m.names.ParseArc(subject)
	return arc, ok && arc.Reserved
}

func epochOf(durable string) (uint64, bool) {
	digits, ok := strings.CutPrefix(durable, "r-")
	epoch, err := strconv.ParseUint(digits, 10, 64)
	return epoch, ok && err == nil
}

// sweepStray removes what is left of an arc that no record names. What holds calls is put into a record: managers see it there,
// and take or move them.
func (k *keeper) sweepStray(ctx context.Context, shard int, epoch uint64, subject string) error {
	if subject == "" {
		c, err := k.m.js.Consumer(ctx, k.m.names.CallsR(shard), k.m.names.ReservedDurable(epoch))
		if err != nil {
			if is(err, errCodeNoConsumer, errCodeNoStream) {
				return nil
			}
			return err
		}
		subject = c.CachedInfo().Config.FilterSubject
	}
	arc, ok := k.parse(subject)
	if !ok || arc.Epoch != epoch || arc.Number != shard {
		return nil // somebody else's
	}
	// The record is read after the arc was seen: an opening that was named and is no more never comes back.
	key := subjects.ReservationKey(arc.Account, arc.Function, arc.Version)
	rec, revision, err := k.read(ctx, key)
	if err != nil || rec != nil && reservation.Names(rec, epoch) {
		return err
	}
	k.m.log.Info("what no reservation names is removed", "reservation", key, "shard", shard, "epoch", epoch)
	var seen reservation.Sight
	for {
		step := reservation.Stray(reservation.Opening{Epoch: epoch, Shard: shard}, seen)
		if step.Act == reservation.Nothing {
			break
		}
		found, err := k.onArc(ctx, step.Act, arc)
		if err != nil {
			return err
		}
		seen = seen.After(step.Act, found)
	}
	if !seen.Held {
		return nil
	}
	return k.adoptStray(ctx, key, arc, rec, revision)
}

// adoptStray puts an arc that holds calls among those that close in its record, or into a record of its own.
func (k *keeper) adoptStray(ctx context.Context, key string, arc subjects.ArcCall, rec *schema.ReservationRecord, revision uint64) error {
	was := rec
	if rec == nil {
		was = &schema.ReservationRecord{
			V: schema.Version, Account: arc.Account, Function: arc.Function, Version: arc.Version, State: schema.ReservationDraining,
		}
	}
	next, ok := reservation.Adopt(was, reservation.Opening{Epoch: arc.Epoch, Shard: arc.Number})
	if !ok {
		return nil // too many close; it is found again
	}
	next.Updated = time.Now().UTC()
	value, err := schema.Marshal(next)
	if err != nil {
		return err
	}
	if rec == nil {
		_, err = k.kv.Create(ctx, key, value)
	} else {
		_, err = k.kv.Update(ctx, key, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil // somebody was first; it is found again
	}
	return err
}

// deleteShard deletes the stream of a shard that has held nothing for a while and that no record names. Nothing on the server ties this to the
// records. So no place in it is given out meanwhile, and only who renewed the lease within a second does it: another one
// takes the lease two seconds after that at the earliest.
//
// What is left is a process that is stopped between that look and its request, for so long that another controller has taken a place
// in the shard meanwhile: JetStream has no delete with a condition. It is a stream deleted by hand then, and harms nothing that runs:
// its arcs are opened anew within a round, under their epochs, with markers above all of the lost stream (TestReservationsAfterARestart),
// so whoever publishes by an old one is refused and takes the unreserved arc (frontend, TestRefusedByItsReservedArc); and who waited
// in it is told that nobody took the call, which may be sent again (frontend, TestShardDeletedUnderCalls).
func (k *keeper) deleteShard(ctx context.Context, shard int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, staleLease/2, errors.New("deleting the stream of a shard"))
	defer cancel()
	k.mu.Lock()
	free := k.used()[shard] == 0
	k.barred[shard] = free
	k.mu.Unlock()
	if !free {
		return nil
	}
	defer func() {
		k.mu.Lock()
		k.barred[shard] = false
		k.mu.Unlock()
	}()
	h, there, err := k.m.holds(ctx, k.m.names.CallsR(shard))
	if err != nil || !there || h.messages > 0 || len(h.consumers) > 0 || k.m.now()-k.m.control.renewed.get() > staleLease {
		return err
	}
	if err := k.m.js.DeleteStream(ctx, k.m.names.CallsR(shard)); err != nil && !is(err, errCodeNoStream) {
		return fmt.Errorf("delete the stream of shard %d: %w", shard, err)
	}
	k.m.log.Info("a shard of reserved arcs is empty: its stream is deleted", "shard", shard)
	k.mu.Lock()
	k.shards[shard] = shardSeen{}
	k.mu.Unlock()
	return nil
}

// compare has records read anew that the bucket has shown in an older revision for a whole round: it was put back.
func (k *keeper) compare(ctx context.Context) {
	var back []*task
	k.mu.Lock()
	for key, t := range k.tasks {
		_, revision, ok := k.cache.Get(key)
		older := t.rec != nil && !t.running && (!ok || revision < t.revision)
		if older && t.behind {
			back = append(back, t)
		}
		t.behind = older
	}
	k.mu.Unlock()
	for _, t := range back {
		if err := k.reread(ctx, t); err != nil && ctx.Err() == nil {
			k.m.log.Warn("read a reservation anew", "reservation", t.key, "error", err)
		}
	}
}

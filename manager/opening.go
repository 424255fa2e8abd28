package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// do takes one step for a reservation. done is false where it has to be taken again later: the arc still holds calls.
func (k *keeper) do(ctx context.Context, t *task, step *decided) (done bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stepWait, errors.New("a step of a reservation"))
	defer cancel()
	switch step.Act {
	case reservation.Write:
		return true, k.write(ctx, t, step)
	case reservation.Remove:
		return true, k.remove(ctx, t, step)
	}
	found, err := k.onArc(ctx, step.Act, step.rec.Arc(step.Opening.Epoch, step.Opening.Shard))
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := t.sights[step.Opening.Epoch]
	if err != nil {
		t.sights[step.Opening.Epoch] = seen.Doubted()
		return false, err
	}
	t.sights[step.Opening.Epoch] = seen.After(step.Act, found)
	return step.Act != reservation.LookEmpty || found.Empty, nil
}

// onArc does something about an arc, and tells what it found.
func (k *keeper) onArc(ctx context.Context, act reservation.Act, arc subjects.ArcCall) (found reservation.Outcome, err error) {
	names, m := k.m.names, k.m
	stream, durable := names.CallsR(arc.Number), names.ReservedDurable(arc.Epoch)
	marker := names.ReservedMarker(arc.Number, arc.Account, arc.Function, arc.Version, arc.Epoch)
	calls := names.ReservedCall(arc.Number, arc.Account, arc.Function, arc.Version, arc.Epoch)
	switch act {
	case reservation.Look:
		last, err := m.lastOn(ctx, stream, marker)
		if err != nil {
			return found, err
		}
		found.Marker = last.Sequence
		found.Consumer, err = k.hasConsumer(ctx, stream, durable, calls)
		return found, err
	case reservation.MakeConsumer:
		err = topology.EnsureReservedArc(ctx, m.js, names, arc.Number, arc.Account, arc.Function, arc.Version, arc.Epoch)
		return found, err
	case reservation.PublishMarker:
		found.Marker, err = k.publishMarker(ctx, stream, marker)
		return found, err
	case reservation.PurgeMarker:
		return found, m.purge(ctx, stream, marker)
	case reservation.LookEmpty:
		last, err := m.lastOn(ctx, stream, calls)
		found.Empty = last.Sequence == 0
		return found, err
	case reservation.DeleteConsumer:
		if there, err := k.hasConsumer(ctx, stream, durable, calls); err != nil || !there {
			return found, err // one of another arc under its name is left
		}
		err := m.js.DeleteConsumer(ctx, stream, durable)
		if is(err, errCodeNoConsumer, errCodeNoStream) {
			err = nil
		}
		return found, err
	}
	return found, errNoStep
}

// hasConsumer reports whether the consumer of an arc is there. One of another arc under its name is none.
func (k *keeper) hasConsumer(ctx context.Context, stream, durable, calls string) (bool, error) {
	c, err := k.m.js.Consumer(ctx, stream, durable)
	switch {
	case is(err, errCodeNoConsumer, errCodeNoStream):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at consumer %s of stream %s: %w", durable, stream, err)
	}
	return c.CachedInfo().Config.FilterSubject == calls, nil
}

// publishMarker opens an arc, unless it is open: the sequence of the marker that stands.
func (k *keeper) publishMarker(ctx context.Context, stream, marker string) (uint64, error) {
	ack, err := k.m.js.Publish(ctx, marker, []byte(k.m.cfg.ID), jetstream.WithExpectLastSequencePerSubject(0),
		jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
	switch {
	case err == nil:
		return ack.Sequence, nil
	case !is(err, jetstream.JSErrCodeStreamWrongLastSequence):
		return 0, fmt.Errorf("publish marker %s: %w", marker, err)
	}
	last, err := k.m.lastOn(ctx, stream, marker)
	return last.Sequence, err
}

// write puts a record in the place of the one that it was decided from. Where another wrote meanwhile, that one is read.
func (k *keeper) write(ctx context.Context, t *task, step *decided) error {
	was, next := step.rec, step.Record
	next.V, next.Updated = schema.Version, time.Now().UTC()
	value, err := schema.Marshal(next)
	if err != nil {
		k.wrote(t, nil, 0)
		return err
	}
	revision, err := k.kv.Update(ctx, t.key, value, step.revision)
	if err != nil {
		k.wrote(t, nil, 0)
		return k.conflict(ctx, t, err)
	}
	k.wrote(t, &next, revision)
	if was.State != next.State || was.Epoch != next.Epoch || was.Marker != next.Marker || was.Failed != next.Failed {
		k.m.log.Info("reservation", "reservation", t.key, "state", string(next.State), "limit", next.Limit, "epoch", next.Epoch,
			"shard", next.Shard, "closing", len(next.Closing), "skip", strings.Join(next.Skip, ","), "failed", next.Failed)
	}
	return nil
}

// goneFor is how long the marker of a reservation that is gone stays in the bucket. Whoever watches has seen it by then, or lists anew
// and finds no key; names come and go, and their markers would pile up.
const goneFor = time.Hour

// remove ends a reservation.
func (k *keeper) remove(ctx context.Context, t *task, step *decided) error {
	err := k.kv.Purge(ctx, t.key, jetstream.LastRevision(step.revision), jetstream.PurgeTTL(goneFor))
	k.mu.Lock()
	if err == nil {
		t.rec = nil
	}
	k.mu.Unlock()
	k.wrote(t, nil, 0)
	if err != nil {
		return k.conflict(ctx, t, err)
	}
	k.m.log.Info("reservation gone", "reservation", t.key)
	signal(k.sweep) // the stream of its shard may be empty
	return nil
}

// conflict reads the record anew after a write that failed, whether another wrote first or the answer was lost.
func (k *keeper) conflict(ctx context.Context, t *task, err error) error {
	if !errors.Is(err, jetstream.ErrKeyExists) && !is(err, jetstream.JSErrCodeStreamWrongLastSequence) {
		return errors.Join(err, k.reread(ctx, t))
	}
	return k.reread(ctx, t)
}

// reread takes in the record as the bucket has it now. What the watch tells while the answer is on its way may be newer than that, and
// is not told again.
func (k *keeper) reread(ctx context.Context, t *task) error {
	k.mu.Lock()
	before := t.revision
	k.mu.Unlock()
	rec, revision, err := k.read(ctx, t.key)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answered(t, before, rec, revision)
	return nil
}

// answered takes in what the bucket answered to a question that was asked when before was the task's revision; rec is nil where there is
// no key. keeper.mu is held.
func (k *keeper) answered(t *task, before uint64, rec *schema.ReservationRecord, revision uint64) {
	switch {
	case t.revision != before && revision <= t.revision:
	case rec == nil:
		k.drop(t)
	case revision != t.revision:
		k.adopt(t, rec, revision)
	}
}

// read asks the bucket's leader for a record; nil if there is none.
func (k *keeper) read(ctx context.Context, key string) (*schema.ReservationRecord, uint64, error) {
	names := k.m.names
	subject := "$KV." + names.Bucket(topology.Reservations) + "." + key
	last, err := k.m.lastOn(ctx, topology.BucketStream(names, topology.Reservations), subject)
	if err != nil || last.Sequence == 0 || last.removed() {
		return nil, last.Sequence, err
	}
	rec, err := decode[schema.ReservationRecord](last.Data)
	if err != nil {
		return nil, 0, fmt.Errorf("read reservation %s: %w", key, err)
	}
	return &rec, last.Sequence, nil
}

// keyOfArc is the key of the reservation whose arc has this short name.
func keyOfArc(arc string) (string, bool) {
	part := strings.Split(arc, ".")
	if len(part) != 6 || part[0] != "r" {
		return "", false
	}
	return strings.Join(part[2:5], "."), true
}

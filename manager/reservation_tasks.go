package manager

import (
	"time"

	"github.com/hearth-run/hearth/manager/reservation"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// task is one reservation. keeper.mu guards it; while it runs, one worker alone changes rec and revision by what it wrote.
type task struct {
	key      string
	rec      *schema.ReservationRecord // nil: there is no key
	revision uint64
	sights   map[uint64]reservation.Sight
	placing  int // 1 + the shard that it is about to take a place of; 0: none

	running, dirty, queued bool
	failures               int
	due                    time.Duration
	behind                 bool // the bucket shows an older revision

	writing bool         // a write is on its way: what the watch tells waits until it is known which revision that one is
	heard   *recordHeard // the last thing that it told meanwhile
}

// recordHeard is what the watch told of a record; rec is nil where the key is gone.
type recordHeard struct {
	rec      *schema.ReservationRecord
	revision uint64
}

// changed hears of a record.
func (k *keeper) changed(key string, rec schema.ReservationRecord, revision uint64, deleted bool) {
	h := &recordHeard{&rec, revision}
	if deleted {
		h.rec = nil
	} else if subjects.ReservationKey(rec.Account, rec.Function, rec.Version) != key {
		k.m.log.Error("a reservation under another's key is left alone", "key", key, "account", rec.Account, "function", rec.Function)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tasks[key]
	switch {
	case t != nil && t.writing:
		t.heard = h
	case t != nil:
		k.take(t, h)
	case !deleted:
		t = &task{key: key, sights: make(map[uint64]reservation.Sight)}
		k.tasks[key] = t
		k.adopt(t, h.rec, revision)
	}
}

// take takes in what the watch told, unless it is what this keeper wrote itself, or was before that. keeper.mu is held.
func (k *keeper) take(t *task, h *recordHeard) {
	switch {
	case h.revision <= t.revision:
	case h.rec == nil:
		t.revision = h.revision
		k.drop(t)
	default:
		k.adopt(t, h.rec, h.revision)
	}
}

// wrote ends a write, with the record and revision that it made, nil if none.
func (k *keeper) wrote(t *task, rec *schema.ReservationRecord, revision uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.writing, t.placing = false, 0
	if rec != nil {
		t.rec, t.revision, t.behind = rec, revision, false
		k.stands(rec)
		for epoch := range t.sights {
			if !reservation.Names(rec, epoch) {
				delete(t.sights, epoch)
			}
		}
	}
	if h := t.heard; h != nil {
		t.heard = nil
		k.take(t, h)
	}
}

// adopt takes in a record that another wrote. What was seen of its arcs is doubted. keeper.mu is held.
func (k *keeper) adopt(t *task, rec *schema.ReservationRecord, revision uint64) {
	t.rec, t.revision, t.behind = rec, revision, false
	k.stands(rec)
	for epoch, seen := range t.sights {
		t.sights[epoch] = seen.Doubted()
	}
	k.mark(t)
}

// stands notes that a record names a shard: its stream is looked at until it is gone, also when the record goes before. keeper.mu
// is held.
func (k *keeper) stands(rec *schema.ReservationRecord) {
	if rec.Epoch != 0 && rec.Shard >= 0 && rec.Shard < len(k.shards) {
		k.shards[rec.Shard].there = true
	}
}

// drop forgets a reservation whose key is gone. keeper.mu is held.
func (k *keeper) drop(t *task) {
	t.rec = nil
	if !t.running {
		delete(k.tasks, t.key)
		delete(k.later, t)
	}
}

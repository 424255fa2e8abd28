package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

// The lease is a key of bucket members, renewed by compare-and-set, that ends by the bucket's TTL. The manager puts it for the
// worker ([Streams]): without one there is no lease, and nobody to serve. Nothing reads it here: a put that is refused says which
// message stands there, and whether somebody else renews it shows by its moving on. (One move may be the marker of a lease that
// ended.)
//
//	absent ── put ──► held ── put refused ──► another's ── it stands still for 1.5 s ──► held
const (
	leaseEvery = 500 * time.Millisecond
	leaseCall  = time.Second             // for one put
	leaseQuiet = 1500 * time.Millisecond // a lease that nobody renewed for so long is nobody's: three renewals
	leaseMoves = 3                       // and one that moved as often is somebody's
	leaseLook  = leaseEvery / 5
)

type lease struct {
	streams *Streams
	id      string

	mu       sync.Mutex // guards what follows
	has      bool
	revision uint64    // the last message of the key that is known; of ours if it has it
	since    time.Time // when that was first seen
	moves    int       // of what another writes, since it was ours
}

func (l *lease) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.has
}

// put renews the lease, or takes it if it may be taken. An error is that of the server, not another holder.
func (l *lease) put(ctx context.Context, value []byte) error {
	l.mu.Lock()
	has, expected := l.has, l.revision
	if !has && time.Since(l.since) < leaseQuiet {
		expected = 0 // succeeds where there is nothing; else it tells what stands there
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, leaseCall, errors.New("waiting for the lease"))
	defer cancel()
	sequence, err := l.streams.putLease(ctx, value, expected)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.has, l.revision, l.since, l.moves = true, sequence, time.Now(), 0
		return nil
	}
	stands, refused := wrongLast(err)
	switch {
	case !refused:
		return err
	case stands == unknown:
		return nil // another put of the key is on its way in a cluster: the next one tells
	}
	if has || stands != l.revision {
		if !has && l.revision != 0 {
			l.moves++
		}
		l.has, l.revision, l.since = false, stands, time.Now()
	}
	if stands == 0 {
		l.since = time.Time{} // nothing stands there: it is free
	}
	return nil
}

// unknown is no sequence: the server said no more than that another message stands there.
const (
	unknown                 = ^uint64(0)
	errWrongLastSequenceAny = 10164 // JSStreamWrongLastSequenceConstantErr of nats-server
)

// wrongLast reads the answer of a put that expected another last message: "wrong last sequence: 12".
func wrongLast(err error) (stands uint64, ok bool) {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == errWrongLastSequenceAny {
		return unknown, true
	}
	if api == nil || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, false
	}
	at := strings.LastIndexByte(api.Description, ' ')
	stands, bad := strconv.ParseUint(api.Description[at+1:], 10, 64)
	return stands, bad == nil
}

// join takes the lease. One that is held is watched until it is seen to be somebody's, or nobody's. Where the manager is not there
// it is taken later: the error is [nats.ErrNoResponders].
func (l *lease) join(ctx context.Context, record func() ([]byte, error)) error {
	tick := time.NewTicker(leaseLook)
	defer tick.Stop()
	for {
		value, err := record()
		if err == nil {
			err = l.put(ctx, value)
		}
		if err != nil {
			return fmt.Errorf("take the lease of worker %s: %w", l.id, err)
		}
		l.mu.Lock()
		has, moves := l.has, l.moves
		l.mu.Unlock()
		switch {
		case has:
			return nil
		case moves >= leaseMoves:
			return schema.Errorf(schema.CodeConflict, "worker id %q is held by another process: choose another with --id", l.id)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lease of worker %s: %w", l.id, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// keep renews the lease until ctx ends. While another holds it, this worker asks for no session; the one that it has ends when
// the manager hears of the other. absent is told each time that there is no manager.
func (l *lease) keep(ctx context.Context, record func() ([]byte, error), absent func(), log *slog.Logger) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for fenced := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		value, err := record()
		if err == nil {
			err = l.put(ctx, value)
		}
		switch {
		case err == nil:
		case errors.Is(err, nats.ErrNoResponders):
			absent()
			continue
		default:
			if ctx.Err() == nil {
				log.Warn("renew the lease", "error", err)
			}
			continue
		}
		l.mu.Lock()
		others := !l.has && l.moves >= leaseMoves
		l.mu.Unlock()
		if others && !fenced {
			log.Error("another process holds this worker's id: no session is asked for until it has gone")
		}
		fenced = others
	}
}

// drop gives the lease up, if it is held.
func (l *lease) drop(ctx context.Context) error {
	l.mu.Lock()
	has, revision := l.has, l.revision
	l.has = false
	l.mu.Unlock()
	if !has {
		return nil
	}
	_, err := l.streams.putLease(ctx, nil, revision)
	if _, refused := wrongLast(err); err != nil && !refused && !errors.Is(err, nats.ErrNoResponders) { // without a manager it ends by itself
		return fmt.Errorf("give up the lease of worker %s: %w", l.id, err)
	}
	return nil
}

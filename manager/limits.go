package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// Bucket limits: who holds how many permits of a cap. A record is read from the bucket's leader and written at the revision that was
// read. One that says nothing any more, and the windows of growth, are given a time to live: names come and go.
const limitKept = time.Minute

// write stores that this manager holds so many and up to so many more, as the limit lets it, and gives how many more, how many this
// manager has too many, its part of what is there beyond the limit, and who else holds some. It is done while the lease surely stands,
// so that nobody had voided the holding when it was written.
func (p *permits) write(key string, held, more, limit int) (granted, over int, others []string, err error) {
	ctx, cancel := context.WithTimeoutCause(p.m.life, permitWait, errors.New("waiting for bucket limits"))
	defer cancel()
	for try := range permitTries {
		if err := p.awaitLease(ctx); err != nil {
			return 0, 0, nil, err
		}
		rec, revision, err := p.readLimits(ctx, key)
		if err != nil {
			return 0, 0, nil, err
		}
		elsewhere := rec.Others(p.m.cfg.ID)
		if elsewhere+held+more > limit && elsewhere > 0 && p.bury(ctx, &rec) {
			elsewhere = rec.Others(p.m.cfg.ID)
		}
		granted, over = max(0, min(more, limit-elsewhere-held)), part(elsewhere+held-limit, held, elsewhere)
		if rec.Set(p.m.cfg.ID, p.m.incarnation, held+granted) {
			err = p.writeLimits(ctx, key, rec, revision)
		}
		switch {
		case err == nil && p.m.leased():
			return granted, over, holders(&rec, p.m.cfg.ID), nil
		case err != nil && !errors.Is(err, jetstream.ErrKeyExists):
			return 0, 0, nil, err
		}
		if err := p.m.pause(ctx, try); err != nil {
			return 0, 0, nil, err
		}
	}
	return 0, 0, nil, fmt.Errorf("key %s of bucket limits is changed by others all the time", key)
}

// part is how many of what is too many go at a manager with so many of them: all managers together as many as it takes, or a few
// more.
func part(excess, here, elsewhere int) int {
	if excess <= 0 || here <= 0 {
		return 0
	}
	all := here + elsewhere
	return min(here, (excess*here+all-1)/all)
}

// unwrite takes this manager's holding out of a cap that is none any more.
func (p *permits) unwrite(key string) error {
	ctx, cancel := context.WithTimeoutCause(p.m.life, permitWait, errors.New("waiting for bucket limits"))
	defer cancel()
	for try := range permitTries {
		rec, revision, err := p.readLimits(ctx, key)
		if err != nil || !rec.Set(p.m.cfg.ID, p.m.incarnation, 0) {
			return err
		}
		if err = p.writeLimits(ctx, key, rec, revision); !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		if err := p.m.pause(ctx, try); err != nil {
			return err
		}
	}
	return fmt.Errorf("key %s of bucket limits is changed by others all the time", key)
}

// awaitLease waits until this manager's lease surely stands.
func (p *permits) awaitLease(ctx context.Context) error {
	for try := 0; !p.m.leased(); try++ {
		if err := p.m.pause(ctx, try); err != nil {
			return fmt.Errorf("wait for the lease to be renewed: %w", err)
		}
	}
	return nil
}

// leased reports whether this manager's lease surely stands: the server ends it no sooner than its TTL after the renewal was sent.
func (m *Manager) leased() bool { return m.now()-m.renewed.get() < topology.LeaseTTL }

// bury voids the holdings of managers whose lease ended, and of earlier lives, and reports whether there were any. The leader is
// asked: a replica that is behind does not know the lease of one that has just come.
func (p *permits) bury(ctx context.Context, rec *schema.LimitRecord) (any bool) {
	for id, h := range rec.Held {
		if id == p.m.cfg.ID {
			continue
		}
		last, err := p.m.lastOf(ctx, topology.Members, memberKey(id))
		dead := err == nil && (last.Sequence == 0 || last.removed())
		if err == nil && !dead {
			var member schema.MemberRecord
			dead = schema.Unmarshal(last.Data, &member) == nil && member.Incarnation != h.Incarnation
		}
		if dead {
			delete(rec.Held, id)
			any = true
		}
	}
	return any
}

// lastOf is the last entry of a key, as the bucket's leader has it; its sequence is 0 if there is none.
func (m *Manager) lastOf(ctx context.Context, bucket, key string) (stored, error) {
	return m.lastOn(ctx, topology.BucketStream(m.names, bucket), "$KV."+m.names.Bucket(bucket)+"."+key)
}

// readLimits reads a record and the revision at which it may be written, also where there is none.
func (p *permits) readLimits(ctx context.Context, key string) (rec schema.LimitRecord, revision uint64, err error) {
	rec.V = schema.Version
	last, err := p.m.lastOf(ctx, topology.Limits, key)
	if err != nil {
		return rec, 0, fmt.Errorf("read key %s of bucket limits: %w", key, err)
	}
	if last.Sequence == 0 || last.removed() {
		return rec, last.Sequence, nil
	}
	if err := schema.Unmarshal(last.Data, &rec); err != nil {
		return rec, 0, fmt.Errorf("read key %s of bucket limits: %w", key, err)
	}
	return rec, last.Sequence, nil
}

// writeLimits stores a record at the revision that it was read at. Somebody else's change is [jetstream.ErrKeyExists].
func (p *permits) writeLimits(ctx context.Context, key string, rec schema.LimitRecord, revision uint64) error {
	value, err := schema.Marshal(rec)
	if err != nil {
		return err
	}
	options := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithRetryAttempts(0)}
	if len(rec.Held) == 0 {
		options = append(options, jetstream.WithMsgTTL(limitKept))
	}
	_, err = p.m.js.Publish(ctx, "$KV."+p.m.names.Bucket(topology.Limits)+"."+key, value, options...)
	switch {
	case is(err, jetstream.JSErrCodeStreamWrongLastSequence):
		return jetstream.ErrKeyExists
	case err != nil:
		return fmt.Errorf("write key %s of bucket limits: %w", key, err)
	}
	return nil
}

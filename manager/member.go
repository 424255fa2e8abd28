package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Leases in bucket members live for topology.LeaseTTL after their last renewal.
const (
	leaseEvery = 500 * time.Millisecond
	leaseHeld  = 3 * time.Second // how long a new manager watches a lease that is held
	leaseCall  = time.Second     // for one request about it
)

// lease is one key of bucket members that this manager holds, or wants to. It belongs to one goroutine at a time.
type lease struct {
	kv       jetstream.KeyValue
	key      string
	mine     func(value []byte) bool // whether the one who holds it by this value is this manager
	revision uint64                  // 0: not held
	unheard  bool                    // how the last put ended is not known: it may hold another revision
}

// put renews the lease, or takes it if nobody has it. held is false if another has it.
func (l *lease) put(ctx context.Context, value []byte) (held bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaseCall, errors.New("waiting for a lease"))
	defer cancel()
	defer func() { l.unheard = err != nil }()
	if l.revision != 0 {
		revision, err := l.kv.Update(ctx, l.key, value, l.revision)
		if err == nil {
			l.revision = revision
			return true, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return true, err // it did not answer; what it thinks is seen next time
		}
		l.revision = 0 // expired, or another's
	}
	entry, err := l.kv.Get(ctx, l.key)
	switch {
	case err == nil && l.mine(entry.Value()):
		revision, err := l.kv.Update(ctx, l.key, value, entry.Revision())
		if err == nil {
			l.revision = revision
		}
		return err == nil, err
	case err == nil:
		return false, nil
	case !errors.Is(err, jetstream.ErrKeyNotFound) && !errors.Is(err, jetstream.ErrKeyDeleted):
		return false, err
	}
	revision, err := l.kv.Create(ctx, l.key, value)
	if err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			return false, nil
		}
		return false, err
	}
	l.revision = revision
	return true, nil
}

// drop gives the lease up, if it is held: also where the last put was cut off before its answer came, as Stop cuts one off.
func (l *lease) drop(ctx context.Context) error {
	revision, doubt := l.revision, l.unheard
	l.revision, l.unheard = 0, false
	for {
		if doubt {
			var err error
			if revision, err = l.held(ctx); err != nil {
				return fmt.Errorf("look who holds lease %s: %w", l.key, err)
			}
		}
		if revision == 0 {
			return nil
		}
		err := l.kv.Delete(ctx, l.key, jetstream.LastRevision(revision))
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("give up lease %s: %w", l.key, err)
		}
		doubt = true // it ended, or that put was done only now
	}
}

// held is the revision at which this manager holds the lease, 0 if it does not.
func (l *lease) held(ctx context.Context) (uint64, error) {
	entry, err := l.kv.Get(ctx, l.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted):
		return 0, nil
	case err != nil:
		return 0, err
	case !l.mine(entry.Value()):
		return 0, nil
	}
	return entry.Revision(), nil
}

var errHeld = errors.New("the id's lease is held")

func memberKey(id string) string { return schema.MemberPrefix + subjects.Escape(id) }

// memberRecord is this manager's lease in this state.
func (m *Manager) memberRecord(state schema.MemberState) ([]byte, error) {
	return schema.Marshal(schema.MemberRecord{
		V: schema.Version, ID: m.cfg.ID, Incarnation: m.incarnation, State: state, Capacity: m.Capacity(), Build: m.cfg.Build,
		Reads: schema.Version,
	})
}

func (m *Manager) ownRecord(b []byte) bool {
	var rec schema.MemberRecord
	return schema.Unmarshal(b, &rec) == nil && rec.Incarnation == m.incarnation
}

// join takes this manager's lease. One that is held is watched for 3 s: whoever held it may have died; if it is renewed
// meanwhile the id is another's.
func (m *Manager) join(ctx context.Context) error {
	value, err := m.memberRecord(schema.MemberActive)
	if err != nil {
		return err
	}
	deadline := time.NewTimer(leaseHeld)
	defer deadline.Stop()
	tick := time.NewTicker(leaseEvery / 10)
	defer tick.Stop()
	var seen uint64
	began := m.now()
	for {
		asked := m.now()
		held, err := m.lease.put(ctx, value)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || asked-began > setUpWait) {
			return fmt.Errorf("take lease %s: %w", m.lease.key, err)
		}
		if err == nil && held {
			m.renewed.set(asked)
			return nil
		}
		var entry jetstream.KeyValueEntry
		if err != nil { // a server that has much else to do is slow, and what it was asked may be done: the next try sees it
			deadline.Reset(leaseHeld)
		} else if entry, err = m.lease.kv.Get(ctx, m.lease.key); err == nil {
			if seen != 0 && entry.Revision() != seen {
				return heldBy(m.cfg.ID, entry)
			}
			seen = entry.Revision()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for lease %s: %w", m.lease.key, context.Cause(ctx))
		case <-deadline.C:
			return &schema.Error{Code: schema.CodeConflict, Cause: errHeld, Message: fmt.Sprintf(
				"manager id %q: its lease did not end in %v; try again, or choose another with --id", m.cfg.ID, leaseHeld)}
		case <-tick.C:
		}
	}
}

// heldBy is the error of who wants an id whose lease was renewed by another process.
func heldBy(id string, lease jetstream.KeyValueEntry) error {
	var other schema.MemberRecord
	_ = schema.Unmarshal(lease.Value(), &other) // named if it can be read
	return &schema.Error{Code: schema.CodeConflict, Cause: errHeld, Message: fmt.Sprintf(
		"manager id %q is held by another process (incarnation %s, build %q): choose another with --id", id, other.Incarnation, other.Build)}
}

// memberLoop renews the lease, and tries for the controller's.
func (m *Manager) memberLoop(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.renewNow:
		}
		m.renew(ctx)
		m.control.step(ctx)
	}
}

// renew renews this manager's lease in its present state. A manager that finds another with its id offers nothing until
// that one has gone: two with one id would hold two sets of environments under one name.
func (m *Manager) renew(ctx context.Context) {
	state := schema.MemberActive
	if m.draining.Load() {
		state = schema.MemberDraining
	}
	value, err := m.memberRecord(state)
	if err != nil {
		m.log.Error("renew the lease", "error", err)
		return
	}
	asked := m.now()
	held, err := m.lease.put(ctx, value)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("renew the lease", "error", err)
		}
		return
	}
	if held {
		stood := m.leased()
		m.renewed.set(asked)
		if !stood {
			m.permits.recount() // others may have taken what it held for void
		}
	}
	m.mu.Lock()
	was := m.fenced
	m.fenced = !held
	m.offering = m.mayOffer()
	m.mu.Unlock()
	if was != !held {
		if !held {
			m.log.Error("another process holds this manager's id: nothing is offered until it has gone", "manager", m.cfg.ID)
		}
		m.offers.kickAll()
		m.tellSoon()
	}
}

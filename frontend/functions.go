package frontend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	missEvery = time.Second // a name that is not known is read from KV at most so often. DESIGN 3
	maxMisses = 10_000      // names remembered as just read
	missWait  = 2 * time.Second
)

// target names a function.
type target struct{ account, function string }

// function is a record with what calls of it need at hand. It is immutable but for the counters and the memory of
// arcs in its versions.
type function struct {
	record   *schema.FunctionRecord
	revision uint64
	read     bool                // brought by a read that was ahead of the watch
	versions map[string]*version // by number, and under "" and [schema.Latest]
	routed   *routed
	tenants  *tenantCalls
	told     *telemetry.Held[target, routed] // the same, as metrics tell it
}

// version is one version of a function as calls see it.
type version struct {
	function *schema.FunctionRecord
	record   *schema.VersionRecord
	key      schema.Key   // of calls that name no sub-tenant
	tally    *tally       // outlives a change of the record
	routed   *routed      // of the function
	tenants  *tenantCalls // of the function
	told     *routed      // the same as routed, as metrics tell it
	arc      atomic.Pointer[unreservedArc]
}

// functions is the frontend's copy of bucket functions: fed by the watch, and by a read where a caller names what the
// watch has not brought yet. It is safe for concurrent use; reading it takes no allocation.
type functions struct {
	kv jetstream.KeyValue

	shared atomic.Pointer[[]sharedCalls] // versions whose calls are told on change
	told   *telemetry.Table[target, routed]

	mu           sync.RWMutex
	known        map[target]*function
	misses       map[target]*miss
	reservations map[target]reservedVersions
}

// miss is one read of a name that the watch has not brought.
type miss struct {
	at   time.Time
	done chan struct{} // closed when the read has ended
}

func newFunctions() *functions {
	fs := &functions{
		told:  newTold(),
		known: make(map[target]*function), misses: make(map[target]*miss), reservations: make(map[target]reservedVersions),
	}
	fs.share()
	return fs
}

// get is the function of a name, nil if the frontend knows none.
func (fs *functions) get(t target) *function {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.known[t]
}

// changed takes in what the watch tells. It is believed, also where revisions fall as in a bucket restored from a
// backup; only what a read has brought already stays until the watch has caught up.
func (fs *functions) changed(record *schema.FunctionRecord, key string, revision uint64, deleted bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	t, ok := parseFunctionKey(key)
	if !ok {
		return // not written by the control service
	}
	if old := fs.known[t]; old != nil && old.read && old.revision > revision {
		return
	}
	if deleted {
		if old := fs.known[t]; old != nil {
			fs.told.Release(old.told)
		}
		delete(fs.known, t)
	} else {
		fs.known[t] = fs.newFunction(t, record, revision)
	}
	fs.relink(t)
}

// found takes in what a read brought, unless the watch has brought as much meanwhile.
func (fs *functions) found(t target, record *schema.FunctionRecord, revision uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	old := fs.known[t]
	if old != nil && old.revision >= revision {
		return
	}
	fs.known[t] = fs.newFunction(t, record, revision)
	fs.known[t].read = true
	fs.relink(t)
}

// newFunction prepares a record for calls in place of the one that is known. Called with mu held.
func (fs *functions) newFunction(t target, record *schema.FunctionRecord, revision uint64) *function {
	old := fs.known[t]
	if old == nil {
		return newFunction(record, revision, nil, fs.told.Hold(t))
	}
	return newFunction(record, revision, old, old.told)
}

// newFunction prepares a record for calls. Versions that old had too keep their counts.
func newFunction(record *schema.FunctionRecord, revision uint64, old *function, told *telemetry.Held[target, routed]) *function {
	fn := &function{
		record: record, revision: revision, versions: make(map[string]*version, len(record.Versions)+2), routed: new(routed),
		tenants: new(tenantCalls), told: told,
	}
	if old != nil {
		fn.routed = old.routed // counted by name
		if old.record.ID == record.ID {
			fn.tenants = old.tenants
		}
	}
	add := func(name string, v *schema.VersionRecord) *version {
		made := &version{function: record, record: v, key: schema.VersionKey(record, v, ""), routed: fn.routed, tenants: fn.tenants,
			told: told.Row}
		if old != nil && old.record.ID == record.ID && old.versions[name] != nil {
			made.tally = old.versions[name].tally
		} else {
			made.tally = new(tally)
		}
		fn.versions[name] = made
		return made
	}
	for i := range record.Versions {
		add(record.Versions[i].Version, &record.Versions[i])
	}
	fn.versions[""] = add(schema.Latest, &record.Latest)
	return fn
}

// read asks KV for a name that was missed, for all who miss it now at once, and reports whether it is worth looking
// again. Its error says that KV could not be asked.
func (fs *functions) read(ctx context.Context, t target) (bool, error) {
	m, first := fs.missed(t, time.Now())
	switch {
	case m == nil:
		return false, nil
	case !first:
		select {
		case <-m.done:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	defer close(m.done)
	ctx, cancel := context.WithTimeout(ctx, missWait)
	defer cancel()
	entry, err := fs.kv.Get(ctx, functionKey(t))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return false, nil
	case err != nil:
		return false, &schema.Error{
			Code: schema.CodeUnavailable, Message: "the function could not be looked up: its bucket does not answer", Cause: err,
		}
	}
	record, err := decodeFunction(entry.Value())
	if err != nil {
		return false, &schema.Error{Code: schema.CodeInternal, Message: "the function's record cannot be read", Cause: err}
	}
	fs.found(t, record, entry.Revision())
	return true, nil
}

// missed is the read of a missed name: a new one, which the caller does (first); the one under way; or nil where the
// last one is too recent to ask again.
func (fs *functions) missed(t target, now time.Time) (m *miss, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if m := fs.misses[t]; m != nil && now.Sub(m.at) < missEvery {
		select {
		case <-m.done:
			return nil, false
		default:
			return m, false
		}
	}
	if len(fs.misses) >= maxMisses {
		fs.forget(now)
	}
	m = &miss{at: now, done: make(chan struct{})}
	fs.misses[t] = m
	return m, true
}

// forget drops the misses that bound nothing any more, and any one if all still do: callers that try names at random
// then cost reads, which the few readers bound, and no memory. Called with mu held.
func (fs *functions) forget(now time.Time) {
	for t, m := range fs.misses {
		if now.Sub(m.at) >= missEvery {
			delete(fs.misses, t)
		}
	}
	for t := range fs.misses {
		if len(fs.misses) < maxMisses {
			break
		}
		delete(fs.misses, t)
	}
}

// functionKey is the key of a function in its bucket.
func functionKey(t target) string {
	return subjects.Escape(t.account) + "." + subjects.Escape(t.function)
}

func parseFunctionKey(key string) (target, bool) {
	a, f, ok := strings.Cut(key, ".")
	if !ok {
		return target{}, false
	}
	account, ok1 := subjects.Unescape(a)
	name, ok2 := subjects.Unescape(f)
	return target{account, name}, ok1 && ok2
}

// decodeFunction reads a record of this build's version or an older one.
func decodeFunction(b []byte) (*schema.FunctionRecord, error) {
	record := new(schema.FunctionRecord)
	if err := schema.Unmarshal(b, record); err != nil {
		return nil, err
	}
	if record.V > schema.Version {
		return nil, fmt.Errorf("record of version %d, this build reads up to %d", record.V, schema.Version)
	}
	return record, nil
}

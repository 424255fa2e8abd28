package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// pastFor is how long the data of a $LATEST that was replaced are kept: calls that name it may still wait in the stream.
const pastFor = 30 * time.Second

// versions knows the functions: a cache fed by a watch, and for a while what the cache replaced.
type versions struct {
	cache   *watch.Cache[*schema.FunctionRecord]
	kv      jetstream.KeyValue
	secrets jetstream.KeyValue
	changes atomic.Uint64 // heard so far; counted before homes are marked for them

	mu    sync.Mutex
	known map[string]*schema.FunctionRecord // by key of the bucket, to see what a change replaced
	past  map[schema.Key]pastVersion
}

type pastVersion struct {
	version *schema.VersionRecord
	tenants bool
	until   time.Time
}

// foundVersion is a version of a function; past says that no new call should name it, tenants that every call names a sub-tenant.
type foundVersion struct {
	*schema.VersionRecord
	past, tenants bool
}

// functionKey is a function's key in bucket functions.
func functionKey(account, function string) string {
	return subjects.Escape(account) + "." + subjects.Escape(function)
}

func decodeFunction(b []byte) (*schema.FunctionRecord, error) {
	rec := new(schema.FunctionRecord)
	return rec, schema.Unmarshal(b, rec)
}

// replaced notes a change of a function: what it replaced is kept for a while.
func (v *versions) replaced(key string, rec *schema.FunctionRecord, deleted bool, now time.Time) (before *schema.FunctionRecord) {
	v.changes.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	before = v.known[key]
	if deleted {
		delete(v.known, key)
	} else {
		v.known[key] = rec
	}
	for k, p := range v.past {
		if now.After(p.until) {
			delete(v.past, k)
		}
	}
	if before != nil && !deleted && before.ID == rec.ID {
		v.past[schema.VersionKey(before, &before.Latest, "")] = pastVersion{&before.Latest, before.PerTenant, now.Add(pastFor)}
	}
	return before
}

// find gives the version of exactly this key: from the cache, from what it replaced, or from the bucket itself, once.
func (v *versions) find(ctx context.Context, account, function string, key schema.Key) (foundVersion, error) {
	at := functionKey(account, function)
	rec, _, ok := v.cache.Get(at)
	if ok {
		if ver, ok := match(rec, key); ok {
			return foundVersion{ver, false, rec.PerTenant}, nil
		}
		if found, ok := v.kept(key); ok {
			return found, nil
		}
	}
	entry, err := v.kv.Get(ctx, at)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return foundVersion{}, schema.Errorf(schema.CodeNotFound, "function %q was deleted while the call waited", function)
	case err != nil:
		return foundVersion{}, fmt.Errorf("read function %q: %w", function, err)
	}
	if rec, err = decodeFunction(entry.Value()); err != nil {
		return foundVersion{}, fmt.Errorf("read function %q: %w", function, err)
	}
	if ver, ok := match(rec, key); ok {
		return foundVersion{ver, false, rec.PerTenant}, nil
	}
	if found, ok := v.kept(key); ok {
		return found, nil
	}
	if rec.ID != key.FunctionID {
		return foundVersion{}, schema.Errorf(schema.CodeNotFound, "function %q was deleted and made again while the call waited", function)
	}
	if key.Version != schema.Latest {
		return foundVersion{}, schema.Errorf(schema.CodeNotFound, "version %s of function %q was deleted while the call waited",
			key.Version, function)
	}
	return foundVersion{}, schema.Errorf(schema.CodeUnavailable, "function %q was updated while the call waited", function)
}

func (v *versions) kept(key schema.Key) (foundVersion, bool) {
	key.Tenant = ""
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.past[key]
	return foundVersion{p.version, true, p.tenants}, ok
}

// match finds the version of a record that has exactly this key.
func match(rec *schema.FunctionRecord, key schema.Key) (*schema.VersionRecord, bool) {
	if rec.ID != key.FunctionID {
		return nil, false
	}
	ver, ok := rec.Find(key.Version)
	if !ok || schema.VersionKey(rec, ver, key.Tenant) != key {
		return nil, false
	}
	return ver, true
}

// functionChanged hears of every change of a function: idle environments of what is gone by are ended (DESIGN 3).
func (m *Manager) functionChanged(key string, rec *schema.FunctionRecord, _ uint64, deleted bool) {
	now := time.Now()
	before := m.versions.replaced(key, rec, deleted, now)
	m.shares.functionChanged(key)
	if limitOf(before) != limitOf(rec) || before == nil || deleted {
		m.permits.recountFunction(key)
	}
	if deleted {
		m.limitTenants(before, nil)
	} else {
		m.limitTenants(before, rec)
	}
	retain := func(id string, current func(schema.Key) bool) {
		m.mu.Lock()
		plan := m.pool.Retain(now, id, current)
		m.mu.Unlock()
		m.carryOut(plan, nil)
	}
	if before != nil && (deleted || before.ID != rec.ID) {
		retain(before.ID, func(schema.Key) bool { return false })
	}
	if !deleted {
		retain(rec.ID, func(k schema.Key) bool { _, ok := match(rec, k); return ok })
	}
}

// limitOf is a function's limit, -1 where it has none.
func limitOf(rec *schema.FunctionRecord) int {
	if rec == nil || rec.Concurrency == nil {
		return -1
	}
	return *rec.Concurrency
}

// spec is what the environments of a claim's home have in common.
func (m *Manager) spec(c *claim) (pool.Spec, error) {
	ver, err := m.versions.find(m.life, c.call.Account, c.call.Function, c.call.Key)
	if err != nil {
		return pool.Spec{}, err
	}
	return pool.Spec{
		Account: c.call.Account, Function: c.call.Function, Arc: c.arc, Places: schema.Places(ver.MemoryMB), Past: ver.past,
		Tenants: ver.tenants,
	}, nil
}

// binding is what a worker makes an environment for, with its variables in clear.
func (m *Manager) binding(ctx context.Context, mk pool.Make) (*schema.Binding, error) {
	ver, err := m.versions.find(ctx, mk.Spec.Account, mk.Spec.Function, mk.Home.Key)
	if err != nil {
		return nil, err
	}
	b := &schema.Binding{
		Key: mk.Home.Key, PerTenant: mk.Spec.Tenants, Reserved: mk.Home.Reservation != 0, Account: mk.Spec.Account,
		Function: mk.Spec.Function, Runtime: ver.Runtime, Handler: ver.Handler, MemoryMB: ver.MemoryMB, EphemeralMB: ver.EphemeralMB, Timeout: ver.Timeout, Logging: ver.Logging(), Egress: ver.Egress,
	}
	b.Token = m.grants.add(mk.Environment, b, ver.VersionRecord)
	if ver.SecretKey == "" {
		return b, nil
	}
	entry, err := m.versions.secrets.Get(ctx, ver.SecretKey)
	if err != nil {
		return nil, fmt.Errorf("read the variables of function %q: %w", mk.Spec.Function, err)
	}
	var rec schema.SecretRecord
	if err := schema.Unmarshal(entry.Value(), &rec); err != nil {
		return nil, fmt.Errorf("read the variables of function %q: %w", mk.Spec.Function, err)
	}
	rec.At = ver.SecretKey
	if m.cfg.Open == nil {
		return nil, errors.New("this manager has no key to open variables with")
	}
	if b.Variables, err = m.cfg.Open(rec); err != nil {
		return nil, fmt.Errorf("open the variables of function %q: %w", mk.Spec.Function, err)
	}
	return b, nil
}

// bindingFailure is what callers see of an environment that could not be bound.
func bindingFailure(err error) *schema.FunctionError {
	e := &schema.FunctionError{Type: string(schema.CodeInitError), Message: "the environment could not be prepared"}
	var known *schema.Error
	if errors.As(err, &known) {
		e.Message = known.Message
	} else if err != nil {
		e.Message += ": " + err.Error()
	}
	return e
}

func (m *Manager) newVersions(ctx context.Context) (*versions, error) {
	v := &versions{known: make(map[string]*schema.FunctionRecord), past: make(map[schema.Key]pastVersion)}
	var err error
	if v.kv, err = m.bucket(ctx, topology.Functions); err != nil {
		return nil, err
	}
	if v.secrets, err = m.bucket(ctx, topology.Secrets); err != nil {
		return nil, err
	}
	v.cache = watch.New(m.nc, v.kv, ">", decodeFunction, m.log)
	v.cache.OnChange(m.functionChanged)
	return v, nil
}

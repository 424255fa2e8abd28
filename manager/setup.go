package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
)

const (
	setUpWait  = 10 * time.Second       // for one run of the set-up
	setUpRetry = 100 * time.Millisecond // first pause after a failed one, doubled up to 2 s
)

// setUp makes what the fabric rests on, agrees on its numbers and opens the buckets (DESIGN 6, start of a manager).
func (m *Manager) setUp(ctx context.Context) error {
	if err := topology.EnsureStores(ctx, m.js, m.names); err != nil {
		return fmt.Errorf("set up the stores: %w", err)
	}
	ring, err := m.bucket(ctx, topology.Ring)
	if err != nil {
		return err
	}
	fabric, err := m.agree(ctx, ring)
	if err != nil {
		return err
	}
	if err := topology.EnsureCalls(ctx, m.js, m.names, fabric); err != nil {
		return fmt.Errorf("set up the streams: %w", err)
	}
	members, err := m.bucket(ctx, topology.Members)
	if err != nil {
		return err
	}
	arcs, err := m.bucket(ctx, topology.Arcs)
	if err != nil {
		return err
	}
	m.lease.kv, m.control.lease.kv, m.control.ring, m.stored = members, members, ring, arcs
	m.rings = watch.New(m.nc, ring, schema.RingKey, decode[schema.RingRecord], m.log)
	m.fabrics = watch.New(m.nc, ring, schema.FabricKey, decode[schema.Fabric], m.log)
	m.lengths = watch.New(m.nc, arcs, "u.*", decode[schema.ArcRecord], m.log)
	m.rings.OnChange(func(string, schema.RingRecord, uint64, bool) { m.reread() })
	m.fabrics.OnChange(func(string, schema.Fabric, uint64, bool) {
		m.reread()
		m.permits.recount()
	})
	m.lengths.OnChange(func(string, schema.ArcRecord, uint64, bool) { m.reread() })
	if m.versions, err = m.newVersions(ctx); err != nil {
		return err
	}
	return m.newReservations(ctx)
}

func (m *Manager) bucket(ctx context.Context, kind string) (jetstream.KeyValue, error) {
	kv, err := m.js.KeyValue(ctx, m.names.Bucket(kind))
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", kind, err)
	}
	return kv, nil
}

// agree writes the fabric's numbers if nobody has, else compares them with what this node was asked for.
func (m *Manager) agree(ctx context.Context, ring jetstream.KeyValue) (schema.Fabric, error) {
	entry, err := ring.Get(ctx, schema.FabricKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		value, err := schema.Marshal(m.cfg.Fabric)
		if err != nil {
			return schema.Fabric{}, err
		}
		_, err = ring.Create(ctx, schema.FabricKey, value)
		if err == nil {
			return m.cfg.Fabric, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return schema.Fabric{}, fmt.Errorf("write the fabric's numbers: %w", err)
		}
		entry, err = ring.Get(ctx, schema.FabricKey)
		if err != nil {
			return schema.Fabric{}, fmt.Errorf("read the fabric's numbers: %w", err)
		}
	} else if err != nil {
		return schema.Fabric{}, fmt.Errorf("read the fabric's numbers: %w", err)
	}
	has, err := decode[schema.Fabric](entry.Value())
	if err != nil {
		return has, fmt.Errorf("read the fabric's numbers: %w", err)
	}
	if has.V > schema.Version {
		return has, schema.Errorf(schema.CodeConflict, "the fabric's records are of version %d, this build reads %d: use a newer one",
			has.V, schema.Version)
	}
	return has, m.compare(has)
}

// compare refuses a fabric whose numbers are not those that this node was asked for by name.
func (m *Manager) compare(has schema.Fabric) error {
	wants, is := m.cfg.Fabric.Values(), has.Values()
	var differ []string
	for key := range m.cfg.FabricSet {
		if wants[key] != is[key] {
			differ = append(differ, fmt.Sprintf("%s: this node asks for %s, the fabric has %s", key, wants[key], is[key]))
		}
	}
	if differ == nil {
		return nil
	}
	slices.Sort(differ)
	return schema.Errorf(schema.CodeConflict, "%s; leave the flag out, or change the fabric with `hearth fabric set`",
		strings.Join(differ, "; "))
}

// publishSeal tells frontends to which key they seal variables. All managers of a fabric hold the same one.
func (m *Manager) publishSeal(ctx context.Context) error {
	if m.cfg.Seal == nil {
		return nil
	}
	keys, err := m.bucket(ctx, topology.Keys)
	if err != nil {
		return err
	}
	if err := proposable(ctx, m.js, keys, m.names, m.cfg.Seal.KeyID); err != nil {
		return err
	}
	value, err := schema.Marshal(*m.cfg.Seal)
	if err != nil {
		return err
	}
	_, err = keys.Create(ctx, schema.SealKeyName, value)
	if err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("publish the seal's key: %w", err)
	}
	entry, err := keys.Get(ctx, schema.SealKeyName)
	if err != nil {
		return fmt.Errorf("read the seal's key: %w", err)
	}
	has, err := decode[schema.SealKeyRecord](entry.Value())
	if err != nil {
		return fmt.Errorf("read the seal's key: %w", err)
	}
	if has.KeyID != m.cfg.Seal.KeyID {
		return schema.Errorf(schema.CodeConflict, "variables of this fabric are sealed to key %s, this manager holds %s: copy the file "+
			"seal.key of the data folder of a manager that has it; %s", has.KeyID, m.cfg.Seal.KeyID, keyLost)
	}
	return nil
}

// setUpSoon has the set-up run again: something that it makes is missing.
func (m *Manager) setUpSoon() { signal(m.setUpKick) }

// connectionLoop runs the set-up again after each reconnect, for the server may have lost what lay in memory, and then
// offers everything anew.
func (m *Manager) connectionLoop(ctx context.Context) {
	defer m.nc.RemoveStatusListener(m.reconnect)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.reconnect:
			m.connected()
			m.acknowledgeAgain()
			m.nameEverything()
			m.pulse.doubt(m.now())
			m.clocks.reset(m.nc.ConnectedClusterName() != "")
			m.log.Info("connected again", "manager", m.cfg.ID, "server", m.nc.ConnectedUrlRedacted())
		case <-m.setUpKick:
			if m.clocks.clustered.Load() {
				m.clocks.reset(true) // what is missing may be made on another server
			}
		}
		m.setUpAgain(ctx)
	}
}

// nameEverything has beats name every call for a while.
func (m *Manager) nameEverything() {
	m.mu.Lock()
	m.nameAll = m.now() + nameFor
	m.mu.Unlock()
	signal(m.beatNow)
}

func (m *Manager) setUpAgain(ctx context.Context) {
	pause := setUpRetry
	for ctx.Err() == nil {
		err := m.ensure(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			m.log.Warn("set up the fabric again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + m.jitter(pause/2)):
		}
		pause = min(2*pause, 2*time.Second)
	}
	signal(m.renewNow)
	m.permits.recount()
	m.offerAnew()
}

// offerAnew sends all offers again, at once: what they are offered on has been made.
func (m *Manager) offerAnew() {
	m.mu.Lock()
	for _, a := range m.offers.arcs {
		a.backoff = time.Time{}
	}
	m.mu.Unlock()
	m.offerAgain(true)
}

func (m *Manager) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, setUpWait, errors.New("setting up the fabric"))
	defer cancel()
	return topology.Ensure(ctx, m.js, m.names, m.view.Load().fabric)
}

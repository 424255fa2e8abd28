package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/schema"
)

const (
	farewell  = time.Second          // for what Stop still says after its context has ended
	drainTick = 2 * time.Millisecond // how often withdrawn inboxes are looked at
)

// Stop takes the manager off the ring in order: it offers nothing more, gives claims that have not started back, lets
// running calls finish as long as ctx allows, ends its environments and gives up its leases. It always returns soon after
// ctx has ended, with an error if calls were cut off. Safe twice, and unstarted.
func (m *Manager) Stop(ctx context.Context) error { return m.guard.Stop(ctx, m.stop) }

func (m *Manager) stop(ctx context.Context) error {
	m.log.Info("manager stops", "manager", m.cfg.ID)
	m.handMembers(ctx)
	m.leave(func() bool { m.stopping = true; return true })
	err := m.awaitEmpty(ctx, func() bool { return false })
	m.awaitWithdrawn(ctx)
	if err != nil {
		err = m.cutOff(err)
	}
	m.giveUp()
	if err != nil {
		return fmt.Errorf("stop manager %s: %w", m.cfg.ID, err)
	}
	return nil
}

// handMembers has this manager's members of reservations serve on until the others have theirs, for half of the time that there
// is: the calls that still run need the rest.
func (m *Manager) handMembers(ctx context.Context) {
	m.mu.Lock()
	m.stopping = true
	m.handing = (m.handing || !m.drained) && m.mustHand()
	m.draining.Store(true)
	handing := m.handing
	m.offering = m.mayOffer()
	m.mu.Unlock()
	signal(m.renewNow)
	m.settled()
	if !handing {
		return
	}
	most := handOverWait
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/2)
	}
	m.tellSoon()
	m.awaitHanded(ctx, most, func() bool { return false })
}

// cutOff ends the environments that are left, with their calls.
func (m *Manager) cutOff(why error) error {
	m.mu.Lock()
	cut, left := m.running.n, m.pool.Environments(nil)
	m.mu.Unlock()
	for _, id := range left {
		m.worker.End(id)
	}
	if cut > 0 {
		return schema.Errorf(schema.CodeExecutionLost, "%d calls still ran: %w", cut, why)
	}
	return nil
}

// giveUp ends what Start began: leases, loops, tasks, watches.
func (m *Manager) giveUp() {
	m.endLife()
	for _, sub := range m.hears {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			m.log.Debug("stop to listen", "subject", sub.Subject, "error", err)
		}
	}
	m.loops.Wait()
	m.control.resign()
	m.tasksMu.Lock()
	m.closed = true
	m.tasksMu.Unlock()
	m.tasks.Wait()
	ctx, cancel := context.WithTimeoutCause(context.Background(), farewell, errors.New("giving up the leases"))
	defer cancel()
	if err := m.stopTokens(ctx); err != nil {
		m.log.Warn("stop the token provider", "error", err)
	}
	if m.nc.IsConnected() {
		for _, l := range []*lease{&m.lease, &m.control.lease} {
			if err := l.drop(ctx); err != nil {
				m.log.Warn("give up a lease", "error", err)
			}
		}
	}
	m.stopWatches()
	m.mu.Lock()
	left := m.offers.retireAll()
	m.mu.Unlock()
	for _, i := range left {
		m.withdraw(i)
	}
	if !m.nc.IsConnected() {
		return
	}
	if err := m.nc.FlushWithContext(ctx); err != nil {
		m.log.Debug("last flush", "error", err)
	}
}

func (m *Manager) stopWatches() {
	var wg conc.WaitGroup
	if m.fabrics != nil {
		wg.Go(m.fabrics.Stop)
		wg.Go(m.rings.Stop)
		wg.Go(m.lengths.Stop)
	}
	if m.versions != nil && m.versions.cache != nil {
		wg.Go(m.versions.cache.Stop)
	}
	if m.reservations != nil {
		wg.Go(m.reservations.Stop)
	}
	wg.Wait()
}

// retireAll replaces every generation by none, and gives the inboxes that are to be drained. Manager.mu is held.
func (o *offers) retireAll() []*inbox {
	var p pass
	for _, a := range o.arcs {
		a.retire(&p)
	}
	return p.old
}

package manager

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// metrics are what a manager counts for those who look at it, beside [Counters].
type metrics struct {
	refused *telemetry.Refused
	wait    [3]*telemetry.Histogram // by start kind
}

// waitStarts are the start kinds by their place in metrics.wait.
var waitStarts = [3]schema.Start{schema.StartWarm, schema.StartSpecialised, schema.StartCold}

func newMetrics() metrics {
	m := metrics{refused: telemetry.NewRefused()}
	for i := range m.wait {
		m.wait[i] = telemetry.NewHistogram(telemetry.Durations)
	}
	return m
}

// waited counts how long a call that starts has waited since its publication, as far as its age is known (startline.go).
func (m *metrics) waited(c *claim, start schema.Start) {
	i := 0
	switch start {
	case schema.StartSpecialised:
		i = 1
	case schema.StartCold:
		i = 2
	}
	m.wait[i].Took(c.age + c.started - c.came)
}

// refuse counts a call that was answered with an error and ran nowhere.
func (m *metrics) refuse(c *claim, err error) {
	m.refused.Count(c.call.Account, c.call.Function, schema.CodeOf(err))
}

// scrape tells all of it. What has to be looked at under the mutex takes it once.
func (m *Manager) scrape(_ context.Context, s *telemetry.Scrape) {
	m.metrics.refused.Scrape(s)
	for i, h := range m.metrics.wait {
		s.Histogram(telemetry.CallStage, h, telemetry.Stage.String(telemetry.StageWait), telemetry.Start.String(string(waitStarts[i])))
	}
	m.scrapePool(s)
	m.scrapeCounters(s)
	held := m.permits.heldNow()
	for _, scope := range []string{capFunction, capAccount} {
		s.Gauge(telemetry.Permits, float64(held[scope]), telemetry.Cap.String(scope))
	}
	connected := m.nc.IsConnected()
	s.Gauge(telemetry.Connected, oneIf(connected))
	s.Gauge(telemetry.Disconnected, oneIf(!connected))
	s.Gauge(telemetry.Controlling, oneIf(m.control.keeper.Load() != nil))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// scrapePool tells what is there now.
func (m *Manager) scrapePool(s *telemetry.Scrape) {
	var counts pool.Counts
	var reserved, above, generic, places, waiting int
	var open [kinds]int
	m.mu.Lock()
	counts, waiting = m.pool.Counts(), m.pool.Waiting()
	if m.offering {
		places = m.pool.Room() + m.pool.Hot()
	}
	for g := range m.pool.Groups {
		ready := g.Counts.Ready()
		if g.Spec.Tenants && g.Home.Tenant == "" {
			generic += ready
		}
		if g.Home.Reservation != 0 && g.Home.Tenant == "" { // what is bound left its share
			reserved += ready
			above += max(0, ready-g.Share.Members)
		}
	}
	for _, a := range m.offers.arcs {
		for k := range a.sides {
			if gen := a.sides[k].gen; gen != nil {
				open[k] += gen.open
			}
		}
	}
	m.mu.Unlock()
	for state, n := range map[string]int{
		"starting": counts.Starting, "idle": counts.Idle + counts.Finishing, "busy": counts.Busy + counts.Promised, "leaving": counts.Closing,
	} {
		s.Gauge(telemetry.Environments, float64(n), telemetry.State.String(state))
	}
	s.Gauge(telemetry.EnvReserved, float64(reserved))
	s.Gauge(telemetry.EnvSurplus, float64(above))
	s.Gauge(telemetry.EnvGeneric, float64(generic))
	s.Gauge(telemetry.Capacity, float64(m.Capacity()))
	s.Gauge(telemetry.Room, float64(places))
	s.Gauge(telemetry.Waiting, float64(waiting))
	for side, n := range map[string]int{"idle": open[idle], "surplus": open[surplus], "room": open[room], "catcher": open[caught]} {
		s.Gauge(telemetry.OffersOpen, float64(n), telemetry.Side.String(side))
	}
}

func (m *Manager) scrapeCounters(s *telemetry.Scrape) {
	c := m.Counters()
	s.Count(telemetry.EnvMade, uint64(c.Made))
	s.Count(telemetry.EnvEnded, uint64(c.Ended))
	s.Count(telemetry.Evictions, uint64(c.Evicted))
	s.Count(telemetry.FailedInits, uint64(c.FailedInits))
	s.Count(telemetry.OffersSent, uint64(c.Offers))
	s.Count(telemetry.Withdrawals, uint64(c.Withdrawals))
	s.Count(telemetry.Naks, uint64(c.Nacks))
	s.Count(telemetry.Unsigned, uint64(c.Unsigned))
	s.Count(telemetry.PermitsDenied, uint64(c.Unpermitted))
	by := func(metric *telemetry.Metric, result func(string) attribute.KeyValue, numbers map[string]int64) {
		for name, n := range numbers {
			s.Count(metric, uint64(n), result(name))
		}
	}
	by(telemetry.Caught, telemetry.Result.String, map[string]int64{"caught": c.Caught, "moved": c.Moved, "refused": c.TurnedAway})
	by(telemetry.HandOvers, telemetry.Step.String, map[string]int64{"asked": c.HandedOver + c.Unpromised, "promised": c.HandedOver, "used": c.TakenOver})
	by(telemetry.Locks, telemetry.Result.String, map[string]int64{"won": c.LocksWon, "lost": c.LocksLost})
	by(telemetry.ClaimsLeft, telemetry.Result.String, map[string]int64{"late": c.Dropped, "uncrossed": c.Uncrossed, "garbage": c.Garbage})
	by(telemetry.ArcsChanged, telemetry.Result.String, map[string]int64{"grown": c.Grown, "shrunk": c.Shrunk})
	by(telemetry.Tokens, telemetry.Result.String, map[string]int64{"made": c.Signed, "failed": c.SignFailed})
}

// Caps that permits are of, as metrics name them.
const (
	capFunction = "function"
	capAccount  = "account"
)

// heldNow is how many environments hold a permit of each cap, where there is one.
func (p *permits) heldNow() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := map[string]int{}
	for _, s := range p.scopes {
		if _, capped := s.limit(); !capped {
			continue
		}
		if s.of == (pool.Scope{}) {
			held[capAccount] += len(s.held)
		} else {
			held[capFunction] += len(s.held)
		}
	}
	return held
}

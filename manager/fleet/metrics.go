package fleet

import (
	"context"

	"github.com/hearth-run/hearth/internal/telemetry"
)

// scrape tells what a fleet has seen, for those who look.
func (f *Fleet) scrape(_ context.Context, s *telemetry.Scrape) {
	c := f.Counters()
	s.Gauge(telemetry.Workers, float64(c.Workers))
	s.Count(telemetry.WorkerLost, uint64(c.Lost))
	s.Count(telemetry.WorkerRefused, uint64(c.Refused))
	f.unrun.Scrape(s)
}

package events

import "github.com/hearth-run/hearth/internal/telemetry"

// Scrape tells what pollers did, for those who look.
func (p *Pollers) Scrape(s *telemetry.Scrape) {
	c := p.Counters()
	for result, n := range map[string]uint64{"done": c.Done, "retried": c.Retries, "dead": c.Dead} {
		s.Count(telemetry.EventsDone, n, telemetry.Result.String(result))
	}
	s.Count(telemetry.EventsTold, c.Told)
	s.Gauge(telemetry.EventsRunning, float64(c.Running))
}

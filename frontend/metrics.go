package frontend

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// metrics are what a frontend counts for those who look at it, beside [Counters].
type metrics struct {
	refused   *telemetry.Refused
	admission *telemetry.Histogram
	depths    depths
}

func newMetrics() *metrics {
	return &metrics{
		refused: telemetry.NewRefused(), admission: telemetry.NewHistogram(telemetry.Durations),
	}
}

func newTold() *telemetry.Table[target, routed] {
	return telemetry.NewTable[target](telemetry.MaxFunctions, func() *routed { return new(routed) }, foldRouted)
}

func foldRouted(into, from *routed) {
	r := from.load()
	into.reserved.Add(r.Reserved)
	into.spillover.Add(r.Spillover)
	into.scale.Add(r.Scale)
	into.overflow.Add(r.Overflow)
	into.unreserved.Add(r.Unreserved)
}

// refuse counts a request that is answered with an error. Of a name that is no function's nothing is told: a stranger chose it.
func (f *Frontend) countRefusal(r *schema.Request, err error) {
	f.counters.refuse(err)
	account, function := "", ""
	if r != nil && f.functions.get(target{r.Account, r.Function}) != nil {
		account, function = r.Account, r.Function
	}
	f.metrics.refused.Count(account, function, schema.CodeOf(err))
}

// scrape tells all of it.
func (f *Frontend) scrape(ctx context.Context, s *telemetry.Scrape) {
	f.metrics.refused.Scrape(s)
	f.functions.told.Each(func(t target, other bool, r *routed) (told bool) {
		name, counts := t.function, r.load()
		if other {
			name = telemetry.Other
		}
		for reason, n := range map[schema.Reason]uint64{
			schema.ReasonReserved: counts.Reserved, schema.ReasonSpillover: counts.Spillover, schema.ReasonScale: counts.Scale,
			schema.ReasonOverflow: counts.Overflow, schema.ReasonUnreserved: counts.Unreserved,
		} {
			if n > 0 {
				s.Count(telemetry.Routed, n, telemetry.Function.String(name), telemetry.Reason.String(string(reason)))
				told = true
			}
		}
		return told
	})
	s.Histogram(telemetry.CallStage, f.metrics.admission, telemetry.Stage.String(telemetry.StageAdmission))
	c := f.Counters()
	s.Count(telemetry.Requests, c.Calls)
	s.Count(telemetry.Dropped, c.Dropped)
	s.Count(telemetry.CallersGone, c.Gone)
	s.Count(telemetry.Unclaimed, c.Unclaimed)
	s.Count(telemetry.Lost, c.Lost)
	s.Count(telemetry.Again, c.Again)
	s.Count(telemetry.Joined, c.Joined)
	s.Count(telemetry.Untold, c.Untold)
	s.Count(telemetry.Spilled, c.Spilled)
	s.Count(telemetry.PayloadTaken, c.Fetched)
	s.Gauge(telemetry.PayloadHeld, float64(c.Held))
	s.Gauge(telemetry.CallsInFlight, float64(c.InFlight))
	s.Gauge(telemetry.RingMembers, float64(len(f.view.ring.Load().Members)))
	connected := 0.
	if f.clock.connected() {
		connected = 1
	}
	s.Gauge(telemetry.Connected, connected)
	s.Gauge(telemetry.Disconnected, 1-connected)
	f.scrapeReservations(s)
	f.events.Scrape(s)
	f.scrapeStreams(ctx, s)
}

// scrapeReservations tells L, S and B of the reservations that there are.
func (f *Frontend) scrapeReservations(s *telemetry.Scrape) {
	f.functions.mu.RLock()
	defer f.functions.mu.RUnlock()
	left := telemetry.MaxFunctions // an arc each, of which there are 4,096 at most
	for _, reserved := range f.functions.reservations {
		for _, r := range reserved {
			if left--; left < 0 {
				return
			}
			ready, busy := r.members.load()
			name, version := telemetry.Function.String(r.target.function), telemetry.Version.String(r.version)
			s.Gauge(telemetry.ReservationLimit, float64(r.limit), name, version)
			s.Gauge(telemetry.ReservationMembers, float64(ready), name, version)
			s.Gauge(telemetry.ReservationBusy, float64(busy), name, version)
		}
	}
}

// How often the depths of streams are read at most, and how long all of it may take.
const (
	depthsEvery = 2 * time.Second
	depthsTime  = time.Second
)

// depths are those of the streams as they were read last: tried at most every two seconds, and only while somebody looks.
type depths struct {
	mu    sync.Mutex
	tried time.Time
	read  time.Time // what is in of; where nothing was ever read, when that was first tried
	of    map[string]depth
}

type depth struct{ messages, bytes uint64 }

// scrapeStreams tells how much lies in the streams of calls that are known here, and of events.
func (f *Frontend) scrapeStreams(ctx context.Context, s *telemetry.Scrape) {
	d := &f.metrics.depths
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.tried) >= depthsEvery {
		if d.tried = now; d.read.IsZero() {
			d.read = now // the age grows from here on where a right is missing
		}
		f.readDepths(ctx, d)
	}
	for name, one := range d.of {
		stream := telemetry.Stream.String(name)
		s.Gauge(telemetry.StreamDepth, float64(one.messages), stream)
		s.Gauge(telemetry.StreamSize, float64(one.bytes), stream)
	}
	s.Gauge(telemetry.StreamAge, time.Since(d.read).Seconds())
}

// readDepths asks for all of them. The time of what was read stands still when one does not answer: the age tells it.
func (f *Frontend) readDepths(ctx context.Context, d *depths) {
	ctx, cancel := context.WithTimeout(ctx, depthsTime)
	defer cancel()
	names := []string{f.names.Events(subjects.DefaultAccount), f.names.Stream(topology.Retries), f.names.Stream(topology.DeadLetters)}
	f.eachStream(func(one *stream) {
		if one.first.Load() != gone {
			names = append(names, one.name)
		}
	})
	of := make(map[string]depth, len(names))
	for _, name := range names {
		m, err := f.nc.RequestWithContext(ctx, streamAPI+name, nil)
		if err != nil {
			f.log.Debug("the depth of a stream was not read", "stream", name, "error", err)
			return
		}
		var info struct {
			State struct {
				Messages uint64 `json:"messages"`
				Bytes    uint64 `json:"bytes"`
			} `json:"state"`
			Error *jsError `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &info); err != nil || info.Error != nil {
			continue // a shard that has just gone
		}
		of[name] = depth{info.State.Messages, info.State.Bytes}
	}
	d.of, d.read = of, time.Now()
}

// metricsPath is where numbers are told. DESIGN 10, 11.
const metricsPath = "/metrics"

// serveMetrics answers whoever the guard lets through.
func serveMetrics(m *telemetry.Metrics, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		lambdaapi.WriteError(w, "", schema.Errorf(schema.CodeMethodNotAllowed, "%s %s", r.Method, metricsPath))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	m.ServeHTTP(w, r)
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Reservations cost their fabric what they cost idle, and each call what the others beside it cost. So fabrics that are alike
// but for how many they hold run at once and are called in turns: one with a single reservation, one with as many as are busy,
// one with all. Environments run no code (driver null).
const (
	maxReservations  = subjects.MaxShards * topology.ReservedArcs
	benchBusy        = 64 // reservations that are called, spread over all
	benchLimit       = 2  // environments of each
	benchManagers    = 4
	benchReclaim     = time.Second            // what is above a share goes after so long: a part of how long a ring change takes
	reservationsTold = 200 * time.Millisecond // between two looks while they open
	reservingAtOnce  = 4
	reservingTries   = 5
)

// reservationsResult is what `bench --reservations --json` prints. Ratios are medians over the rounds of the ratio within one.
type reservationsResult struct {
	Reservations int               `json:"reservations"`
	Busy         int               `json:"busy"` // of them, one caller each
	Managers     int               `json:"managers"`
	Fabrics      []reservationSide `json:"fabrics"`
	RatioRate    float64           `json:"ratio_rate"` // of all to one
	RatioCPU     float64           `json:"ratio_cpu,omitempty"`

	// A NATS server alone with as many consumers as there are reservations, and with one: what of the ratio is its own.
	TwinOne   benchSide `json:"twin_one"`
	Twin      benchSide `json:"twin"`
	RatioTwin float64   `json:"ratio_rate_twin"`

	Core       benchSide `json:"core"` // these three with one call in flight
	Unreserved benchSide `json:"unreserved"`
	Reserved   benchSide `json:"reserved"`
	RatioP50   float64   `json:"ratio_p50"`      // of the reserved call to the unreserved one
	RatioCore  float64   `json:"ratio_p50_core"` // of the reserved call to core NATS

	Join  *ringChange `json:"join"`
	Leave *ringChange `json:"leave"`

	Rounds     int    `json:"rounds"`
	Elsewhere  int    `json:"elsewhere"` // calls that went beside the reserved environments
	Errors     int    `json:"errors"`
	FirstError string `json:"first_error,omitempty"`
}

// reservationSide is one of the fabrics.
type reservationSide struct {
	Reservations int       `json:"reservations"`
	Called       int       `json:"called"`
	Shards       int       `json:"shards"`   // streams on which the calls lay
	Opened       float64   `json:"opened_s"` // until all were ready, their functions made before
	Load         benchSide `json:"load"`     // all callers at once
	IdleCPU      *float64  `json:"idle_cpu_percent,omitempty"`
	Memory       *float64  `json:"memory_mib,omitempty"`
	Heap         float64   `json:"heap_mib"`
	Goroutines   int       `json:"goroutines"`
}

// validateReservations checks what `bench --reservations` is asked for.
func (f *benchFlags) validateReservations() error {
	switch {
	case f.reservations == 0:
		return nil
	case f.reservations < 1 || f.reservations > maxReservations:
		return usagef("--reservations is %d; 1 to %d", f.reservations, maxReservations)
	case !f.own:
		return usagef("--reservations measures fabrics of its own; add --own")
	case f.driver != "null":
		return usagef("--reservations measures what reservations cost, not what functions do; add --driver null")
	case f.events:
		return usagef("--reservations and --events are two measurements; leave one of them out")
	case f.concurrency != 1:
		return usagef("--reservations has one caller for each that is busy; leave out --concurrency")
	case f.payload != "" || f.loop != "":
		return usagef("--reservations calls environments that run no code; leave out --payload and --loop")
	}
	return nil
}

// reservationBench is a run.
type reservationBench struct {
	app    *app
	flags  benchFlags
	busy   int
	result reservationsResult
	sides  []*reservationFabric
	twins  [2]*measuredFabric // with one consumer, and with as many as there are reservations
}

// reservationFabric is one of the fabrics, with a client of it.
type reservationFabric struct {
	*measuredFabric
	client    *conn
	functions []string
	opened    time.Duration
}

func (a *app) runBenchReservations(cmd *cobra.Command, f benchFlags) error {
	ctx := cmd.Context()
	b := &reservationBench{app: a, flags: f, busy: min(f.reservations, benchBusy)}
	defer func() {
		for _, s := range b.sides {
			s.stop()
		}
		for _, t := range b.twins {
			if t != nil {
				t.stop()
			}
		}
	}()
	for _, step := range []func(context.Context) error{b.start, b.measure, b.idle, b.changeRing} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.result.Reservations, b.result.Busy, b.result.Managers = f.reservations, b.busy, benchManagers
	return a.printReservationsResult(cmd, &b.result)
}

// start starts the fabrics and reserves what they are to hold.
func (b *reservationBench) start(ctx context.Context) error {
	defer b.app.progress("starting fabrics to measure")()
	counts := slices.Compact([]int{1, b.busy, b.flags.reservations})
	for _, n := range counts {
		// Room for what else is made: surplus of a ring change, and the calls without a reservation.
		f, err := startMeasuredFabric(ctx, fabricSpec{
			Managers: benchManagers, Capacity: 4*max(n, ringReservations)*benchLimit + benchManagers*benchBusy, Driver: b.flags.driver,
			Set: map[string]string{"reclaim": benchReclaim.String()},
		})
		if err != nil {
			return err
		}
		s := &reservationFabric{measuredFabric: f}
		b.sides = append(b.sides, s)
		if s.client, err = f.target.connect(ctx); err != nil {
			return err
		}
		limit := benchLimit
		if n == 1 {
			limit = benchLimit * b.busy // all callers are there
		}
		if err := s.reserve(ctx, n, limit); err != nil {
			return err
		}
	}
	for i, n := range []int{1, b.flags.reservations} {
		offers := benchLimit
		if n == 1 {
			offers = benchLimit * b.busy
		}
		var err error
		if b.twins[i], err = startTwin(ctx, n, offers); err != nil {
			return err
		}
	}
	return nil
}

func (s *reservationFabric) stop() {
	if s.client != nil {
		s.client.Close()
	}
	s.measuredFabric.stop()
}

// reserve makes functions until there are n, each with a reservation, and waits until all are ready.
func (s *reservationFabric) reserve(ctx context.Context, n, limit int) error {
	e, err := makeEcho(ctx, benchFlags{driver: "null", own: true}, nil)
	if err != nil {
		return err
	}
	if _, err := s.client.PutCode(ctx, e.pack.Zip); err != nil {
		return err
	}
	var names []string
	for i := len(s.functions); i < n; i++ {
		names = append(names, fmt.Sprintf("r%04d", i))
	}
	if err := each(ctx, names, func(ctx context.Context, name string) error {
		d := deployment{name: name, runtime: e.runtime, memoryMB: 128, timeout: 10 * time.Second, pack: e.pack, given: unsaidHandler}
		if _, err := s.client.CreateFunction(ctx, *d.create()); err != nil {
			return fmt.Errorf("make function %s: %w", name, err)
		}
		if _, err := s.client.PublishVersion(ctx, schema.FunctionInput{FunctionName: name}); err != nil {
			return fmt.Errorf("publish function %s: %w", name, err)
		}
		return nil
	}); err != nil {
		return err
	}
	begin := time.Now()
	if err := each(ctx, names, func(ctx context.Context, name string) (err error) {
		for try := 0; ; try++ { // a limit that stands already may be set again
			if _, err = s.client.Reserve(ctx, name, "1", limit); schema.CodeOf(err) != schema.CodeUnavailable || try == reservingTries {
				return err
			}
			if err := pause(ctx, time.Second<<try); err != nil {
				return err
			}
		}
	}); err != nil {
		return err
	}
	s.functions = append(s.functions, names...)
	err = s.until(ctx, reservationsTold, func(all []schema.ReservationOutput) bool {
		return len(all) == n && !slices.ContainsFunc(all, func(r schema.ReservationOutput) bool { return r.Status != schema.ReservationReady })
	})
	s.opened = time.Since(begin)
	return err
}

// each does the same for many, a few at once, until one fails.
func each(ctx context.Context, all []string, do func(context.Context, string) error) error {
	crew := pool.New().WithMaxGoroutines(reservingAtOnce).WithContext(ctx).WithCancelOnError().WithFirstError()
	for _, one := range all {
		crew.Go(func(ctx context.Context) error { return do(ctx, one) })
	}
	return crew.Wait()
}

// settling bounds the wait until reservations stand as they should.
const settling = 5 * time.Minute

// until looks at the reservations again and again until they stand so.
func (s *reservationFabric) until(ctx context.Context, every time.Duration, so func([]schema.ReservationOutput) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settling, fmt.Errorf("the reservations are not settled after %v", settling))
	defer cancel()
	for {
		all, err := s.client.Reservations(ctx, "")
		if err != nil {
			return err
		}
		if so(all) {
			return nil
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// called are the functions that are called: as many as are busy, spread over all in the order in which they were reserved, in
// which their places on shards were given out too.
func (s *reservationFabric) called(busy int) []string {
	if len(s.functions) <= busy {
		return s.functions
	}
	all := make([]string, busy)
	for i := range all {
		all[i] = s.functions[i*len(s.functions)/busy]
	}
	return all
}

// measure lets a process of its own call.
func (b *reservationBench) measure(ctx context.Context) error {
	one := b.sides[0]
	spec := reservedSpec{
		Subject: "bench-held", Plain: "plain", Payload: echoPayload(), Callers: b.busy, Duration: b.flags.duration, Slice: benchSlice,
	}
	_, remove, err := b.app.deployEcho(ctx, one.target, spec.Plain, benchFlags{driver: "null", own: true}, nil, 10*time.Second)
	if err != nil {
		return err
	}
	defer remove()
	echo, err := startPart(ctx, "bench-echo", echoSpec{Target: specOf(one.target), Subject: spec.Subject})
	if err != nil {
		return err
	}
	defer echo.stop()
	if err := echo.ready(ctx); err != nil {
		return err
	}
	for _, s := range b.sides {
		spec.Sides = append(spec.Sides, reservedSideSpec{specOf(s.target), s.target.note.PID, s.called(b.busy)})
	}
	for i, t := range b.twins {
		spec.Twins[i] = twinSideSpec{specOf(t.target), t.target.note.PID, []int{1, b.flags.reservations}[i]}
	}
	defer b.app.progress(fmt.Sprintf("measuring for %v", b.flags.duration))()
	m, err := measure[reservedMeasured](ctx, "bench-held", spec)
	if err != nil {
		return err
	}
	r := &b.result
	r.Core, r.Unreserved, r.Reserved, r.RatioP50, r.RatioCore = m.Core, m.Unreserved, m.Reserved, m.RatioP50, m.RatioCore
	r.Rounds, r.Elsewhere, r.Errors, r.FirstError = m.Rounds, m.Elsewhere, m.Errors, m.FirstError
	last := len(m.Sides) - 1
	r.RatioRate, r.RatioCPU = m.RatioRate[last], m.RatioCPU[last]
	r.TwinOne, r.Twin, r.RatioTwin = m.Twins[0], m.Twins[1], m.RatioTwin
	for i, s := range b.sides {
		r.Fabrics = append(r.Fabrics, reservationSide{
			Reservations: len(s.functions), Called: len(spec.Sides[i].Functions), Shards: m.Shards[i], Opened: rounded(s.opened.Seconds()), Load: m.Sides[i],
		})
	}
	return nil
}

// idle measures what they use while nobody calls, all in the same span of time.
func (b *reservationBench) idle(ctx context.Context) error {
	defer b.app.progress("measuring idle fabrics")()
	before := make([]time.Duration, len(b.sides))
	known := make([]bool, len(b.sides))
	begin := time.Now()
	for i, s := range b.sides {
		before[i], known[i] = cpuOf(s.target.note.PID)
	}
	if err := pause(ctx, b.flags.duration/2); err != nil {
		return err
	}
	took := time.Since(begin)
	for i, s := range b.sides {
		r := &b.result.Fabrics[i]
		if after, ok := cpuOf(s.target.note.PID); ok && known[i] {
			percent := rounded(100 * (after - before[i]).Seconds() / took.Seconds())
			r.IdleCPU = &percent
		}
		sight, err := s.look(ctx)
		if err != nil {
			return err
		}
		r.Goroutines, r.Heap = sight.Goroutines, rounded(float64(sight.Heap)/(1<<20))
		if bytes, ok := memoryOf(s.target.note.PID); ok {
			mib := rounded(float64(bytes) / (1 << 20))
			r.Memory = &mib
		}
	}
	return nil
}

package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// What is counted of calls lies in a row of their function version, which an environment holds while it is there: a call adds to
// atomics and looks nothing up.

var (
	runReasons = [...]schema.Reason{"", schema.ReasonReserved, schema.ReasonSpillover, schema.ReasonScale, schema.ReasonOverflow, schema.ReasonUnreserved}
	runStarts  = [...]schema.Start{schema.StartWarm, schema.StartSpecialised, schema.StartCold}
	runCodes   = [...]string{telemetry.CodeOK, telemetry.CodeFunction, string(schema.CodeTimedOut), string(schema.CodeExitError),
		string(schema.CodeOutOfMemory), string(schema.CodeInitError), string(schema.CodeInvalidEntrypoint), string(schema.CodeExecutionLost),
		string(schema.CodeBindingMismatch), string(schema.CodeResponseTooLarge), string(schema.CodeTruncatedResponse),
		string(schema.CodeInvalidMode), string(schema.CodeNoToken), string(schema.CodeRuntimeUnavailable), string(schema.CodeUnavailable),
		telemetry.Other}
)

const (
	codeOK       = 0
	codeFunction = 1
	codeTimedOut = 2
	codeOther    = len(runCodes) - 1
)

// runCode is the place of an outcome's code. What a function calls its own errors is not among them.
func runCode(o *schema.Outcome, own bool) int {
	switch {
	case o.Error == nil:
		return codeOK
	case !own:
		return codeFunction
	}
	for i := codeTimedOut; i < codeOther; i++ {
		if runCodes[i] == o.Error.Type {
			return i
		}
	}
	return codeOther
}

func runReason(r schema.Reason) int {
	for i := 1; i < len(runReasons); i++ {
		if runReasons[i] == r {
			return i
		}
	}
	return 0
}

func runStart(s schema.Start) int {
	switch s {
	case schema.StartCold:
		return 2
	case schema.StartSpecialised:
		return 1
	}
	return 0
}

// Whose calls a row counts.
type (
	versionName  struct{ account, function, version string }
	functionName struct{ account, function string }
)

// runs is what the calls of one function version did.
type runs struct {
	calls [len(runReasons)][len(runStarts)][len(runCodes)]atomic.Uint64

	run, init, memory *telemetry.Histogram
}

func newRuns() *runs {
	return &runs{
		run: telemetry.NewHistogram(telemetry.Durations), init: telemetry.NewHistogram(telemetry.Durations),
		memory: telemetry.NewHistogram(telemetry.Sizes),
	}
}

func foldRuns(into, from *runs) {
	from.each(func(r, s, c int, n uint64) { into.calls[r][s][c].Add(n) })
	into.run.Fold(from.run)
	into.init.Fold(from.init)
	into.memory.Fold(from.memory)
}

func (r *runs) each(tell func(reason, start, code int, n uint64)) {
	for reason := range r.calls {
		for start := range r.calls[reason] {
			for code := range r.calls[reason][start] {
				if n := r.calls[reason][start][code].Load(); n > 0 {
					tell(reason, start, code, n)
				}
			}
		}
	}
}

type heldRuns = telemetry.Held[versionName, runs]

// metrics are what a worker counts for those who look at it, beside [Counters].
type metrics struct {
	versions *telemetry.Table[versionName, runs]
	traffic  *telemetry.Table[functionName, traffic]
	answer   *telemetry.Histogram
}

func newMetrics() metrics {
	return metrics{
		versions: telemetry.NewTable[versionName](telemetry.MaxFunctions, newRuns, foldRuns),
		traffic:  telemetry.NewTable[functionName](telemetry.MaxFunctions, func() *traffic { return new(traffic) }, foldTraffic),
		answer:   telemetry.NewHistogram(telemetry.Durations),
	}
}

// counted is what an environment holds while it is there, guarded by its mutex: what is counted in a row that was given back may be
// lost.
type counted struct {
	runs  *heldRuns // nil: given back
	usage *usageRow
}

// counts begins to count for an environment that is made.
func (e *environment) counts() {
	b, w := e.binding, e.worker
	e.counted = counted{w.metrics.versions.Hold(versionName{b.Account, b.Function, b.Version}), w.usage.hold(usageKey{b.Account, b.Function, ""})}
}

// countsFor turns to the sub-tenant to which the environment is bound from now on.
func (e *environment) countsFor(tenant string) {
	w, b := e.worker, e.binding
	row := w.usage.hold(usageKey{b.Account, b.Function, tenant})
	e.mu.Lock()
	if e.counted.runs != nil {
		row, e.counted.usage = e.counted.usage, row
	}
	e.mu.Unlock()
	w.usage.release(row)
}

// countsNoMore gives back what an environment that has gone held.
func (e *environment) countsNoMore() {
	w := e.worker
	e.mu.Lock()
	held := e.counted
	e.counted = counted{}
	e.mu.Unlock()
	w.metrics.versions.Release(held.runs)
	w.usage.release(held.usage)
}

// countCall counts a call that ended. e is nil for one that ran nowhere.
func (w *Worker) countCall(e *environment, run *schema.Run, o *schema.Outcome, own bool) {
	reason, start, code := runReason(run.Call.Reason), runStart(run.Start), runCode(o, own)
	memory := 0
	if e != nil {
		memory = e.binding.MemoryMB
		e.mu.Lock()
		if c := &e.counted; c.runs != nil {
			c.runs.Row.calls[reason][start][code].Add(1)
			c.runs.Row.run.Took(o.Duration)
			c.usage.call(o.Duration, memory, code != codeOK)
			e.mu.Unlock()
			return
		}
		e.mu.Unlock() // it has gone while its last call was on its way out
	}
	call := run.Call
	w.metrics.versions.Count(versionName{call.Account, call.Function, call.Version}, func(r *runs) {
		r.calls[reason][start][code].Add(1)
		if e != nil {
			r.run.Took(o.Duration)
		}
	})
	row := w.usage.hold(usageKey{call.Account, call.Function, call.Tenant})
	row.call(o.Duration, memory, code != codeOK)
	w.usage.release(row)
}

// scrape tells all of it.
func (w *Worker) scrape(_ context.Context, s *telemetry.Scrape) {
	w.metrics.versions.Each(func(v versionName, other bool, r *runs) bool {
		if other {
			v = versionName{function: telemetry.Other, version: telemetry.Other}
		}
		return r.scrape(s, v)
	})
	s.Histogram(telemetry.CallStage, w.metrics.answer, telemetry.Stage.String(telemetry.StageAnswer))
	c := w.Counters()
	s.Gauge(telemetry.EnvFrozen, float64(c.Frozen))
	s.Count(telemetry.Mismatches, uint64(c.BindingMismatches))
	s.Count(telemetry.Bound, uint64(c.Bound))
	s.Count(telemetry.NotReturned, uint64(c.NotReturned))
	s.Count(telemetry.Unanswered, uint64(c.Unanswered))
	s.Count(telemetry.LogsDropped, uint64(c.LogBytesDropped))
	s.Gauge(telemetry.BodyBytes, float64(c.BodyBytes))
	w.usage.scrape(s)
	w.metrics.scrapeEgress(s)
}

// OfDriver tells what a driver keeps ready and what its environments take together. Workers of one process may share a driver, so it
// is told beside them.
func OfDriver(d driver.Driver) telemetry.Source {
	return func(_ context.Context, s *telemetry.Scrape) {
		if d, ok := d.(driver.Stocker); ok {
			stock := d.Stock()
			s.Gauge(telemetry.EnvStock, float64(stock.Ready))
			for result, n := range map[string]uint64{
				"built": stock.Built, "taken": stock.Taken, "missed": stock.Missed, "discarded": stock.Discarded,
			} {
				s.Count(telemetry.StockUse, n, telemetry.Result.String(result))
			}
		}
		if d, ok := d.(driver.Charged); ok {
			if memory, processor, err := d.Charged(); err == nil {
				s.Gauge(telemetry.EnvMemory, float64(memory))
				if processor >= 0 {
					s.Float(telemetry.EnvCPU, processor.Seconds())
				}
			}
		}
	}
}

func (r *runs) scrape(s *telemetry.Scrape, v versionName) (told bool) {
	name, version := telemetry.Function.String(v.function), telemetry.Version.String(v.version)
	var good, bad, late, cold, all uint64
	r.each(func(reason, start, code int, n uint64) {
		s.Count(telemetry.Calls, n, name, version, telemetry.Reason.String(string(runReasons[reason])),
			telemetry.Start.String(string(runStarts[start])), telemetry.Code.String(runCodes[code]))
		all += n
		switch code {
		case codeOK:
			good += n
		case codeTimedOut:
			late += n
			fallthrough
		default:
			bad += n
		}
		if runStarts[start] == schema.StartCold {
			cold += n
		}
	})
	if all == 0 && r.init.Count() == 0 {
		return false
	}
	s.Count(telemetry.Invocations, good, name, version)
	s.Count(telemetry.Errors, bad, name, version)
	s.Count(telemetry.Timeouts, late, name, version)
	s.Count(telemetry.ColdStarts, cold, name, version)
	s.Histogram(telemetry.RunDuration, r.run, name, version)
	s.Histogram(telemetry.InitDuration, r.init, name, version)
	s.Histogram(telemetry.MemoryPeak, r.memory, name, version)
	s.Histogram(telemetry.CallStage, r.run, telemetry.Stage.String(telemetry.StageRun))
	s.Histogram(telemetry.CallStage, r.init, telemetry.Stage.String(telemetry.StageInit))
	return true
}

// traffic is what a function did with its network.
type traffic struct {
	mu sync.Mutex
	driver.Traffic
}

func (t *traffic) add(last, now driver.Traffic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	addTraffic(&t.Traffic, last, now)
}

func foldTraffic(into, from *traffic) { into.add(driver.Traffic{}, from.Traffic) }

// scrapeEgress tells what functions did with their network, by function.
func (m *metrics) scrapeEgress(s *telemetry.Scrape) {
	m.traffic.Each(func(f functionName, other bool, t *traffic) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		function := f.function
		if other {
			if function = telemetry.Other; t.Connections+t.Flows+t.Queries == 0 && len(t.Refused) == 0 {
				return false
			}
		}
		name := telemetry.Function.String(function)
		s.Count(telemetry.EgressOpened, uint64(t.Connections), name)
		s.Count(telemetry.EgressFlows, uint64(t.Flows), name)
		s.Count(telemetry.EgressQueries, uint64(t.Queries), name)
		s.Count(telemetry.EgressFailed, uint64(t.Failed), name)
		s.Count(telemetry.EgressBytes, uint64(t.Sent), name, telemetry.Direction.String(telemetry.DirectionOut))
		s.Count(telemetry.EgressBytes, uint64(t.Received), name, telemetry.Direction.String(telemetry.DirectionIn))
		for why, n := range t.Refused {
			s.Count(telemetry.EgressRefused, uint64(n), name, telemetry.Refusal.String(string(why)))
		}
		return true
	})
}

// answered counts how long an answer took from its function until it was out.
func (m *metrics) answered(x *execution, o *schema.Outcome) {
	m.answer.Took(time.Since(x.started) - o.Duration)
}

// countInit counts a good init.
func (e *environment) countInit(took time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.counted.runs; r != nil {
		r.Row.init.Took(took)
	}
}

// countMemory counts how much an environment took at most by the end of a call; 0 is not known.
func (e *environment) countMemory(mb int) {
	if mb == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.counted.runs; r != nil {
		r.Row.memory.Record(int64(mb) << 20)
	}
}

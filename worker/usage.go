package worker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// usageKey is whom something is counted for. Of functions without sub-tenants, and of what an environment does before it is bound to
// one, Tenant is "".
type usageKey struct{ account, function, tenant string }

// usageRow is what one of them used since the row was made. An environment that is there holds it, so that a call adds to atomics:
// those of the ledger here, and those of metrics, which outlive it.
type usageRow struct {
	key usageKey
	usageCounts

	// Guarded by usage.mu.
	told     schema.UsageCounts // what the ledger has
	holders  int
	function *telemetry.Held[functionName, functionUsage]
	tenant   *telemetry.Held[string, usageCounts] // what it is told under in metrics
}

// usageCounts are the numbers of a row.
type usageCounts struct {
	calls, errors, billed, memory, sent, received, connections, refused atomic.Int64 // billed in ms, memory in MB times ms
}

// call counts a call that an environment with this memory answered, or 0 for none.
func (c *usageCounts) call(took time.Duration, memoryMB int, failed bool) {
	c.calls.Add(1)
	if failed {
		c.errors.Add(1)
	}
	if memoryMB > 0 {
		billed := int64((took + time.Millisecond - 1) / time.Millisecond) // as REPORT has it
		c.billed.Add(billed)
		c.memory.Add(billed * int64(memoryMB))
	}
}

// traffic counts what was not there at the last report.
func (c *usageCounts) traffic(last, now driver.Traffic) {
	c.sent.Add(now.Sent - last.Sent)
	c.received.Add(now.Received - last.Received)
	c.connections.Add(now.Connections - last.Connections)
	for why, n := range now.Refused {
		c.refused.Add(n - last.Refused[why])
	}
}

func foldUsage(into, from *usageCounts) {
	into.calls.Add(from.calls.Load())
	into.errors.Add(from.errors.Load())
	into.billed.Add(from.billed.Load())
	into.memory.Add(from.memory.Load())
	into.sent.Add(from.sent.Load())
	into.received.Add(from.received.Load())
	into.connections.Add(from.connections.Load())
	into.refused.Add(from.refused.Load())
}

// call and traffic count for the ledger and for metrics.
func (r *usageRow) call(took time.Duration, memoryMB int, failed bool) {
	r.usageCounts.call(took, memoryMB, failed)
	r.tenant.Row.call(took, memoryMB, failed)
}

func (r *usageRow) traffic(last, now driver.Traffic) {
	r.usageCounts.traffic(last, now)
	r.tenant.Row.traffic(last, now)
}

// counts are the numbers now.
func (c *usageCounts) counts() schema.UsageCounts {
	return schema.UsageCounts{
		Calls: c.calls.Load(), Errors: c.errors.Load(), BilledMS: c.billed.Load(), MemoryMBMS: c.memory.Load(), Sent: c.sent.Load(),
		Received: c.received.Load(), Connections: c.connections.Load(), Refused: c.refused.Load(),
	}
}

// functionUsage is what a function used by sub-tenant, as far as metrics tell them apart.
type functionUsage struct {
	tenants *telemetry.Table[string, usageCounts]
}

func newFunctionUsage(places *telemetry.Places) *functionUsage {
	tenants := telemetry.NewTable[string](telemetry.MaxTenants, func() *usageCounts { return new(usageCounts) }, foldUsage)
	return &functionUsage{tenants.Within(places)}
}

// foldFunctionUsage is for a function that nobody holds: none of its sub-tenants is held either.
func foldFunctionUsage(into, from *functionUsage) {
	from.tenants.Each(func(_ string, _ bool, c *usageCounts) bool {
		foldUsage(into.tenants.Rest(), c)
		return false
	})
	from.tenants.Leave()
}

// maxUsageRows is how many functions and sub-tenants are kept apart at once: those with an environment, and those of the last seconds.
const maxUsageRows = 200_000

// usage is what functions and their sub-tenants used, each of them exactly. Safe for concurrent use.
type usage struct {
	functions *telemetry.Table[functionName, functionUsage]
	written   bool         // a ledger takes rows: they stay until it has
	refused   atomic.Int64 // since when it cannot, Unix ns; 0: it can

	mu   sync.Mutex
	rows map[usageKey]*usageRow
}

func newUsage() *usage {
	places := telemetry.NewPlaces(telemetry.MaxUsage - telemetry.MaxFunctions - 1) // each function has a row of others, and all have
	fresh := func() *functionUsage { return newFunctionUsage(places) }
	return &usage{
		functions: telemetry.NewTable[functionName](telemetry.MaxFunctions, fresh, foldFunctionUsage), rows: make(map[usageKey]*usageRow),
	}
}

// hold gives the row of a key, for release to give back.
func (u *usage) hold(key usageKey) *usageRow {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.rows[key]
	if r == nil && len(u.rows) >= maxUsageRows { // the ledger cannot be written for long, and many come and go
		key.tenant = telemetry.Other
		r = u.rows[key]
	}
	if r == nil {
		r = &usageRow{key: key, function: u.functions.Hold(functionName{key.account, key.function})}
		r.tenant = r.function.Row.tenants.Hold(key.tenant)
		u.rows[key] = r
	}
	r.holders++
	return r
}

// release gives a row back, nil for none.
func (u *usage) release(r *usageRow) {
	if r == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.holders--; r.holders == 0 && !u.written {
		u.forget(r)
	}
}

// forget lets go of a row that nobody holds. What it counted stays in what metrics tell. The mutex is held.
func (u *usage) forget(r *usageRow) {
	r.function.Row.tenants.Release(r.tenant)
	u.functions.Release(r.function)
	delete(u.rows, r.key)
}

// scrape tells it by sub-tenant, as far as there is a place for each. Nobody who counts waits for it.
func (u *usage) scrape(s *telemetry.Scrape) {
	behind := 0.
	if at := u.refused.Load(); at > 0 {
		behind = time.Since(time.Unix(0, at)).Seconds()
	}
	s.Gauge(telemetry.UsageBehind, behind)
	u.functions.Each(func(f functionName, other bool, fn *functionUsage) (told bool) {
		function := f.function
		if other {
			function = telemetry.Other
		}
		fn.tenants.Each(func(tenant string, other bool, counts *usageCounts) bool {
			if other {
				tenant = telemetry.Other
			}
			one := counts.scrape(s, function, tenant)
			told = told || one
			return one
		})
		return told
	})
}

func (c *usageCounts) scrape(s *telemetry.Scrape, function, tenant string) (told bool) {
	if c.calls.Load() == 0 && c.connections.Load() == 0 && c.sent.Load() == 0 {
		return false
	}
	name, whose := telemetry.Function.String(function), telemetry.Tenant.String(tenant)
	s.Count(telemetry.UsageCalls, uint64(c.calls.Load()), name, whose)
	s.Count(telemetry.UsageErrors, uint64(c.errors.Load()), name, whose)
	s.Float(telemetry.UsageDuration, float64(c.billed.Load())/1e3, name, whose)
	s.Float(telemetry.UsageMemory, float64(c.memory.Load())/1e3/1024, name, whose)
	s.Count(telemetry.UsageEgress, uint64(c.sent.Load()), name, whose, telemetry.Direction.String(telemetry.DirectionOut))
	s.Count(telemetry.UsageEgress, uint64(c.received.Load()), name, whose, telemetry.Direction.String(telemetry.DirectionIn))
	return true
}

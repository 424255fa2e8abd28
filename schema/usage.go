package schema

import (
	"fmt"
	"time"
)

// Bounds of a usage record: below what [Scan] lets readers take, and what every NATS server takes unless told otherwise.
const (
	MaxUsageRows  = 4096
	MaxUsageBytes = 768 << 10
)

// UsageRecord is what one worker counted for one account in a stretch of time: one message of stream USAGE, the ledger by which a
// provider bills its customers. Records follow one another without gap or overlap in one life of a worker, so the sum of all of them
// is what was used, exactly. One that is stored again has the number of the first and is stored once (Nats-Msg-Id). Issue 7, 6.
type UsageRecord struct {
	V           int        `msgpack:"v"`
	Account     string     `msgpack:"a"`
	Worker      string     `msgpack:"w"`
	Incarnation string     `msgpack:"i"` // random at each start of it
	Number      uint64     `msgpack:"n"` // from 1
	From        time.Time  `msgpack:"b"` // on the worker's wall clock
	To          time.Time  `msgpack:"e"`
	Rows        []UsageRow `msgpack:"r"`
}

// UsageRow is what one function and sub-tenant used. Tenant is "" for functions without sub-tenants, and for what an environment did
// before it was bound to one.
type UsageRow struct {
	Function string `msgpack:"f"`
	Tenant   string `msgpack:"t,omitempty"`
	UsageCounts
}

// UsageCounts are the numbers of a row.
type UsageCounts struct {
	Calls       int64 `msgpack:"c,omitempty" json:"calls"`        // that a worker answered
	Errors      int64 `msgpack:"x,omitempty" json:"errors"`       // of these, with a function error, a time-out, a crash
	BilledMS    int64 `msgpack:"d,omitempty" json:"billed_ms"`    // of each call in whole ms, rounded up, as its REPORT has it
	MemoryMBMS  int64 `msgpack:"m,omitempty" json:"memory_mb_ms"` // billed ms times MB of memory
	Sent        int64 `msgpack:"s,omitempty" json:"egress_sent"`  // payload bytes of connections
	Received    int64 `msgpack:"g,omitempty" json:"egress_received"`
	Connections int64 `msgpack:"o,omitempty" json:"egress_connections"`
	Refused     int64 `msgpack:"u,omitempty" json:"egress_refused"` // what egress policies refused
}

// Add adds numbers, times 1 or -1.
func (c *UsageCounts) Add(o UsageCounts, times int64) {
	c.Calls += times * o.Calls
	c.Errors += times * o.Errors
	c.BilledMS += times * o.BilledMS
	c.MemoryMBMS += times * o.MemoryMBMS
	c.Sent += times * o.Sent
	c.Received += times * o.Received
	c.Connections += times * o.Connections
	c.Refused += times * o.Refused
}

// GBSeconds is the billed duration times the memory, in GB of 1,024 MB and seconds.
func (c *UsageCounts) GBSeconds() float64 { return float64(c.MemoryMBMS) / 1000 / 1024 }

// maxUsageCount is the most that a number of one row may be: 9 PB, and 285,000 years; a thousand of them still add up without overflow,
// and readers of JSON keep each exactly.
const maxUsageCount = 1 << 53

// Good reports whether all numbers may stand in a record: none falls, and none is above 1<<53.
func (c *UsageCounts) Good() bool {
	return min(c.Calls, c.Errors, c.BilledMS, c.MemoryMBMS, c.Sent, c.Received, c.Connections, c.Refused) >= 0 &&
		max(c.Calls, c.Errors, c.BilledMS, c.MemoryMBMS, c.Sent, c.Received, c.Connections, c.Refused) <= maxUsageCount
}

// MsgID is by what a record is stored once.
func (r *UsageRecord) MsgID() string {
	return fmt.Sprintf("%s/%s/%d", r.Worker, r.Incarnation, r.Number)
}

// UsageInput is the request of GetUsage. Without a Cursor the answer begins with the records that ended at Since or later, at the
// oldest there is without that.
type UsageInput struct {
	FunctionName string     `json:"FunctionName,omitempty"` // "" all of them
	TenantID     string     `json:"TenantId,omitempty"`     // "" all of them
	Since        *time.Time `json:"Since,omitempty"`
	Until        *time.Time `json:"Until,omitempty"` // records that ended before; none: all
	Cursor       string     `json:"Cursor,omitempty"`
}

// UsageOutput is the sum of some records. Who adds up the answers until there is no Cursor has the sum of all.
type UsageOutput struct {
	Usage  []UsageItem `json:"usage"`
	Cursor string      `json:"cursor,omitempty"` // for the next request; "" where that was all
	// Behind says that records which Since asks for are gone by age or size: the sums are less than what was used.
	Behind bool `json:"behind,omitempty"`
}

// UsageItem is what a function and sub-tenant used.
type UsageItem struct {
	Function string `json:"function"`
	Tenant   string `json:"tenant,omitempty"`
	UsageCounts
	GBSeconds float64   `json:"gb_seconds"`
	From      time.Time `json:"from"` // of the first record that it is in, and the end of the last
	To        time.Time `json:"to"`
}

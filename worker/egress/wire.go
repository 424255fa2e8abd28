package egress

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// The worker and its helper speak over a pair of sockets, a message of JSON each:
//
//	worker ── order{Hello} ──────────────► once
//	worker ── order{Fabric} ─────────────► before the first, and when it has moved
//	worker ── order{Attach} + the device ► an environment sends its first packet
//	worker ◄── report ──────────────────── when there is something new, at most once a second and environment
//	worker ── order{Mark} ───────────────► its init is done
//	worker ◄── report{Mark} ────────────── all until now, new or not
//	worker ── order{Bind} ───────────────► it is bound to a sub-tenant
//	worker ── order{Detach} ─────────────► it has ended
//	worker ◄── report{End} ─────────────── and nothing of it is left
const maxMessage = 64 << 10

// order is what the worker says: one of these.
type order struct {
	Hello  *hello  `json:"hello,omitempty"`
	Fabric *fabric `json:"fabric,omitempty"`
	Attach *attach `json:"attach,omitempty"`
	Mark   uint64  `json:"mark,omitempty"`
	Bind   *bind   `json:"bind,omitempty"`
	Detach uint64  `json:"detach,omitempty"`
}

// hello is what holds for all environments.
type hello struct {
	Local    []netip.AddrPort `json:"local,omitempty"`
	Resolver string           `json:"resolver,omitempty"`
	Limits   Limits           `json:"limits"`
}

// fabric is where the NATS servers and others of the fabric are, which nobody reaches.
type fabric struct {
	Addrs []netip.AddrPort `json:"addrs"`
}

// attach gives an environment a network; its device comes along.
type attach struct {
	ID       uint64   `json:"id"`
	Account  string   `json:"account,omitempty"`  // whose share of connections and memory it takes
	Function string   `json:"function,omitempty"` // of that account
	Rules    []string `json:"rules,omitempty"`
	None     bool     `json:"none,omitempty"`
	Reset    []flow   `json:"reset,omitempty"` // what a helper before this one had
}

// bind makes the environment one of a sub-tenant, whose share it takes from now on.
type bind struct {
	ID     uint64 `json:"id"`
	Tenant string `json:"tenant"`
}

// flow is a connection as the environment has it.
type flow struct {
	Here  netip.AddrPort `json:"h"`
	There netip.AddrPort `json:"t"`
}

// report is what the helper says of an environment. Numbers are since its attachment.
type report struct {
	ID      uint64         `json:"id"`
	Traffic driver.Traffic `json:"traffic"`
	Mark    bool           `json:"mark,omitempty"`
	End     bool           `json:"end,omitempty"`
}

// Limits of connections and flows. Zero values are defaults. What all together may have is shared among accounts, functions and
// sub-tenants ([shares]).
type Limits struct {
	Place int           `json:"place"` // at once, of one environment; 0 means 256
	All   int           `json:"all"`   // of all together; 0 means what Bytes have room for
	Bytes int64         `json:"bytes"` // that all together may hold; 0 means 256 MiB
	Idle  time.Duration `json:"idle"`  // after which a UDP flow is over; 0 means 60 s
}

func (l Limits) withDefaults() Limits {
	l.Place = cmp.Or(l.Place, 256)
	l.Bytes = cmp.Or(l.Bytes, 256<<20)
	l.All = cmp.Or(l.All, max(1, int(l.Bytes/flowBytes)))
	l.Idle = cmp.Or(l.Idle, 60*time.Second)
	return l
}

// What a connection holds in the helper at most: two windows and two buffers of copies.
const (
	window     = 32 << 10 // each way
	copyBuffer = 16 << 10
	flowBytes  = 2*window + 2*copyBuffer
)

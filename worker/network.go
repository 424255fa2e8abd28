package worker

import (
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// Refusals that an environment's log names: some at once, and then one after the other.
const (
	refusalBurst = 5
	refusalEvery = 10 * time.Second
)

// maxNetworks is how many functions and sub-tenants are counted apart. Others are counted together, under no name.
const maxNetworks = 10_000

// Egress is what environments of one function and sub-tenant did with their network since the worker was made.
type Egress struct {
	Account, Function, Tenant string
	driver.Traffic
}

// networks counts by account, function and sub-tenant.
type networks struct {
	mu  sync.Mutex
	all map[[3]string]driver.Traffic
}

// Egress takes a look, in no order.
func (w *Worker) Egress() []Egress {
	n := &w.networks
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]Egress, 0, len(n.all))
	for of, t := range n.all {
		t.Refused = maps.Clone(t.Refused)
		all = append(all, Egress{of[0], of[1], of[2], t})
	}
	return all
}

// add counts what was not there at the last report of an environment.
func (n *networks) add(of [3]string, last, now driver.Traffic) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[[3]string]driver.Traffic{}
	}
	if _, known := n.all[of]; !known && len(n.all) >= maxNetworks {
		of = [3]string{}
	}
	t := n.all[of]
	addTraffic(&t, last, now)
	n.all[of] = t
}

// addTraffic adds what was not there at the last report.
func addTraffic(t *driver.Traffic, last, now driver.Traffic) {
	t.Connections += now.Connections - last.Connections
	t.Flows += now.Flows - last.Flows
	t.Queries += now.Queries - last.Queries
	t.Failed += now.Failed - last.Failed
	t.Sent += now.Sent - last.Sent
	t.Received += now.Received - last.Received
	for why, times := range now.Refused {
		if t.Refused == nil {
			t.Refused = map[driver.Refusal]int64{}
		}
		t.Refused[why] += times - last.Refused[why]
	}
}

// countTraffic counts it for all who ask.
func (e *environment) countTraffic(tenant string, last, now driver.Traffic) {
	w, b := e.worker, e.binding
	w.networks.add([3]string{b.Account, b.Function, tenant}, last, now)
	w.metrics.traffic.Count(functionName{b.Account, b.Function}, func(t *traffic) { t.add(last, now) })
	row := w.usage.hold(usageKey{b.Account, b.Function, tenant})
	row.traffic(last, now)
	w.usage.release(row)
}

// network is what the environment's driver is told of its network. A policy that cannot be read, which the door would have
// refused, is none.
func (e *environment) network() *driver.Network {
	egress, bad := schema.ParseEgress(e.binding.Egress)
	if len(bad) > 0 {
		e.worker.log.Error("the egress policy of a function cannot be read: it reaches nothing", "function", e.binding.Function, "fields", bad)
		egress = schema.Egress{None: true}
	}
	r := &refusals{e: e, tokens: refusalBurst, filled: time.Now()}
	e.mu.Lock()
	e.egress = r
	e.mu.Unlock()
	return &driver.Network{Egress: egress, Account: e.binding.Account, Function: e.binding.Function, Report: r.report}
}

// marksInit has what the init did with the network told apart: it is the function's, and the report of it may come when the environment
// is bound already, to a sub-tenant who is not to pay for it.
func (e *environment) marksInit() {
	marker, ok := e.inside.(driver.Marker)
	e.mu.Lock()
	r := e.egress
	e.mu.Unlock()
	if !ok || r == nil || !e.binding.PerTenant {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init = marker.MarkTraffic()
}

// bindsNetwork has what the environment has and takes of the network be of the sub-tenant's share.
func (e *environment) bindsNetwork(tenant string) {
	if binder, ok := e.inside.(driver.NetworkBinder); ok && tenant != "" {
		binder.BindNetwork(tenant)
	}
}

// refusals takes reports of one environment's network.
type refusals struct {
	e *environment

	mu     sync.Mutex
	init   bool // what comes is still of the init, until a report is marked
	last   driver.Traffic
	tokens float64
	filled time.Time
	silent int64 // refusals that no line told of
}

// report counts, and tells the function's log of what was refused.
func (r *refusals) report(now driver.Traffic) {
	r.e.mu.Lock()
	tenant := r.e.tenant // "" while it is generic
	r.e.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.init {
		tenant, r.init = "", !now.Marked
	}
	r.e.countTraffic(tenant, r.last, now)
	news := now.News
	now.News = nil
	r.last = now
	at := time.Now()
	r.tokens = min(refusalBurst, r.tokens+at.Sub(r.filled).Seconds()/refusalEvery.Seconds())
	r.filled = at
	for _, one := range news {
		if r.tokens < 1 {
			r.silent += one.Times
			continue
		}
		r.tokens--
		r.e.logs.refused(at, one, r.silent)
		r.silent = 0
	}
}

// refused says what of a network was refused. silent is how many refusals were told of by nobody since the last.
func (l *logs) refused(at time.Time, r driver.Refused, silent int64) {
	text := refusalText(l.e.binding.Function, r)
	if silent > 0 {
		text += fmt.Sprintf(" (%d other refusals before)", silent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(schema.LogLine{Time: at, RequestID: l.request, Kind: schema.LogEgress, Count: r.Times + silent, Text: []byte(tame(text))})
}

// refusalText is what a person reads of a refusal: what, why, and what to do.
func refusalText(function string, r driver.Refused) string {
	what := r.To.String()
	switch {
	case r.Name != "":
		what = "the name " + r.Name
	case !r.To.IsValid():
		what = "a network"
	}
	why := "it is refused"
	switch r.Why {
	case driver.RefusedFloor:
		why = r.What + ": no policy opens that"
	case driver.RefusedLocal:
		why = fmt.Sprintf("an address of the host that runs it; for development: hearth up --allow-local %s, and hearth deploy --egress %s", what, what)
	case driver.RefusedFabric:
		why = "an address of the fabric's NATS servers"
	case driver.RefusedPort:
		why = fmt.Sprintf("port %d is closed to all functions", schema.ClosedPort)
	case driver.RefusedPrivate:
		why = "private ranges need an explicit CIDR, or address and port: hearth deploy --egress " + what
	case driver.RefusedPolicy:
		why = "it is not on the function's list: hearth deploy --egress " + what
	case driver.RefusedName:
		why = nameText(r)
	case driver.RefusedFlows:
		why = "too many connections at once"
	case driver.RefusedRate:
		why = "too many new connections or queries a second"
	}
	return fmt.Sprintf("egress of %s to %s is refused: %s", function, what, why)
}

func nameText(r driver.Refused) string {
	addr := r.To.Addr()
	_, private := schema.PrivateRange(addr)
	switch {
	case addr == netip.Addr{}:
		return "it is not on the function's list: hearth deploy --egress " + r.Name + ":PORT"
	case private && r.What == "":
		return fmt.Sprintf("it leads to %s, and private ranges need an explicit CIDR beside the name: hearth deploy --egress %s:PORT,%s", addr,
			r.Name, netip.PrefixFrom(addr, addr.BitLen()))
	case r.What != "":
		return fmt.Sprintf("it leads to %s, %s: no policy opens that", addr, r.What)
	}
	return fmt.Sprintf("it leads to %s, an address of the fabric's NATS servers", addr)
}

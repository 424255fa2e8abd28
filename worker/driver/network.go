package driver

import (
	"net/netip"

	"github.com/hearth-run/hearth/schema"
)

// Network is what a function may reach, where its driver keeps it from everything else (DESIGN 8; SECURITY 3).
type Network struct {
	Egress schema.Egress
	// Account and Function are whose environment it is: all of an account share what one may have of the connections and memory of all,
	// and all of a function of it what one may have of that.
	Account, Function string
	// Report is told what was reached and refused: once a second while there is something new, soon after something was
	// refused, and at the end. It must
	// not wait. nil tells nobody.
	Report func(Traffic)
}

// Marker is the rare ability of an environment to draw a line in what it does with its network.
type Marker interface {
	// MarkTraffic has a report made soon of what came before it, with Traffic.Marked. false: there was nothing to report of, and
	// none comes.
	MarkTraffic() bool
}

// NetworkBinder is the rare ability of an environment to have a sub-tenant's share of the network.
type NetworkBinder interface {
	// BindNetwork has what the environment has and takes of connections and queries be of a sub-tenant's share. It must not wait.
	BindNetwork(tenant string)
}

// Refusal is why something was not reached.
type Refusal string

// The reasons.
const (
	RefusedFloor   Refusal = "floor"   // no policy opens the address
	RefusedLocal   Refusal = "local"   // it is one of the host's own
	RefusedFabric  Refusal = "fabric"  // it is the NATS server's
	RefusedPort    Refusal = "port"    // it is closed to all
	RefusedPrivate Refusal = "private" // an explicit CIDR would open it
	RefusedPolicy  Refusal = "policy"  // it is not on the function's list
	RefusedName    Refusal = "name"    // the name is not on the list, or leads only to what is refused
	RefusedFlows   Refusal = "flows"   // too many connections at once
	RefusedRate    Refusal = "rate"    // too many new ones, or queries, a second
)

// Traffic is what an environment did with its network since it was made.
type Traffic struct {
	Connections int64             `json:"c"` // TCP, opened
	Flows       int64             `json:"u"` // UDP, from one port to another
	Queries     int64             `json:"q"` // of names
	Failed      int64             `json:"f"` // allowed, and nobody was there
	Sent        int64             `json:"s"` // bytes of payload
	Received    int64             `json:"r"`
	Refused     map[Refusal]int64 `json:"n,omitempty"`

	// News are some of what was refused since the last report.
	News []Refused `json:"w,omitempty"`

	Marked bool `json:"-"` // the report that [Marker] asked for
}

// Refused is something that was not reached.
type Refused struct {
	To   netip.AddrPort `json:"t,omitzero"`
	Name string         `json:"n,omitempty"` // that was asked for; it is the function's own text
	Why  Refusal        `json:"w"`
	What string         `json:"d,omitempty"` // of a floor: what the address is
	// Times is how often, these and others of the same reason that are not named.
	Times int64 `json:"k"`
}

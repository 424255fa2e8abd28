package native

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/hearth-run/hearth/worker/egress"
)

// Config says where a driver has its folder. Only Dir is needed.
type Config struct {
	// Dir is a folder of the host that sandboxes are mounted over while they are made, each in its own view; it is made if
	// need be, and nothing is ever written there. Drivers may share it.
	Dir string
	// Locks is where drivers of this host reserve blocks of uids, and cgroups with them. "" means that of package uids.
	Locks string
	// Stock is how many empty sandboxes are kept at most; how many there are follows from recent demand. 0 means 64, -1 none.
	Stock int
	// Local are addresses of the host's own that functions reach which list them in their egress, against SECURITY 3.
	Local []netip.AddrPort
	// Fabric tells where NATS servers and others of the fabric are, which no function reaches; nil: nowhere but on this host.
	Fabric func() []netip.AddrPort
	// Resolver is the name server for functions, host:port; "" means the host's own settings.
	Resolver string
	// Network bounds what functions have open; zero values are defaults.
	Network egress.Limits
	// Log is told what goes wrong with nobody there to return it to; nil means nobody.
	Log *slog.Logger
}

// Errors of environments.
var (
	ErrClosed  = errors.New("native driver: closed")
	ErrStarted = errors.New("native driver: the environment was started already")
	ErrEnded   = errors.New("native driver: the environment has ended")
)

package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Drivers by their names.
const (
	DriverNative  = "native"
	DriverProcess = "process"
	DriverNull    = "null"
	DriverNone    = "none" // no environments in this process: managers have those of their workers
)

// Defaults of a fabric in one process.
const (
	DefaultDataDir = "hearth-data"
	DefaultHTTP    = "127.0.0.1:4280"
	DefaultNATS    = "127.0.0.1:4222"
	MaxManagers    = 64 // in one process
	MaxFrontends   = 16
)

// Config says what [Up] starts. The zero value is one manager and one frontend at the usual addresses, with the default
// driver and no anonymous callers.
type Config struct {
	// DataDir holds everything that must outlast the process; it is made if need be (0700). "" means [DefaultDataDir].
	DataDir string
	// Ephemeral removes at the end what lies outside the data folder too: for a data folder that its maker removes.
	Ephemeral bool
	// Measured lets the admin of an embedded server keep the two streams of [topology.BenchStreams] and see how full the fabric's
	// own ones of events are: for measurements of a fabric that serves nobody else.
	Measured bool

	// HTTP is where the Lambda API is served, host and port; "" means [DefaultHTTP], port 0 a free one.
	HTTP string
	// Hosts are names, beside localhost and loopback addresses, under which HTTP is served.
	Hosts []string
	// NATS is where the embedded server listens; "" means [DefaultNATS], port 0 a free one.
	NATS string
	// ServerURL names a NATS server (2.12 or later, with JetStream) to use instead of an embedded one.
	ServerURL string
	// Creds is the file with the credential for that one: .creds or an nkey seed; "" means none.
	Creds string
	// Dial connects to that one instead, where a URL and a credential do not say it all: by a context of the nats CLI.
	Dial Dial
	// NoConsole leaves the console out of what HTTP serves: where others of this host must not see what it shows.
	NoConsole bool
	// MetricsAt and ConsoleAt are loopback addresses at which metrics are told, and the console is served, to whoever is on this host and
	// whatever HTTP serves; port 0 is a free one, "" none. The console is that of the first frontend.
	MetricsAt, ConsoleAt string
	// Anonymous lets programs of this host call functions without a credential. It holds only for listeners on loopback.
	Anonymous bool

	// Managers and Frontends are how many of each; 0 means 1. Managers are named m1, m2, … in every start.
	Managers, Frontends int
	// Capacity is how many places of 128 MB all managers have together; 0 means 3/4 of the memory that is free now.
	Capacity int
	// Driver is what makes environments: [DriverNative], [DriverProcess], [DriverNull] or [DriverNone]; "" means [DefaultDriver].
	Driver string
	// Set are first values of the fabric's numbers by their names (`hearth fabric`); a fabric that has others is an error.
	Set map[string]string
	// Prefix starts every name; "" means [subjects.DefaultPrefix].
	Prefix string

	// AllowLocal are addresses of this host's own (IP:PORT, or localhost:PORT) that functions of [DriverNative] reach which list
	// them in their egress, against SECURITY 3: for development.
	AllowLocal []string

	// Path is where interpreters are looked for, as in the variable PATH; "" means the system's usual folders.
	Path string

	Build     string               // of this binary, told to other nodes
	Logger    *slog.Logger         // nil discards
	Telemetry *telemetry.Telemetry // nil records no spans; who made it shuts it down
	Metrics   *telemetry.Metrics   // nil: those of this process are made; told at /metrics of HTTP, and at MetricsAt
}

// LogValue is what was asked for, without a password in a URL.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("data", c.DataDir), slog.String("http", c.HTTP), slog.String("nats", c.NATS), slog.String("server", schema.Redacted(c.ServerURL)),
		slog.String("creds", c.Creds), slog.Int("managers", c.Managers), slog.Int("frontends", c.Frontends), slog.Int("capacity", c.Capacity), slog.String("driver", c.Driver))
}

// LogValue is where the server is, without a password in its URL.
func (s Server) LogValue() slog.Value {
	return slog.GroupValue(slog.String("url", schema.Redacted(s.URL)), slog.String("creds", s.Creds))
}

// Dial connects to a NATS server with these options, which come after its own.
type Dial func(...nats.Option) (*nats.Conn, error)

// setDefaults fills in what was left out, but for the capacity, which the machine decides.
func (c *Config) setDefaults() {
	for at, value := range map[*string]string{
		&c.DataDir: DefaultDataDir, &c.HTTP: DefaultHTTP, &c.NATS: DefaultNATS, &c.Driver: DefaultDriver(),
		&c.Prefix: subjects.DefaultPrefix,
	} {
		if *at == "" {
			*at = value
		}
	}
	c.Managers, c.Frontends = max(c.Managers, 1), max(c.Frontends, 1)
	if c.Metrics == nil {
		c.Metrics = telemetry.NewMetrics(c.Build)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate names every field that cannot be used.
func (c *Config) Validate() []schema.FieldError {
	var bad []schema.FieldError
	wrong := func(field, got, allowed string) {
		bad = append(bad, schema.FieldError{Field: field, Got: got, Allowed: allowed})
	}
	count := func(field string, got, most int) {
		if got < 0 || got > most {
			wrong(field, strconv.Itoa(got), fmt.Sprintf("1 to %d, or 0 for 1", most))
		}
	}
	count("Managers", c.Managers, MaxManagers)
	count("Frontends", c.Frontends, MaxFrontends)
	if c.Capacity < 0 {
		wrong("Capacity", strconv.Itoa(c.Capacity), "1 or more, or 0 for what the memory allows")
	}
	if c.Capacity > 0 && c.Capacity < c.Managers {
		wrong("Capacity", strconv.Itoa(c.Capacity), fmt.Sprintf("at least one place for each of %d managers", c.Managers))
	}
	if c.Driver == DriverNone && c.Capacity > 0 {
		wrong("Capacity", strconv.Itoa(c.Capacity), noCapacity)
	}
	if !knownDriver(c.Driver) {
		wrong("Driver", c.Driver, "native, process, null or none")
	}
	addresses := []struct{ field, value string }{{"HTTP", c.HTTP}, {"NATS", c.NATS}}
	for _, a := range addresses {
		if a.value == "" {
			continue
		}
		host, ok := hostOf(a.value)
		if !ok {
			wrong(a.field, a.value, aListener)
			continue
		}
		// SECURITY 3: nothing bounds what code in a bare process does to the host, so nobody else may bring some.
		if !loopback(host) && cmp.Or(c.Driver, DefaultDriver()) == DriverProcess && (a.field == "HTTP" || c.ServerURL == "") {
			wrong(a.field, a.value, "a loopback address: driver process isolates nothing, so it serves this host alone")
		}
	}
	badSeen(c.MetricsAt, c.ConsoleAt, wrong)
	_, local := localAddresses(c.AllowLocal)
	bad = append(bad, local...)
	if _, err := subjects.NewNames(c.Prefix); err != nil {
		wrong("Prefix", c.Prefix, aPrefix)
	}
	if c.Creds != "" && c.ServerURL == "" {
		wrong("Creds", c.Creds, "only with ServerURL: the embedded server makes its own")
	}
	return append(bad, badNumbers(c.Set)...)
}

// noCapacity says what a manager has that makes no environments itself.
const noCapacity = "none with driver none: a manager has that of its workers"

// aPrefix is what a prefix has to be.
const aPrefix = "1 to 32 of a-z, 0-9 and -, first a letter"

// aListener is what an address of a listener has to be.
const aListener = "host:port, for instance 127.0.0.1:0"

// hostOf is the host of a listener's address; false if it is none.
func hostOf(address string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	n, numeric := strconv.Atoi(port)
	return host, err == nil && numeric == nil && 0 <= n && n <= 65535
}

func knownDriver(name string) bool {
	return slices.Contains([]string{"", DriverNative, DriverProcess, DriverNull, DriverNone}, name)
}

// badNumbers names the numbers of the fabric that cannot be what was asked for.
func badNumbers(set map[string]string) []schema.FieldError {
	var bad []schema.FieldError
	fabric := schema.DefaultFabric()
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if err := fabric.Set(key, set[key]); err != nil {
			var refused *schema.Error
			if errors.As(err, &refused) {
				bad = append(bad, refused.Fields...)
			}
		}
	}
	return bad
}

// loopback reports whether only programs of this host reach a listener on this host name or address.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

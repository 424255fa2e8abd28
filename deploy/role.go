package deploy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/internal/wholefile"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// The roles that can be processes of their own, by their names.
const (
	RoleManager  = "manager"
	RoleFrontend = "frontend"
	RoleWorker   = "worker"
)

// DefaultManagerDir is the data folder of a manager in a process of its own.
const DefaultManagerDir = "hearth-manager"

// NoHTTP is the address of a frontend that serves NATS alone.
const NoHTTP = "none"

// Server says how a role of its own reaches the NATS server (2.12 or later, with JetStream), which others run.
type Server struct {
	URL   string // "" means [client.DefaultURL]
	Creds string // file: .creds or an nkey seed, as [MakeCredential] makes; "" means none
	Dial  Dial   // connects instead, if it is set
}

// Node is one role in this process, serving.
type Node struct {
	ID      string
	HTTPURL string   // of the Lambda API; "" if it is not served
	Metrics string   // URL of its own listener for metrics; "" if it has none
	Console string   // URL of its own listener for the console; "" if it has none
	NATSURL string   // of the server to which it connected, without a password
	Notes   []string // what the driver does not enforce here, for people, one line each
	Remarks []string // what else of this host functions notice, the same

	parts lifecycle.Group
}

// Stop ends the role in order: it takes nothing more, what runs there ends, it leaves the fabric. When ctx ends first, what
// still runs is cut off; everything is stopped all the same, and the error says what was left. Safe twice.
func (n *Node) Stop(ctx context.Context) error { return n.parts.Stop(ctx) }

// ManagerConfig says which manager [StartManager] starts.
type ManagerConfig struct {
	// ID is the manager's name on the ring. "" means the one that its data folder remembers; a new folder gets one from the
	// host's name and a few random digits.
	ID string
	// DataDir holds what must outlast the process: its id, and the managers' key for variables. It is made if need be (0700),
	// and one process holds it. "" means [DefaultManagerDir], with an ID a folder of that one beside it: two managers that
	// are started from one folder do not meet.
	DataDir   string
	Ephemeral bool // as in [Config]
	Server    Server

	Capacity int    // places of 128 MB; 0 means 3/4 of the memory that is free now
	Driver   string // "" means [DefaultDriver]

	AllowLocal []string // as in [Config]

	Set    map[string]string // as in [Config]
	Prefix string
	Path   string

	Build     string
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
	Metrics   *telemetry.Metrics // nil: those of this process are made

	// MetricsAt is a loopback address at which they are told, port 0 a free one; "" is nowhere: this role serves no other HTTP.
	MetricsAt string
}

// Validate names every field that cannot be used.
func (c *ManagerConfig) Validate() []schema.FieldError {
	var bad []schema.FieldError
	wrong := func(field, got, allowed string) {
		bad = append(bad, schema.FieldError{Field: field, Got: got, Allowed: allowed})
	}
	if c.ID != "" && !ValidID(c.ID) {
		wrong("ID", c.ID, AnID)
	}
	if c.Capacity < 0 {
		wrong("Capacity", strconv.Itoa(c.Capacity), "1 or more, or 0 for what the memory allows")
	}
	if c.Driver == DriverNone && c.Capacity > 0 {
		wrong("Capacity", strconv.Itoa(c.Capacity), noCapacity)
	}
	if !knownDriver(c.Driver) {
		wrong("Driver", c.Driver, "native, process, null or none")
	}
	badSeen(c.MetricsAt, "", wrong)
	_, local := localAddresses(c.AllowLocal)
	bad = append(bad, local...)
	if _, err := subjects.NewNames(c.Prefix); err != nil {
		wrong("Prefix", c.Prefix, aPrefix)
	}
	return append(bad, badNumbers(c.Set)...)
}

// FrontendConfig says which frontend [StartFrontend] starts.
type FrontendConfig struct {
	// ID names its inboxes and statuses, and so its rights. "" draws another one for each start.
	ID     string
	Server Server

	// HTTP is where the Lambda API is served; "" means [DefaultHTTP], port 0 a free one, [NoHTTP] nowhere. It has to be a
	// loopback address: this process does not know what isolates the functions that it calls (SECURITY 3).
	HTTP      string
	Hosts     []string // as in [Config]
	NoConsole bool     // as in [Config]
	Anonymous bool     // programs of this host need no credential over HTTP
	Prefix    string

	Build     string
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
	Metrics   *telemetry.Metrics // nil: those of this process are made; served at /metrics of HTTP

	MetricsAt, ConsoleAt string // as in [Config]
}

// Validate names every field that cannot be used.
func (c *FrontendConfig) Validate() []schema.FieldError {
	var bad []schema.FieldError
	wrong := func(field, got, allowed string) {
		bad = append(bad, schema.FieldError{Field: field, Got: got, Allowed: allowed})
	}
	if c.ID != "" && !ValidID(c.ID) {
		wrong("ID", c.ID, AnID)
	}
	if c.HTTP != "" && c.HTTP != NoHTTP {
		if host, ok := hostOf(c.HTTP); !ok {
			wrong("HTTP", c.HTTP, aListener+", or "+NoHTTP)
		} else if !loopback(host) {
			wrong("HTTP", c.HTTP, "a loopback address: nothing tells a frontend that all workers isolate what they run (driver process "+
				"does not), so it serves this host alone; callers elsewhere come over NATS")
		}
	}
	badSeen(c.MetricsAt, c.ConsoleAt, wrong)
	if _, err := subjects.NewNames(c.Prefix); err != nil {
		wrong("Prefix", c.Prefix, aPrefix)
	}
	return bad
}

// AnID says what the id of a role has to be.
const AnID = "1 to 64 of letters, digits, ., _ and -, first a letter or digit"

var anID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidID reports whether a role may have this id.
func ValidID(id string) bool { return anID.MatchString(id) }

// StartManager starts a manager with its worker on a NATS server that runs, and returns when the ring holds it, or with an
// error after it has undone everything; ctx bounds the start alone. Errors are as those of [Up]; an id that another process
// holds is a [schema.CodeConflict], rights that are missing a [schema.CodeAccessDenied]. DESIGN 6.
func StartManager(ctx context.Context, cfg ManagerConfig) (*Node, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	u, err := newRole(Config{
		DataDir: cmp.Or(cfg.DataDir, managerDir(cfg.ID)), Ephemeral: cfg.Ephemeral, Capacity: cfg.Capacity, Driver: cfg.Driver,
		Set: cfg.Set, Prefix: cfg.Prefix, Path: cfg.Path, AllowLocal: cfg.AllowLocal, Build: cfg.Build, Logger: cfg.Logger, Telemetry: cfg.Telemetry, Metrics: cfg.Metrics,
	}, cfg.Server)
	if err != nil {
		return nil, err
	}
	n, one := &Node{}, &lifecycle.Group{}
	n.parts.Add("data folder", lifecycle.Func{OnStart: u.openData, OnStop: u.closeData})
	n.parts.Add("name", lifecycle.Func{OnStart: func(context.Context) (err error) {
		if n.ID, err = u.data.roleID(RoleManager, cfg.ID); err != nil {
			return err
		}
		if err := u.addManager(n.ID, u.capacities(1)[0]); err != nil {
			return err
		}
		one.Add(n.ID, u.managers[0].parts(u))
		return nil
	}})
	n.parts.Add("NATS server", lifecycle.Func{OnStart: u.startServer, OnStop: u.stopServer})
	n.parts.Add("driver", lifecycle.Func{OnStart: u.startDriver, OnStop: u.closeDriver})
	n.parts.Add("managers' key", lifecycle.Func{OnStart: u.loadKey})
	n.parts.Add("manager", one)
	u.tellMetrics(&n.parts, cfg.MetricsAt, &n.Metrics)
	return u.serve(ctx, n)
}

// StartFrontend starts a frontend on a NATS server that runs, and returns when it takes calls, which needs a manager on the
// ring, or with an error after it has undone everything; ctx bounds the start alone. Errors are as those of
// [StartManager]. DESIGN 6.
func StartFrontend(ctx context.Context, cfg FrontendConfig) (*Node, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	u, err := newRole(Config{
		HTTP: cfg.HTTP, Hosts: cfg.Hosts, NoConsole: cfg.NoConsole, Anonymous: cfg.Anonymous, Prefix: cfg.Prefix, Build: cfg.Build, Logger: cfg.Logger,
		Telemetry: cfg.Telemetry, Metrics: cfg.Metrics, ConsoleAt: cfg.ConsoleAt,
	}, cfg.Server)
	if err != nil {
		return nil, err
	}
	n := &Node{ID: cmp.Or(cfg.ID, "f-"+unused())}
	if err := u.addFrontend(&frontendNode{id: n.ID, first: true, stable: cfg.ID != ""}); err != nil {
		return nil, err
	}
	if cfg.HTTP != NoHTTP {
		n.parts.Add("HTTP listener", lifecycle.Func{OnStart: u.listenHTTP, OnStop: u.closeHTTP})
	}
	n.parts.Add("NATS server", lifecycle.Func{OnStart: u.startServer, OnStop: u.stopServer})
	n.parts.Add("frontend", u.frontends[0].parts(u))
	u.tellMetrics(&n.parts, cfg.MetricsAt, &n.Metrics)
	u.showConsole(&n.parts, cfg.ConsoleAt, &n.Console)
	return u.serve(ctx, n)
}

// managerDir is where a manager keeps its data that was told no folder.
func managerDir(id string) string {
	if id == "" {
		return DefaultManagerDir
	}
	return DefaultManagerDir + "-" + id // an id is a file's name too (ValidID)
}

// newRole is a start without nodes on a server that others run.
func newRole(cfg Config, server Server) (*up, error) {
	cfg.ServerURL, cfg.Creds, cfg.Dial = cmp.Or(server.URL, client.DefaultURL), server.Creds, server.Dial
	cfg.setDefaults()
	names, err := subjects.NewNames(cfg.Prefix)
	return &up{cfg: cfg, names: names, fabric: &Fabric{}}, err
}

func (u *up) serve(ctx context.Context, n *Node) (*Node, error) {
	if err := u.start(ctx, &n.parts); err != nil {
		return nil, err
	}
	n.HTTPURL, n.Notes, n.Remarks = u.fabric.HTTPURL, u.fabric.Notes, u.fabric.Remarks
	for _, m := range u.managers {
		n.NATSURL = m.nc.ConnectedUrlRedacted()
	}
	for _, f := range u.frontends {
		n.NATSURL = f.nc.ConnectedUrlRedacted()
	}
	return n, nil
}

// roleID is the name of the manager or worker whose folder this is. It is written down at the first start, so that the ring finds
// a manager's places again at the next one; a folder of one never serves another, whose environments would meet there.
func (d *data) roleID(role, wanted string) (string, error) {
	path := d.path(idFile)
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read the %s's id: %w", role, err)
	}
	has := strings.TrimSpace(string(text))
	switch {
	case err == nil && !ValidID(has):
		return "", schema.Errorf(schema.CodeConflict, "the %s's id in %s is damaged: write one there (%s), or remove the file", role, path, AnID)
	case err == nil && wanted != "" && wanted != has:
		return "", schema.Errorf(schema.CodeConflict, "data folder %s is that of %s %q: leave --id out, or choose another folder with --data",
			d.dir, role, has)
	case err == nil:
		return has, nil
	}
	id := cmp.Or(wanted, hostID())
	if err := wholefile.Write(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("note the %s's id: %w", role, err)
	}
	return id, nil
}

var notInID = regexp.MustCompile(`[^a-z0-9-]+`)

// hostID is a new id that tells people on which host its holder is.
func hostID() string {
	host, _ := os.Hostname() // none: the digits alone have to do
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	host = strings.Trim(notInID.ReplaceAllString(host, "-"), "-")
	return cmp.Or(host[:min(len(host), 32)], "m") + "-" + unused()[:4]
}

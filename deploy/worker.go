package deploy

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/remote"
)

// DefaultWorkerDir is the data folder of a worker in a process of its own.
const DefaultWorkerDir = "hearth-worker"

// WorkerConfig says which worker [StartWorker] starts.
type WorkerConfig struct {
	// Manager is the id of the manager that it serves; needed. It need not be there yet.
	Manager string
	// ID names the worker, and so its rights. "" means the one that its data folder remembers, as [ManagerConfig.ID].
	ID string
	// DataDir holds its id and, where functions reach it, what runs. One process holds it. "" means [DefaultWorkerDir], with an ID
	// a folder of that one beside it.
	DataDir   string
	Ephemeral bool // as in [Config]
	Server    Server

	Capacity int    // places of 128 MB; 0 means 3/4 of the memory that is free now
	Driver   string // [DriverNative], [DriverProcess] or [DriverNull]; "" means [DefaultDriver]
	Prefix   string
	Path     string

	AllowLocal []string // as in [Config]

	// Absent is told when there is no such manager, each time after one was there; nil tells nobody.
	Absent    func()
	Build     string
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
	Metrics   *telemetry.Metrics
	// MetricsAt is where they are told, as [ManagerConfig].
	MetricsAt string
}

// Validate names every field that cannot be used.
func (c *WorkerConfig) Validate() []schema.FieldError {
	var bad []schema.FieldError
	wrong := func(field, got, allowed string) {
		bad = append(bad, schema.FieldError{Field: field, Got: got, Allowed: allowed})
	}
	if !ValidID(c.Manager) {
		wrong("Manager", c.Manager, "the id of a manager: "+AnID)
	}
	if c.ID != "" && !ValidID(c.ID) {
		wrong("ID", c.ID, AnID)
	}
	if c.Capacity < 0 || c.Capacity > schema.MaxWorkerPlaces {
		wrong("Capacity", strconv.Itoa(c.Capacity), "1 to "+strconv.Itoa(schema.MaxWorkerPlaces)+", or 0 for what the memory allows")
	}
	if !knownDriver(c.Driver) || c.Driver == DriverNone {
		wrong("Driver", c.Driver, "native, process or null")
	}
	badSeen(c.MetricsAt, "", wrong)
	_, local := localAddresses(c.AllowLocal)
	bad = append(bad, local...)
	if _, err := subjects.NewNames(c.Prefix); err != nil {
		wrong("Prefix", c.Prefix, aPrefix)
	}
	return bad
}

// StartWorker starts a worker for a manager on a NATS server that runs. It returns when the worker has its id and listens for its
// manager, or with an error after it has undone everything; ctx bounds the start alone. Errors are as those of [StartManager].
// DESIGN 3.
func StartWorker(ctx context.Context, cfg WorkerConfig) (*Node, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	dir := cmp.Or(cfg.DataDir, DefaultWorkerDir)
	if cfg.DataDir == "" && cfg.ID != "" {
		dir += "-" + cfg.ID // an id is a file's name too (ValidID)
	}
	u, err := newRole(Config{
		DataDir: dir, Ephemeral: cfg.Ephemeral, Driver: cfg.Driver, Prefix: cfg.Prefix, Path: cfg.Path, AllowLocal: cfg.AllowLocal, Build: cfg.Build, Logger: cfg.Logger,
		Telemetry: cfg.Telemetry, Metrics: cfg.Metrics,
	}, cfg.Server)
	if err != nil {
		return nil, err
	}
	n, w := &Node{}, &workerNode{manager: cfg.Manager, capacity: capacities(cfg.Capacity, 1, freeMemory())[0], absent: cfg.Absent}
	n.parts.Add("data folder", lifecycle.Func{OnStart: u.openData, OnStop: u.closeData})
	n.parts.Add("name", lifecycle.Func{OnStart: func(context.Context) (err error) {
		if n.ID, err = u.data.roleID(RoleWorker, cfg.ID); err != nil {
			return err
		}
		w.id = n.ID
		w.login, err = newLogin(RoleWorker, w.id, workerRights(u.names, w.id))
		return err
	}})
	n.parts.Add("NATS server", lifecycle.Func{OnStart: u.startServer, OnStop: u.stopServer})
	n.parts.Add("driver", lifecycle.Func{OnStart: u.startDriver, OnStop: u.closeDriver})
	one := &lifecycle.Group{}
	w.parts(u, one)
	n.parts.Add("worker", one)
	u.tellMetrics(&n.parts, cfg.MetricsAt, &n.Metrics)
	if err := u.start(ctx, &n.parts); err != nil {
		return nil, err
	}
	n.Notes, n.Remarks, n.NATSURL = u.fabric.Notes, u.fabric.Remarks, w.nc.ConnectedUrlRedacted()
	return n, nil
}

// workerNode is a worker that serves a manager of another process.
type workerNode struct {
	id, manager string
	capacity    int
	login       login
	absent      func()

	nc      *nats.Conn
	streams *remote.Streams
	shipper *worker.Shipper
	ledger  *worker.Ledger
	worker  *worker.Worker
	remote  *remote.Remote
}

// parts are what starts and stops in order: the connection, the log lines, the worker that writes them, what serves the manager
// with it.
func (n *workerNode) parts(u *up, g *lifecycle.Group) {
	g.Add("connection", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			n.nc, err = u.nats.connect(ctx, n.login, subjects.WorkerInbox(n.id, "r"))
			n.streams = remote.NewStreams(n.nc, u.names, n.manager, n.id)
			return err
		},
		OnStop: func(ctx context.Context) error { disconnect(ctx, n.nc); return nil },
	})
	g.Add("log lines", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			n.shipper, err = worker.NewShipper(n.nc, worker.ShipperConfig{
				Manager: n.manager, Names: u.names, Store: n.streams.StoreLog, Logger: u.cfg.Logger,
			})
			if err != nil {
				return err
			}
			return n.shipper.Start(ctx)
		},
		OnStop: func(ctx context.Context) error { return n.shipper.Stop(ctx) },
	})
	g.Add("usage", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			if n.ledger, err = worker.NewLedger(worker.LedgerConfig{Worker: n.id, Store: n.streams.StoreUsage, Logger: u.cfg.Logger}); err != nil {
				return err
			}
			return n.ledger.Start(ctx)
		},
		OnStop: func(ctx context.Context) error { return n.ledger.Stop(ctx) },
	})
	g.Add("environments", lifecycle.Func{
		OnStart: func(context.Context) (err error) {
			cfg := worker.Config{
				ID: n.id, Publish: n.nc.PublishMsg, Driver: u.driver, Tenants: u.tenants, Names: u.names, Path: u.cfg.Path,
				Logger: u.cfg.Logger, Telemetry: u.cfg.Telemetry, Metrics: u.cfg.Metrics, Lines: n.shipper.Open, LogBytes: n.shipper.Bytes(), Ledger: n.ledger,
			}
			if u.runsDir != "" { // else the driver runs no code
				cfg.Code, cfg.CacheDir = n.streams, filepath.Join(u.runsDir, codeDir, n.id)
			}
			n.worker, err = worker.New(cfg)
			return err
		},
		OnStop: func(ctx context.Context) error { return n.worker.Stop(ctx) },
	})
	g.Add("service", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			n.remote, err = remote.New(n.nc, n.worker, remote.Config{
				ID: n.id, Manager: n.manager, Names: u.names, Capacity: n.capacity, Driver: u.cfg.Driver, Tenants: u.tenants, Limits: u.limits,
				Build: u.build(), Logger: u.cfg.Logger, Absent: n.absent,
			})
			if err != nil {
				return err
			}
			return n.remote.Start(ctx)
		},
		OnStop: func(ctx context.Context) error { return n.remote.Stop(ctx) },
	})
}

package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/null"
	"github.com/hearth-run/hearth/worker/driver/process"
)

// Fabric is what [Up] has put together and runs.
type Fabric struct {
	HTTPURL   string // of the HTTP door
	NATSURL   string // of the NATS server
	CredsFile string // the admin's credential for client commands; "" where the other server needs none

	frontends []*frontend.Frontend
	group     lifecycle.Group
}

// Frontends are those of this process.
func (f *Fabric) Frontends() []*frontend.Frontend { return f.frontends }

// Up starts a fabric and returns when its first frontend serves and the ring holds all its managers, or an error with
// everything undone. Cancelling ctx ends the starting, not the fabric.
func Up(ctx context.Context, cfg Config) (*Fabric, error) {
	cfg.DataDir = cmp.Or(cfg.DataDir, DefaultData)
	cfg.HTTP, cfg.NATS = cmp.Or(cfg.HTTP, DefaultHTTP), cmp.Or(cfg.NATS, DefaultNATS)
	cfg.Managers, cfg.Frontends = cmp.Or(cfg.Managers, 1), cmp.Or(cfg.Frontends, 1)
	cfg.Driver = cmp.Or(cfg.Driver, DriverProcess)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = max(places(), cfg.Managers)
	}
	names, err := subjects.NewNames(cfg.Prefix)
	if err != nil {
		return nil, schema.Errorf(schema.CodeInvalidParameter, "%w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("the fabric was not ready within %v", startTimeout))
	defer cancel()
	u := &builder{cfg: &cfg, names: names, fabric: &Fabric{}}
	u.plan()
	if err := u.fabric.group.Start(ctx); err != nil {
		return nil, err
	}
	return u.fabric, nil
}

// Stop ends the fabric in order: the doors close, calls that run are answered, managers leave the ring, environments end,
// the server stops. Calls that still run when ctx ends are ended with their environments. Safe twice.
func (f *Fabric) Stop(ctx context.Context) error { return f.group.Stop(ctx) }

// builder fills a fabric's group; each part makes what the later ones need when it starts.
type builder struct {
	cfg    *Config
	names  subjects.Names
	fabric *Fabric

	folder   *folder
	admin    nkeys.KeyPair
	key      *seal.Key
	server   *embedded // nil with another server
	driver   driver.Driver
	cacheDir string
	http     net.Listener
	conns    []*nats.Conn
}

func (b *builder) managerID(i int) string { return "m" + strconv.Itoa(i+1) }

func (b *builder) frontendID(i int) string { return "f" + strconv.Itoa(i+1) }

func (b *builder) plan() {
	g := &b.fabric.group
	g.Add("data folder", lifecycle.Func{OnStart: b.openData, OnStop: b.closeData})
	g.Add("NATS server", lifecycle.Func{OnStart: b.startServer, OnStop: b.stopServer})
	g.Add("driver", lifecycle.Func{OnStart: b.startDriver, OnStop: func(context.Context) error { return b.driver.Close() }})
	for i := range b.cfg.Managers {
		b.addManager(b.managerID(i), max(1, b.share(i)))
	}
	for i := range b.cfg.Frontends {
		b.addFrontend(b.frontendID(i), i == 0)
	}
}

// share is manager i's part of the capacity.
func (b *builder) share(i int) int {
	share := b.cfg.Capacity / b.cfg.Managers
	if i < b.cfg.Capacity%b.cfg.Managers {
		share++
	}
	return share
}

func (b *builder) openData(context.Context) (err error) {
	if b.folder, err = openFolder(b.cfg.DataDir); err != nil {
		return err
	}
	b.cfg.DataDir = b.folder.path
	err = b.readData()
	if err != nil {
		return errors.Join(err, b.folder.release())
	}
	return nil
}

func (b *builder) readData() (err error) {
	if b.admin, b.fabric.CredsFile, err = b.folder.adminKey(); err != nil {
		return err
	}
	if b.key, err = seal.Load(b.folder.path); err != nil {
		return err
	}
	b.cacheDir, err = b.folder.cacheDir()
	return err
}

func (b *builder) closeData(context.Context) error { return b.folder.release() }

func (b *builder) startServer(ctx context.Context) (err error) {
	if b.http, err = net.Listen("tcp", b.cfg.HTTP); err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w; stop what runs there, or choose another address with --http (port 0 picks "+
			"a free one)", b.cfg.HTTP, err)
	}
	b.fabric.HTTPURL = "http://" + b.http.Addr().String()
	if b.cfg.ServerURL != "" {
		b.fabric.NATSURL, b.fabric.CredsFile = b.cfg.ServerURL, b.cfg.Creds
		return nil
	}
	var roles []role
	for i := range b.cfg.Managers {
		roles = append(roles, managerRole(b.names, b.managerID(i)))
	}
	for i := range b.cfg.Frontends {
		roles = append(roles, frontendRole(b.names, b.frontendID(i)))
	}
	if b.server, err = startEmbedded(ctx, b.cfg, b.names, b.admin, roles); err != nil {
		return errors.Join(err, b.http.Close())
	}
	b.fabric.NATSURL = b.server.url()
	return nil
}

func (b *builder) stopServer(context.Context) error {
	for _, nc := range b.conns {
		nc.Close()
	}
	if b.server != nil {
		b.server.stop()
	}
	if err := b.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the HTTP door: %w", err)
	}
	return nil
}

// connect is a role's connection, closed with the server.
func (b *builder) connect(r role) (nc *nats.Conn, err error) {
	if b.server != nil {
		nc, err = b.server.connect(r)
	} else {
		nc, err = connectTo(b.cfg, r)
	}
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", r.user, err)
	}
	b.conns = append(b.conns, nc)
	return nc, nil
}

func (b *builder) startDriver(ctx context.Context) (err error) {
	switch b.cfg.Driver {
	case DriverNull:
		b.driver = null.New()
	default:
		code := filepath.Join(b.cacheDir, "code")
		b.driver, err = process.New(process.Config{
			Dir: filepath.Join(b.cacheDir, "scratch"), Reach: []string{b.cacheDir}, Log: b.cfg.Logger,
		})
		b.cacheDir = code
	}
	if err != nil {
		return err
	}
	if _, err := b.driver.Probe(ctx); err != nil {
		return errors.Join(err, b.driver.Close())
	}
	return nil
}

// addManager adds a manager and the worker that it has to itself.
func (b *builder) addManager(id string, capacity int) {
	var m *manager.Manager
	var w *worker.Worker
	start := func(ctx context.Context) error {
		nc, err := b.connect(managerRole(b.names, id))
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return fmt.Errorf("make a JetStream context: %w", err)
		}
		w, err = worker.New(worker.Config{
			ID: id, Publish: nc.PublishMsg, Code: codeStore{js, b.names}, Driver: b.driver,
			CacheDir: filepath.Join(b.cacheDir, id), Names: b.names, Logger: b.cfg.Logger,
		})
		if err != nil {
			return err
		}
		m, err = manager.New(nc, w, manager.Config{
			ID: id, Names: b.names, Capacity: capacity, FabricSet: b.cfg.Set, Build: b.cfg.Build, Logger: b.cfg.Logger,
			Telemetry: b.cfg.Telemetry, Open: b.key.Open,
			Seal: &schema.SealKeyRecord{V: schema.Version, KeyID: b.key.ID(), Public: b.key.Public()},
		})
		if err != nil {
			return err
		}
		if err := m.Start(ctx); err != nil {
			return errors.Join(err, w.Stop(ctx))
		}
		return nil
	}
	b.fabric.group.Add("manager "+id, lifecycle.Func{OnStart: start, OnStop: func(ctx context.Context) error {
		return errors.Join(m.Stop(ctx), w.Stop(ctx))
	}})
}

// addFrontend adds a frontend and the control service beside it.
func (b *builder) addFrontend(id string, door bool) {
	var f *frontend.Frontend
	var c *control.Service
	start := func(ctx context.Context) error {
		nc, err := b.connect(frontendRole(b.names, id))
		if err != nil {
			return err
		}
		cfg := frontend.Config{
			ID: id, Names: b.names, Hosts: b.cfg.Hosts, Anonymous: true, Logger: b.cfg.Logger, Telemetry: b.cfg.Telemetry,
		}
		if door {
			cfg.HTTP, cfg.Anonymous = b.http, b.cfg.Anonymous
		}
		if f, err = frontend.New(nc, cfg); err != nil {
			return err
		}
		if c, err = control.New(nc, f, control.Config{Names: b.names, Logger: b.cfg.Logger}); err != nil {
			return err
		}
		if err := f.Start(ctx); err != nil {
			return err
		}
		if err := c.Start(ctx); err != nil {
			return errors.Join(err, f.Stop(ctx))
		}
		b.fabric.frontends = append(b.fabric.frontends, f)
		return nil
	}
	b.fabric.group.Add("frontend "+id, lifecycle.Func{OnStart: start, OnStop: func(ctx context.Context) error {
		return errors.Join(c.Stop(ctx), f.Stop(ctx))
	}})
}

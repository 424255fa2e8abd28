package deploy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/manager/fleet"
	"github.com/hearth-run/hearth/manager/tokens"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
)

// managerNode is a manager and its workers: one node of the ring.
type managerNode struct {
	id       string
	capacity int // places
	login    login

	nc      *nats.Conn
	written func() <-chan struct{} // of manager.Config
	shipper *worker.Shipper
	ledger  *worker.Ledger
	worker  *worker.Worker // of this process; nil: none
	fleet   *fleet.Fleet   // those of other processes beside it
	manager *manager.Manager
}

// parts are what starts and stops in order: the connection, the log lines, the worker that writes them, the manager that
// offers its environments.
func (n *managerNode) parts(u *up) *lifecycle.Group {
	g := &lifecycle.Group{}
	g.Add("connection", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			n.nc, n.written, err = u.nats.connectWatched(ctx, n.login, subjects.ManagerInbox(n.id, "n"))
			return err
		},
		OnStop: func(ctx context.Context) error { disconnect(ctx, n.nc); return nil },
	})
	if u.cfg.Driver != DriverNone {
		g.Add("log lines", lifecycle.Func{
			OnStart: func(ctx context.Context) (err error) {
				n.shipper, err = worker.NewShipper(n.nc, worker.ShipperConfig{Manager: n.id, Names: u.names, Logger: u.cfg.Logger})
				if err != nil {
					return err
				}
				return n.shipper.Start(ctx)
			},
			OnStop: func(ctx context.Context) error { return n.shipper.Stop(ctx) },
		})
		g.Add("usage", lifecycle.Func{
			OnStart: func(ctx context.Context) error { return n.startLedger(ctx, u) },
			OnStop:  func(ctx context.Context) error { return n.ledger.Stop(ctx) },
		})
		g.Add("worker", lifecycle.Func{
			OnStart: func(context.Context) error { return n.makeWorker(u) },
			OnStop:  func(ctx context.Context) error { return n.worker.Stop(ctx) },
		})
	}
	g.Add("manager", lifecycle.Func{
		OnStart: func(ctx context.Context) error { return n.startManager(ctx, u) },
		OnStop:  func(ctx context.Context) error { return errors.Join(n.manager.Stop(ctx), n.fleet.Close(ctx)) },
	})
	return g
}

func (n *managerNode) makeWorker(u *up) error {
	js, err := jetstream.New(n.nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	cfg := worker.Config{ID: n.id, Publish: n.nc.PublishMsg, Driver: u.driver, Tenants: u.tenants, Names: u.names, Path: u.cfg.Path, Logger: u.cfg.Logger,
		Telemetry: u.cfg.Telemetry, Metrics: u.cfg.Metrics, Lines: n.shipper.Open, LogBytes: n.shipper.Bytes(),
		Ledger: n.ledger}
	if u.runsDir != "" { // else the driver runs no code
		cfg.Code, cfg.CacheDir = newCodeStore(js, u.names), filepath.Join(u.runsDir, codeDir, n.id)
	}
	n.worker, err = worker.New(cfg)
	return err
}

// startLedger begins to write down what functions use.
func (n *managerNode) startLedger(ctx context.Context, u *up) error {
	js, err := jetstream.New(n.nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	stream := jetstream.WithExpectStream(u.names.Stream(topology.Usage))
	n.ledger, err = worker.NewLedger(worker.LedgerConfig{Worker: n.id, Logger: u.cfg.Logger,
		Store: func(ctx context.Context, r *schema.UsageRecord) error {
			b, err := schema.Marshal(r)
			if err != nil {
				return err
			}
			if !n.nc.IsConnected() {
				return nats.ErrDisconnected // who waits for it waits in vain, and it is written again
			}
			_, err = js.Publish(ctx, u.names.Usage(r.Account, n.id), b, stream, jetstream.WithMsgID(r.MsgID()))
			return err
		},
	})
	if err != nil {
		return err
	}
	return n.ledger.Start(ctx)
}

func (n *managerNode) startManager(ctx context.Context, u *up) (err error) {
	apart := fleet.Config{Manager: n.id, Names: u.names, Logger: u.cfg.Logger, Telemetry: u.cfg.Telemetry, Metrics: u.cfg.Metrics}
	if n.worker != nil {
		apart.Local, apart.LocalPlaces, apart.LocalTenants = n.worker, n.capacity, u.tenants
	}
	if n.fleet, err = fleet.New(n.nc, apart); err != nil {
		return err
	}
	keys, err := tokens.New(n.nc, tokens.Config{Manager: n.id, Names: u.names, Dir: u.data.dir, Logger: u.cfg.Logger})
	if err != nil {
		return err
	}
	n.manager, err = manager.New(n.nc, n.fleet, manager.Config{
		ID: n.id, Names: u.names, Capacity: n.capacity, Elastic: true, FabricSet: u.cfg.Set,
		Seal: &schema.SealKeyRecord{V: schema.Version, KeyID: u.seal.ID(), Public: u.seal.Public()}, Open: u.seal.Open,
		HandOver: u.seal.HandOver, Tokens: keys, Written: n.written,
		Build: u.build(), Logger: u.cfg.Logger, Telemetry: u.cfg.Telemetry, Metrics: u.cfg.Metrics,
	})
	if err != nil {
		return err
	}
	if err := n.manager.Start(ctx); err != nil {
		return err
	}
	if err := n.fleet.Open(ctx, n.manager); err != nil {
		return errors.Join(err, n.manager.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

// frontendNode is a frontend with the control service beside it.
type frontendNode struct {
	id     string
	first  bool // it has the HTTP listener, where there is one
	stable bool // its id is its own in every start, so that another process may hold it
	login  login

	nc       *nats.Conn
	frontend *frontend.Frontend
	control  *control.Service
}

// parts are what starts and stops in order: the connection, the frontend, the control service, which knows the fabric by it.
func (n *frontendNode) parts(u *up) *lifecycle.Group {
	g := &lifecycle.Group{}
	g.Add("connection", lifecycle.Func{
		OnStart: func(ctx context.Context) (err error) {
			n.nc, err = u.nats.connect(ctx, n.login, subjects.FrontendInbox(n.id, "n"))
			return err
		},
		OnStop: func(ctx context.Context) error { disconnect(ctx, n.nc); return nil },
	})
	g.Add("frontend", lifecycle.Func{
		OnStart: func(ctx context.Context) error { return n.startFrontend(ctx, u) },
		OnStop:  func(ctx context.Context) error { return n.frontend.Stop(ctx) },
	})
	g.Add("control", lifecycle.Func{
		OnStart: func(ctx context.Context) error { return n.startControl(ctx, u) },
		OnStop:  func(ctx context.Context) error { return n.control.Stop(ctx) },
	})
	return g
}

func (n *frontendNode) startFrontend(ctx context.Context, u *up) (err error) {
	cfg := frontend.Config{
		ID: n.id, Stable: n.stable, Names: u.names, Hosts: u.cfg.Hosts, Logger: u.cfg.Logger, Telemetry: u.cfg.Telemetry, Metrics: u.cfg.Metrics,
	}
	cfg.Console, cfg.NoConsole = n.first && u.cfg.ConsoleAt != "", u.cfg.NoConsole
	if n.first && u.http != nil {
		host, _, err := splitAddress(u.cfg.HTTP)
		if err != nil {
			return err
		}
		cfg.HTTP, cfg.Anonymous = u.http, u.cfg.Anonymous && loopback(host)
	}
	if n.frontend, err = frontend.New(n.nc, cfg); err != nil {
		return err
	}
	return n.frontend.Start(ctx)
}

func (n *frontendNode) startControl(ctx context.Context, u *up) (err error) {
	n.control, err = control.New(n.nc, n.frontend, control.Config{
		Names: u.names, Build: semantic(u.cfg.Build), Logger: u.cfg.Logger,
	})
	if err != nil {
		return err
	}
	if err := n.control.Start(ctx); err != nil {
		return err
	}
	n.frontend.Operate(n.control)
	return nil
}

// semantic is the part of a build's name that NATS services may tell as their version, "" if there is none.
func semantic(build string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(build, "v"), " ")
	if regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]*)?$`).MatchString(version) {
		return version
	}
	return ""
}

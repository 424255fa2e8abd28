package deploy

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver"
)

// Fabric is all roles in one process, serving.
type Fabric struct {
	HTTPURL   string   // of the Lambda API: "http://127.0.0.1:4280"
	NATSURL   string   // "nats://127.0.0.1:4222"
	Metrics   string   // URL of its own listener for metrics; "" if it has none
	Console   string   // URL of its own listener for the console; "" if it has none
	CredsFile string   // the admin's nkey seed, or the credential of another server; "" if that one needs none
	Notes     []string // what the driver does not enforce here, for people, one line each
	Remarks   []string // what else of this host functions notice, the same

	parts     lifecycle.Group
	frontends []*frontendNode
}

// Frontends are those of this process, in no order.
func (f *Fabric) Frontends() []*frontend.Frontend {
	all := make([]*frontend.Frontend, 0, len(f.frontends))
	for _, n := range f.frontends {
		all = append(all, n.frontend)
	}
	return all
}

// Up starts a fabric and returns when its frontends serve and the ring holds all its managers, or with an error after it
// has undone everything; ctx bounds the start alone. Errors name what to do: a [schema.CodeInvalidParameter] the fields of
// cfg, a [schema.CodeConflict] a folder or port in use or other numbers in the fabric, a [schema.CodeUnavailable] a NATS
// server that is not there. [Fabric.Stop] ends it. DESIGN 6.
func Up(ctx context.Context, cfg Config) (*Fabric, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	cfg.setDefaults()
	names, err := subjects.NewNames(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	f := &Fabric{}
	u := &up{cfg: cfg, names: names, fabric: f}
	if err := u.nodes(); err != nil {
		return nil, err
	}
	f.parts.Add("data folder", lifecycle.Func{OnStart: u.openData, OnStop: u.closeData})
	f.parts.Add("HTTP listener", lifecycle.Func{OnStart: u.listenHTTP, OnStop: u.closeHTTP})
	f.parts.Add("NATS server", lifecycle.Func{OnStart: u.startServer, OnStop: u.stopServer})
	f.parts.Add("disk", lifecycle.Func{OnStart: u.watchDisk, OnStop: u.unwatchDisk})
	f.parts.Add("driver", lifecycle.Func{OnStart: u.startDriver, OnStop: u.closeDriver})
	f.parts.Add("managers' key", lifecycle.Func{OnStart: u.loadKey})
	managers, frontends := &lifecycle.Together{}, &lifecycle.Together{}
	for _, m := range u.managers {
		managers.Add(m.id, m.parts(u))
	}
	for _, fr := range u.frontends {
		frontends.Add(fr.id, fr.parts(u))
	}
	f.parts.Add("managers", managers)
	f.parts.Add("frontends", frontends)
	u.tellMetrics(&f.parts, cfg.MetricsAt, &f.Metrics)
	u.showConsole(&f.parts, cfg.ConsoleAt, &f.Console)
	if err := u.start(ctx, &f.parts); err != nil {
		return nil, err
	}
	f.frontends = u.frontends
	return f, nil
}

// start starts the parts. What another NATS server does not let a role do ends the start, with that as its error.
func (u *up) start(ctx context.Context, parts *lifecycle.Group) error {
	ctx, u.refuse = context.WithCancelCause(ctx)
	defer u.refuse(nil)
	err := parts.Start(ctx)
	if denied := new(schema.Error); err != nil && errors.As(context.Cause(ctx), &denied) {
		return denied
	}
	return err
}

// Stop ends the fabric in order: frontends take no more calls, calls that run end, managers leave the ring, environments and
// the server end. When ctx ends first, what still runs is cut off; everything is stopped all the same, and the error says
// what was left. Safe twice.
func (f *Fabric) Stop(ctx context.Context) error { return f.parts.Stop(ctx) }

// up is a fabric, or a role of one, that is being started: what the parts hand on to those after them.
type up struct {
	cfg       Config
	names     subjects.Names
	fabric    *Fabric
	managers  []*managerNode
	frontends []*frontendNode

	refuse  context.CancelCauseFunc // ends the start
	data    *data
	seal    *seal.Key
	admin   string       // public nkey
	http    net.Listener // nil: none
	nats    *natsServer
	disk    *disk         // nil: another NATS server's
	driver  driver.Driver // nil: none
	tenants bool          // it keeps sub-tenants apart
	limits  bool          // it bounds what environments take

	admitting    conc.WaitGroup // of the loop that looks for credentials
	endAdmission func()
	runsDir      string // below it, unpacked code
}

// nodes names the managers and frontends of this process. A frontend has another name at each start, so that nothing that
// was meant for the last one reaches it.
func (u *up) nodes() error {
	for i, capacity := range u.capacities(u.cfg.Managers) {
		if err := u.addManager(fmt.Sprintf("m%d", i+1), capacity); err != nil {
			return err
		}
	}
	for i := range u.cfg.Frontends {
		if err := u.addFrontend(&frontendNode{id: fmt.Sprintf("f%d-%s", i+1, unused()), first: i == 0}); err != nil {
			return err
		}
	}
	return nil
}

func (u *up) addManager(id string, capacity int) error {
	l, err := newLogin(RoleManager, id, managerRights(u.names, id))
	if err != nil {
		return err
	}
	u.managers = append(u.managers, &managerNode{id: id, capacity: capacity, login: l})
	return nil
}

func (u *up) addFrontend(n *frontendNode) (err error) {
	if n.login, err = newLogin(RoleFrontend, n.id, frontendRights(u.names, n.id)); err != nil {
		return err
	}
	u.frontends = append(u.frontends, n)
	return nil
}

// unused is 8 hex digits that nobody has drawn before.
func unused() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (u *up) openData(context.Context) (err error) {
	if u.data, err = openData(u.cfg.DataDir); err != nil {
		return err
	}
	// The group stops what started: this part undoes itself.
	defer func() {
		if err != nil {
			err = errors.Join(err, u.data.close())
		}
	}()
	u.fabric.CredsFile = u.cfg.Creds
	if u.cfg.ServerURL == "" {
		u.admin, u.fabric.CredsFile, err = adminKey(u.data.dir)
	}
	return err
}

func (u *up) closeData(context.Context) error { return u.data.close() }

func (u *up) listenHTTP(ctx context.Context) (err error) {
	if u.http, err = listen(ctx, u.cfg.HTTP, "HTTP", "--http"); err == nil {
		u.fabric.HTTPURL = urlOf("http", u.http.Addr())
	}
	return err
}

func (u *up) closeHTTP(context.Context) error {
	if err := u.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // its frontend closes it too
		return err
	}
	return nil
}

func (u *up) startServer(ctx context.Context) error {
	u.nats = &natsServer{url: u.cfg.ServerURL, creds: u.cfg.Creds, dial: u.cfg.Dial, log: u.cfg.Logger}
	if u.cfg.ServerURL != "" {
		u.nats.denied = u.refuse
	} else {
		host, _, err := splitAddress(u.cfg.NATS)
		if err != nil {
			return err
		}
		all := &users{admin: u.admin, names: u.names, measured: u.cfg.Measured}
		if u.cfg.Anonymous && loopback(host) {
			guest, err := newLogin("client", "anonymous", clientRights(u.names))
			if err != nil {
				return err
			}
			all.client = guest.public
		}
		for _, m := range u.managers {
			all.roles = append(all.roles, m.login)
		}
		for _, f := range u.frontends {
			all.roles = append(all.roles, f.login)
		}
		watch, err := newLogin("disk", "watch", diskRights(u.names))
		if err != nil {
			return err
		}
		all.roles = append(all.roles, watch)
		if all.others, err = u.data.credentials(u.names, nil); err != nil {
			u.cfg.Logger.Warn("credentials that cannot be used", "error", err)
		}
		if u.nats.embedded, err = startServer(ctx, u.cfg.NATS, u.data.path(natsDir), all, u.cfg.Logger); err != nil {
			return err
		}
		u.nats.url = u.nats.embedded.url
		u.nats.servers.named(u.nats.url)
		u.disk = newDisk(u.nats, u.names, watch, u.cfg.Logger)
		u.endAdmission = u.admit(all)
	}
	u.fabric.NATSURL = u.nats.url
	return nil
}

// loadKey reads the managers' key. A folder without one gets it by agreement with the fabric's other managers.
func (u *up) loadKey(ctx context.Context) (err error) {
	if u.seal, err = seal.Load(u.data.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m := u.managers[0]
	nc, err := u.nats.connect(ctx, m.login, subjects.ManagerInbox(m.id, "n"))
	if err != nil {
		return err
	}
	defer disconnect(ctx, nc)
	u.seal, err = manager.AgreeKey(ctx, nc, manager.KeyRequest{Names: u.names, Manager: m.id, Dir: u.data.dir, Logger: u.cfg.Logger})
	return err
}

func (u *up) stopServer(context.Context) error {
	if u.nats.embedded != nil {
		u.endAdmission()
		u.nats.embedded.stop()
	}
	return nil
}

func (u *up) watchDisk(ctx context.Context) error {
	if u.disk == nil {
		return nil
	}
	return u.disk.Start(ctx)
}

func (u *up) unwatchDisk(ctx context.Context) error {
	if u.disk == nil {
		return nil
	}
	return u.disk.Stop(ctx)
}

func (u *up) startDriver(ctx context.Context) (err error) {
	if u.cfg.Driver == DriverNone {
		return nil
	}
	u.driver, u.runsDir, err = newDriver(u.cfg, u.data, u.nats.servers.addresses)
	if err != nil {
		return err
	}
	abilities, err := u.driver.Probe(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("driver %s cannot be used here: %w", u.cfg.Driver, err), u.driver.Close())
	}
	u.fabric.Notes, u.tenants, u.limits = abilities.Notes, abilities.Tenants, abilities.Limits
	u.fabric.Remarks = abilities.Remarks
	u.cfg.Metrics.Add(worker.OfDriver(u.driver))
	return nil
}

func (u *up) closeDriver(context.Context) error {
	if u.driver == nil {
		return nil
	}
	err := u.driver.Close()
	if u.cfg.Ephemeral && u.runsDir != "" {
		err = errors.Join(err, removeAll(u.runsDir))
	}
	return err
}

// build is how this binary names itself to other nodes.
func (u *up) build() string { return cmp.Or(u.cfg.Build, "unknown") }

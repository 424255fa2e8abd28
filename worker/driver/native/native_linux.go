//go:build amd64 || arm64

package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/uids"
	"github.com/hearth-run/hearth/worker/egress"
)

// Driver makes sandboxes. Safe for concurrent use.
type Driver struct {
	cfg Config
	wg  conc.WaitGroup

	prepared sync.Once
	prepErr  error
	users    *uids.Block
	cgroups  hierarchy
	groups   groups
	program  *program
	null     *os.File
	spawners []*spawner
	stock    *stock
	number   atomic.Uint64 // of sandboxes made
	limits   func(megabytes int) limits
	egress   *egress.Service
	noDevice string  // why there are none; "": there are
	left     without // of tests

	elsewhere func() error // of tests: moves the thread that starts the helper
	making    func()       // of tests: a device is about to be made

	mu           sync.Mutex
	closed       bool
	environments map[*Environment]struct{}
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Rooted  = (*Driver)(nil)
	_ driver.Stocker = (*Driver)(nil)
	_ driver.Charged = (*Driver)(nil)
)

// New makes a driver; it starts nothing.
func New(cfg Config) (*Driver, error) {
	if cfg.Dir == "" {
		return nil, errors.New("native driver: no folder given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("native driver: folder: %w", err)
	}
	cfg.Dir = dir
	cfg.Locks = cmp.Or(cfg.Locks, uids.DefaultLocks)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Driver{cfg: cfg, limits: limitsFor, environments: map[*Environment]struct{}{}}, nil
}

// Name is "native".
func (d *Driver) Name() string { return "native" }

// TaskDir is where every environment sees its code.
func (d *Driver) TaskDir() string { return taskDir }

// RuntimeDir is where it sees its runtime's own folder.
func (d *Driver) RuntimeDir() string { return runtimeDir }

// Charged is what all environments take. It is asked after Probe.
func (d *Driver) Charged() (memory int64, processor time.Duration, err error) {
	if d.cgroups == nil {
		return 0, 0, errors.New("nothing was made yet")
	}
	return d.cgroups.charged()
}

// Probe prepares the driver, proves what it promises in a sandbox, and tells what this host lets it enforce: everything, or
// an error that says what is missing and what to do.
func (d *Driver) Probe(ctx context.Context) (driver.Abilities, error) {
	if err := d.prepare(); err != nil {
		return driver.Abilities{}, err
	}
	if err := d.prove(ctx); err != nil {
		return driver.Abilities{}, refuse(err)
	}
	abilities := driver.Abilities{Tenants: true, Limits: true}
	if d.noDevice == "" {
		if err := d.egress.Prove(ctx); err != nil {
			return driver.Abilities{}, refuse(err)
		}
	} else {
		abilities.Remarks = append(abilities.Remarks, d.noDevice)
	}
	for _, own := range d.cfg.Local {
		abilities.Remarks = append(abilities.Remarks, fmt.Sprintf("functions that list %s in their egress reach it, an address of this host (--allow-local)", own))
	}
	return abilities, nil
}

// prepare makes what all environments share: once, before the first.
func (d *Driver) prepare() error {
	d.prepared.Do(func() {
		if err := d.setUp(); err != nil {
			d.prepErr = errors.Join(refuse(err), d.takeDown())
		}
	})
	return d.prepErr
}

func (d *Driver) setUp() (err error) {
	abi, err := requirements()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.cfg.Dir, 0o711); err != nil {
		return fmt.Errorf("make the driver's folder: %w", err)
	}
	if d.users, err = uids.Claim(d.cfg.Locks); err != nil {
		return err
	}
	if d.cgroups, err = findHierarchy(familyOf(d.cfg.Locks), d.users.Number); err != nil {
		return err
	}
	d.groups.h = d.cgroups
	d.sweepOwn()
	held := d.sweep()
	if d.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	p := plan{landlock: abi, left: d.left}
	if p.initUID, err = d.users.Take(); err != nil {
		return err
	}
	lastCap, err := lastCapability()
	if err != nil {
		return err
	}
	if p.filter, err = newFilter(auditArch, foreignABI); err != nil {
		return err
	}
	if p.inherited, p.own, err = halves(auditArch, foreignABI); err != nil {
		return err
	}
	p.waiting = waitingFilter(auditArch)
	if p.dirs, p.files, err = masks(); err != nil {
		return err
	}
	p.lastCap = lastCap
	d.noDevice = deviceAvailable()
	if d.left[leaveDevice] {
		d.noDevice = "functions reach no network: a test left it out"
	}
	p.device, p.six = d.noDevice == "", hasSix()
	if d.egress, err = d.newEgress(p); err != nil {
		return err
	}
	if _, ok := d.cgroups.(*v1); ok {
		p.joins = len(controllers)
	}
	d.program = newProgram(p)
	shim, err := elf(d.program.first.encode())
	if err != nil {
		return err
	}
	for range spawners() {
		s := &spawner{requests: make(chan func())}
		made := make(chan error, 1)
		d.wg.Go(func() { s.run(d.cfg.Dir, shim, p, made) })
		if err := <-made; err != nil {
			return err
		}
		d.spawners = append(d.spawners, s)
	}
	d.stock = newStock(d)
	d.groups.given = d.stock.given
	d.wg.Go(d.stock.run)
	if held {
		d.wg.Go(func() { d.sweepAgain(d.stock.stop) })
	}
	return nil
}

// spawners is how many threads start sandboxes: what they do is done by the kernel, one after the other on each.
func spawners() int { return min(4, runtime.GOMAXPROCS(0)) }

func (d *Driver) spawner() *spawner { return d.spawners[int(d.number.Load())%len(d.spawners)] }

// New makes an environment: a sandbox that was built before, or now.
func (d *Driver) New(ctx context.Context, spec driver.Spec) (driver.Environment, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("make environment %s: %w", spec.ID, context.Cause(ctx))
	}
	s, err := d.stock.take(ctx)
	if err == nil {
		if err = s.group.limit(d.limits(spec.MemoryMB)); err != nil {
			d.discard(s)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("native driver: make environment %s: %w", spec.ID, err)
	}
	e := &Environment{driver: d, id: spec.ID, tmp: temporary(memoryOf(spec.MemoryMB), spec.TemporaryMB), sandbox: s, done: make(chan struct{})}
	if !d.add(e) {
		d.discard(s)
		return nil, ErrClosed
	}
	return e, nil
}

func (d *Driver) add(e *Environment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.environments[e] = struct{}{}
	d.wg.Go(e.live)
	return true
}

func (d *Driver) remove(e *Environment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.environments, e)
}

// discard ends a sandbox that nobody will have.
func (d *Driver) discard(s *sandbox) {
	s.kill()
	<-s.ended
	if err := s.free(); err != nil {
		d.cfg.Log.Warn("a sandbox leaves something", "sandbox", s.name, "error", err)
	}
}

// Close kills every environment and waits until nothing of them is left. Safe twice.
func (d *Driver) Close() error {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	left := make([]*Environment, 0, len(d.environments))
	for e := range d.environments {
		left = append(left, e)
	}
	d.mu.Unlock()
	for _, e := range left {
		e.Kill()
	}
	for _, e := range left {
		<-e.done
	}
	var err error
	if first {
		d.prepared.Do(func() { d.prepErr = ErrClosed }) // nothing is prepared from now on
		if d.prepErr == nil {
			err = d.takeDown()
		}
	}
	d.wg.Wait()
	return err
}

// takeDown undoes setUp, also one that failed half-way.
func (d *Driver) takeDown() error {
	if d.stock != nil {
		d.stock.close()
	}
	for _, s := range d.spawners {
		close(s.requests)
	}
	d.wg.Wait()
	if d.egress != nil {
		d.egress.Close()
	}
	if d.null != nil {
		_ = d.null.Close()
	}
	var err error
	if d.cgroups != nil {
		err = errors.Join(d.groups.close(), d.cgroups.close())
	}
	if d.users != nil {
		_ = d.users.Lock.Close()
	}
	return err
}

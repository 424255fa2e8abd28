package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/uids"
)

// Config says where environments have their folders. Only Dir is needed.
type Config struct {
	// Dir is where scratch folders are made; it is made if need be (0711). Environments must be able to reach it, so no
	// folder above it may be closed to others. Drivers may share it.
	Dir string
	// Reach lists further folders that environments need, such as the cache of unpacked code; Probe checks them.
	Reach []string
	// Locks is where workers of this host reserve blocks of uids; only root uses it. "" means /run/hearth (Linux),
	// /var/run/hearth.
	Locks string
	// Log is told what goes wrong with nobody there to return it to; nil means nobody.
	Log *slog.Logger
}

// Errors of environments.
var (
	ErrClosed  = errors.New("process driver: closed")
	ErrStarted = errors.New("process driver: the environment was started already")
	ErrEnded   = errors.New("process driver: the environment has ended")
)

// Driver makes environments that are bare processes. Safe for concurrent use.
type Driver struct {
	cfg     Config
	spawner spawner
	guard   guard
	sweeper *sweeper
	wg      conc.WaitGroup

	prepared sync.Once
	prepErr  error
	drops    bool   // environments have uids of their own
	scratch  string // of this driver, below cfg.Dir
	lock     *os.File
	users    *uids.Block

	mu           sync.Mutex
	closed       bool
	environments map[*Environment]struct{}
}

var _ driver.Driver = (*Driver)(nil)

// New makes a driver; it starts nothing. The program must call [Main] first thing in main.
func New(cfg Config) (*Driver, error) {
	if cfg.Dir == "" {
		return nil, errors.New("process driver: no folder given for scratch space")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("process driver: scratch folder: %w", err)
	}
	cfg.Dir = dir
	cfg.Locks = cmp.Or(cfg.Locks, uids.DefaultLocks)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{cfg: cfg, drops: os.Geteuid() == 0, environments: map[*Environment]struct{}{}}
	d.spawner.requests = make(chan func())
	d.guard.init(cfg.Log)
	return d, nil
}

// Name is "process".
func (d *Driver) Name() string { return "process" }

// Probe prepares the driver and reports that it isolates nothing, and what is missing for environments to reach their
// folders.
func (d *Driver) Probe(context.Context) (driver.Abilities, error) {
	if err := d.prepare(); err != nil {
		return driver.Abilities{}, err
	}
	if d.drops {
		for _, folder := range d.cfg.Reach {
			if err := reachable(folder, uids.First); err != nil {
				return driver.Abilities{}, fmt.Errorf("process driver: %w", err)
			}
		}
	}
	return driver.Abilities{Notes: d.notes()}, nil
}

func (d *Driver) notes() []string {
	notes := []string{
		"functions run as bare processes: they see this host's files, processes and network",
		"memory, CPU and number of processes are not bounded",
	}
	if !d.drops {
		notes = append(notes, fmt.Sprintf("not root: functions run as this user (uid %d) and may do all that it may", os.Geteuid()))
	}
	return append(notes, platformNotes(d.drops)...)
}

// prepare makes what all environments share: once, before the first.
func (d *Driver) prepare() error {
	d.prepared.Do(func() {
		if d.prepErr = d.setUp(); d.prepErr != nil {
			d.prepErr = fmt.Errorf("process driver: %w", d.prepErr)
		}
	})
	return d.prepErr
}

func (d *Driver) setUp() (err error) {
	if runAgain() {
		return errors.New("the program that was run again as a helper made a driver: main must call process.Main first")
	}
	if d.scratch, d.lock, err = claimScratch(d.cfg.Dir); err != nil {
		return err
	}
	held := []*os.File{d.lock}
	if d.drops {
		if err := uids.Check(); err != nil {
			return err
		}
		if err := reachable(d.scratch, uids.First); err != nil {
			return err
		}
		if d.users, err = uids.Claim(d.cfg.Locks); err != nil {
			return err
		}
		held = append(held, d.users.Lock)
	}
	d.sweeper = newSweeper(d.scratch, d.cfg.Log)
	d.wg.Go(d.spawner.run)
	if err := d.guard.start(&d.wg, d.scratch, held); err != nil {
		return err
	}
	if d.drops {
		return tryUser(d.users.First)
	}
	return nil
}

// New makes an environment: its folder, its uid and its listener.
func (d *Driver) New(ctx context.Context, spec driver.Spec) (driver.Environment, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	e := &Environment{driver: d, id: spec.ID, done: make(chan struct{})}
	if err := d.add(e); err != nil {
		return nil, err
	}
	if err := e.made(d.furnish(ctx, e)); err != nil {
		return nil, fmt.Errorf("process driver: make environment %s: %w", spec.ID, err)
	}
	return e, nil
}

// furnish gives a fresh environment what it needs; what it has by then is taken back when it ends.
func (d *Driver) furnish(ctx context.Context, e *Environment) (err error) {
	if d.drops {
		if e.uid, err = d.users.Take(); err != nil {
			return err
		}
	}
	if e.scratch, err = makeScratch(d.scratch, e.uid); err != nil {
		return err
	}
	if e.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	return d.guard.tell(ctx, message{Op: opBegin, belongings: e.belongings()})
}

func (d *Driver) add(e *Environment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	d.environments[e] = struct{}{}
	return nil
}

func (d *Driver) remove(e *Environment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.environments, e)
}

// Close kills every environment, waits until nothing of them is left, and ends the keeper. Safe twice.
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
	if first {
		d.prepared.Do(func() { d.prepErr = ErrClosed }) // nothing is prepared from now on
		d.guard.stop()
		close(d.spawner.requests)
	}
	d.wg.Wait()
	if !first {
		return nil
	}
	if d.users != nil {
		_ = d.users.Lock.Close()
	}
	if d.lock == nil {
		return nil
	}
	defer d.lock.Close()
	if err := os.RemoveAll(d.scratch); err != nil {
		return fmt.Errorf("process driver: %w", err)
	}
	return nil
}

package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/driver/null"
	"github.com/hearth-run/hearth/worker/driver/process"
)

const (
	codeDir    = "code"    // unpacked packages, a folder a worker
	scratchDir = "scratch" // what environments write
	treeDir    = "tree"    // where sandboxes are mounted while they are made
)

// DefaultDriver is the driver of who names none: sandboxes on Linux, where they can be built or are refused with the reason; bare
// processes elsewhere, where functions are developed and not served (DESIGN 8).
func DefaultDriver() string {
	if runtime.GOOS == "linux" {
		return DriverNative
	}
	return DriverProcess
}

// ProbeSandbox tells by its error why [DriverNative] cannot be used on this host and what to do; dir is a folder for it.
func ProbeSandbox(ctx context.Context, dir string) (err error) {
	n, err := native.New(native.Config{Dir: dir, Stock: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	_, err = n.Probe(ctx)
	return err
}

// newDriver makes the driver of the process, and the folder where workers unpack code; a driver that runs none has none.
// fabric tells where its NATS servers are.
func newDriver(cfg Config, d *data, fabric func() []netip.AddrPort) (driver.Driver, string, error) {
	switch cfg.Driver {
	case DriverNull:
		return null.New(), "", nil
	case DriverNative:
		dir, _, err := codeFolder(d)
		if err != nil {
			return nil, "", err
		}
		local, bad := localAddresses(cfg.AllowLocal)
		if len(bad) > 0 {
			return nil, "", schema.Invalid(bad...)
		}
		n, err := native.New(native.Config{Dir: filepath.Join(dir, treeDir), Local: local, Fabric: fabric, Log: cfg.Logger})
		if err != nil {
			return nil, "", err
		}
		return n, dir, nil
	case DriverProcess:
		dir, code, err := codeFolder(d)
		if err != nil {
			return nil, "", err
		}
		p, err := process.New(process.Config{Dir: filepath.Join(dir, scratchDir), Reach: []string{code}, Log: cfg.Logger})
		if err != nil {
			return nil, "", err
		}
		return p, dir, nil
	}
	return nil, "", fmt.Errorf("driver %q is not one of this build", cfg.Driver) // Validate refuses it first
}

// codeFolder makes the folder of what environments reach, and in it the one for unpacked code.
func codeFolder(d *data) (dir, code string, err error) {
	if dir, err = d.reach(shared, os.Geteuid() == 0); err != nil {
		return "", "", err
	}
	code = filepath.Join(dir, codeDir)
	if err := os.MkdirAll(code, passable); err != nil {
		return "", "", fmt.Errorf("make the folder for unpacked code: %w", err)
	}
	return dir, code, nil
}

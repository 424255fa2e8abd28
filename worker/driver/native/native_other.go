//go:build !linux || !(amd64 || arm64)

package native

import (
	"context"
	"fmt"
	"runtime"

	"github.com/hearth-run/hearth/worker/driver"
)

// Driver is none here: it refuses and says why.
type Driver struct{}

var _ driver.Driver = (*Driver)(nil)

// New makes a driver whose Probe refuses.
func New(Config) (*Driver, error) { return &Driver{}, nil }

func refusal() error {
	return fmt.Errorf("the sandbox needs Linux on amd64 or arm64, and this is %s on %s; run Hearth there as root, or choose "+
		"--driver process for code that you trust", runtime.GOOS, runtime.GOARCH)
}

// Name is "native".
func (*Driver) Name() string { return "native" }

// Probe refuses.
func (*Driver) Probe(context.Context) (driver.Abilities, error) { return driver.Abilities{}, refusal() }

// New refuses.
func (*Driver) New(context.Context, driver.Spec) (driver.Environment, error) { return nil, refusal() }

// Close has nothing to close.
func (*Driver) Close() error { return nil }

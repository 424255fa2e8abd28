package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/unpack"
)

// preparer turns a binding into what its environment runs: the package, unpacked, and the command of its runtime. It is
// empty where the driver runs no code.
type preparer struct {
	store    CodeStore
	cache    *unpack.Cache
	commands commander
}

// commander makes the command of a binding from the folder of its package.
type commander interface {
	Command(b *schema.Binding, codeDir, apiAddress string) (driver.Command, error)
}

func newPreparer(cfg Config, log *slog.Logger) (*preparer, error) {
	if cfg.Code == nil || cfg.CacheDir == "" {
		return &preparer{}, nil
	}
	cache, err := unpack.New(unpack.Config{Dir: cfg.CacheDir, Log: log})
	if err != nil {
		return nil, err
	}
	return &preparer{store: cfg.Code, cache: cache}, nil
}

// code is the folder of the binding's package, pinned until release.
func (p *preparer) code(ctx context.Context, b *schema.Binding) (string, error) {
	if p.cache == nil {
		return "", errors.New("the worker was made without a code store and a folder for packages")
	}
	dir, err := p.cache.Get(ctx, b.CodeSHA256, func(ctx context.Context) (io.ReadCloser, error) {
		zip, _, err := p.store.Open(ctx, b.CodeSHA256)
		if err != nil {
			return nil, fmt.Errorf("open package %s: %w", b.CodeSHA256, err)
		}
		return zip, nil
	})
	if err != nil {
		return "", fmt.Errorf("package of %s: %w", b.Function, err)
	}
	return dir, nil
}

func (p *preparer) release(b *schema.Binding) { p.cache.Release(b.CodeSHA256) }

func (p *preparer) command(b *schema.Binding, dir, apiAddress string) (driver.Command, error) {
	if p.commands == nil {
		return driver.Command{}, schema.Errorf(schema.CodeRuntimeUnavailable, "runtime %s is not there", b.Runtime)
	}
	return p.commands.Command(b, dir, apiAddress)
}

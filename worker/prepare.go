package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/runtimes"
	"github.com/hearth-run/hearth/worker/unpack"
)

// preparer turns a binding into what its environment runs: the package, unpacked, and the command of its runtime. It is
// empty where the driver runs no code.
type preparer struct {
	store    CodeStore
	cache    *unpack.Cache
	runtimes *runtimes.Runtimes
	rooted   driver.Rooted // nil: environments see this host's paths
}

func newPreparer(cfg Config, log *slog.Logger) (*preparer, error) {
	if cfg.CacheDir == "" {
		return &preparer{}, nil
	}
	if cfg.Code == nil {
		return nil, errors.New("config: Code is missing: a folder for packages is given, and nothing to get them from")
	}
	// Environments have users of their own, which must be able to come through.
	if err := os.MkdirAll(cfg.CacheDir, 0o711); err != nil {
		return nil, fmt.Errorf("make the folder of packages: %w", err)
	}
	if err := os.Chmod(cfg.CacheDir, 0o711); err != nil {
		return nil, fmt.Errorf("open the folder of packages to environments: %w", err)
	}
	cache, err := unpack.New(unpack.Config{Dir: filepath.Join(cfg.CacheDir, "code"), Log: log})
	if err != nil {
		return nil, err
	}
	commands, err := runtimes.New(runtimes.Config{Dir: filepath.Join(cfg.CacheDir, "runtimes"), Path: cfg.Path, Region: cfg.Region,
		Log: log})
	if err != nil {
		return nil, err
	}
	rooted, _ := cfg.Driver.(driver.Rooted)
	return &preparer{store: cfg.Code, cache: cache, runtimes: commands, rooted: rooted}, nil
}

// code is the folder of the binding's package, pinned until release.
func (p *preparer) code(ctx context.Context, b *schema.Binding) (string, error) {
	if p.cache == nil {
		return "", errors.New("the worker was made without a folder for packages")
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
	// A child that was forked while the bootstrap was being written holds it open for writing until it executes, and what
	// is open for writing cannot be executed: "text file busy" (golang/go#22315; two functions made at once showed it once
	// in ten runs of the tests). Forks hold this lock until their exec (Linux: vfork), so whoever gets it is past them.
	syscall.ForkLock.Lock()
	//lint:ignore SA2001 the empty section is the point
	syscall.ForkLock.Unlock()
	return dir, nil
}

func (p *preparer) release(b *schema.Binding) { p.cache.Release(b.CodeSHA256) }

func (p *preparer) command(b *schema.Binding, dir, apiAddress, secret string) (driver.Command, error) {
	place := runtimes.Place{Code: dir, API: apiAddress, TokenAuth: secret}
	if p.rooted != nil {
		place.Task, place.Runtime = p.rooted.TaskDir(), p.rooted.RuntimeDir()
	}
	return p.runtimes.Command(b, place)
}

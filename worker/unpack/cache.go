package unpack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Config says where a cache lies and how large it may be.
type Config struct {
	// Dir is the cache's folder; it is made if need be. One cache uses it at a time. The folders above it must let the
	// environments' users through (0711), or they cannot reach their code.
	Dir string
	// Budget is how many bytes all unpacked packages may take, counted by their files' lengths; 0 means 8 GiB. Folders in
	// use are never removed: where they alone fill it, a further package is refused.
	Budget int64
	// MaxZip is how many bytes a zip may have; 0 means [MaxUnpacked].
	MaxZip int64
	// Locks is where users are reserved on this host, one for each package that is being unpacked; "" means that of package uids.
	Locks string
	// Log is told of what was removed; nil means nobody.
	Log *slog.Logger
}

// Cache holds unpacked packages. It is safe for concurrent use.
type Cache struct {
	cfg    Config
	apart  bool // a child unpacks
	limits limits

	mu      sync.Mutex
	folders map[string]*folder // by hash
	refused map[string]error   // by hash: what a package was refused for, at most maxRefused
	bytes   int64              // of all folders that are ready
}

// limits are those of a child.
type limits struct {
	memory    int64
	processor time.Duration
}

// folder is one package: being unpacked until ready is closed, then there (err nil) or not.
type folder struct {
	ready    chan struct{}
	err      error
	bytes    int64
	pins     int
	unpinned time.Time
}

const (
	workPrefix = ".work-" // beside the folders: what is being unpacked, and what is being removed
	maxRefused = 1024
)

// New makes a cache over cfg.Dir, removes what an earlier one left half done there, and takes over what is whole.
func New(cfg Config) (*Cache, error) {
	if cfg.Dir == "" {
		return nil, errors.New("unpack: no folder given")
	}
	cfg.Budget = cmp.Or(cfg.Budget, 8<<30)
	cfg.MaxZip = cmp.Or(cfg.MaxZip, MaxUnpacked)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("unpack: folder of the cache: %w", err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("unpack: make folder of the cache: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("unpack: open folder of the cache to environments: %w", err)
	}
	if runAgain() {
		return nil, errors.New("unpack: the program that was run again to unpack made a cache: main must call unpack.Main first")
	}
	c := &Cache{cfg: cfg, apart: apart(), limits: limits{childMemory, childProcessor}, folders: map[string]*folder{}, refused: map[string]error{}}
	if err := c.adopt(); err != nil {
		return nil, fmt.Errorf("unpack: read folder of the cache: %w", err)
	}
	return c, nil
}

// adopt takes over the folders of an earlier cache.
func (c *Cache) adopt() error {
	found, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return err
	}
	for _, entry := range found {
		name := entry.Name()
		path := filepath.Join(c.cfg.Dir, name)
		if !validHash(name) || !entry.IsDir() {
			if err := removeLeft(path); err != nil {
				return err
			}
			continue
		}
		size, err := treeSize(path)
		if err != nil {
			return err
		}
		f := &folder{ready: make(chan struct{}), bytes: size}
		close(f.ready)
		c.folders[name] = f
		c.bytes += size
	}
	return nil
}

// Get returns the folder of the package with this SHA-256 (lower-case hex), unpacked and verified, and pins it: give it
// back with [Cache.Release]. Where it is not there yet, open is asked for the zip; several calls for one package share one
// unpacking, and one that is cancelled costs the others nothing. A package that cannot be accepted is a
// [schema.CodeInvalidParameter], now and whenever it is asked for again; bytes that are not those of the hash are a
// [schema.CodeInternal]; a cache full of folders in use, a full disk and a host without memory are a [schema.CodeUnavailable].
func (c *Cache) Get(ctx context.Context, hash string, open func(context.Context) (io.ReadCloser, error)) (string, error) {
	if !validHash(hash) {
		return "", schema.Errorf(schema.CodeInternal, "package %.80q is not named by a SHA-256 in lower-case hex", hash)
	}
	for {
		f, mine, err := c.claim(hash)
		if err != nil {
			return "", err
		}
		if mine {
			return c.fill(ctx, hash, f, open)
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
			c.mu.Lock()
			c.unpin(f)
			c.mu.Unlock()
			return "", fmt.Errorf("wait for package %s: %w", hash, context.Cause(ctx))
		}
		if f.err == nil {
			return c.path(hash), nil
		}
		// The one that unpacked it failed. If that was its own deadline and not the package, the next one tries.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return "", f.err
		}
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("wait for package %s: %w", hash, context.Cause(ctx))
		}
	}
}

// claim pins the folder of a hash; mine says that the caller has to fill it.
func (c *Cache) claim(hash string) (f *folder, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refused[hash]; err != nil {
		return nil, false, err
	}
	if f := c.folders[hash]; f != nil {
		f.pins++
		return f, false, nil
	}
	f = &folder{ready: make(chan struct{}), pins: 1}
	c.folders[hash] = f
	return f, true, nil
}

// fill unpacks what claim gave to the caller.
func (c *Cache) fill(ctx context.Context, hash string, f *folder, open func(context.Context) (io.ReadCloser, error)) (string, error) {
	err := full(hash, c.unpack(ctx, hash, f, open))
	c.mu.Lock()
	if err != nil {
		f.err = err
		delete(c.folders, hash)
		if schema.CodeOf(err) == schema.CodeInvalidParameter {
			if len(c.refused) >= maxRefused {
				clear(c.refused)
			}
			c.refused[hash] = err
		}
	}
	c.mu.Unlock()
	close(f.ready)
	if err != nil {
		return "", err
	}
	return c.path(hash), nil
}

// full makes a disk without room an error that says so to whoever called; the place of the disk is in the cause.
func full(hash string, err error) error {
	if !noRoom(err) {
		return err
	}
	return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf("package %s cannot be unpacked: the disk of the "+
		"worker's data folder is full; make room there, or give the worker another with --data", hash)}
}

// apart tells whether this process can have a child that has less rights than itself.
func apart() bool { return runtime.GOOS == "linux" && os.Geteuid() == 0 }

// unpack makes the folder: the zip beside it, its tree beside it, room in the cache, and the rename.
func (c *Cache) unpack(ctx context.Context, hash string, f *folder, open func(context.Context) (io.ReadCloser, error)) error {
	work, err := os.MkdirTemp(c.cfg.Dir, workPrefix)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", hash, err)
	}
	defer func() {
		if err := removeTree(work); err != nil {
			c.cfg.Log.Warn("leftover of an unpacked package stays", "folder", work, "error", err)
		}
	}()
	zip, tree := filepath.Join(work, "zip"), filepath.Join(work, "tree")
	if err := fetch(ctx, hash, zip, c.cfg.MaxZip, open); err != nil {
		return err
	}
	if c.apart {
		err = c.extractApart(ctx, zip, tree)
	} else {
		err = extractHere(ctx, zip, tree)
	}
	var written int64
	if err == nil {
		written, err = settle(tree)
	}
	if err != nil {
		if schema.CodeOf(err) == schema.CodeInvalidParameter {
			return err
		}
		return fmt.Errorf("unpack %s: %w", hash, err)
	}
	if err := c.room(written); err != nil {
		return err
	}
	// The top folder stays writable until it has moved: only the owner of a writable folder may move it.
	if err := os.Rename(tree, c.path(hash)); err != nil {
		return fmt.Errorf("unpack %s: %w", hash, err)
	}
	if err := os.Chmod(c.path(hash), folderMode()); err != nil {
		return fmt.Errorf("unpack %s: %w", hash, err)
	}
	if err := syncFolder(c.cfg.Dir); err != nil {
		return fmt.Errorf("unpack %s: %w", hash, err)
	}
	c.mu.Lock()
	f.bytes = written
	c.bytes += written
	c.mu.Unlock()
	return nil
}

// room removes folders that nobody uses until need more bytes fit.
func (c *Cache) room(need int64) error {
	for {
		hash, moved, err := c.evict(need)
		if err != nil || moved == "" {
			return err
		}
		c.cfg.Log.Info("unused package removed", "package", hash)
		if err := removeTree(moved); err != nil {
			return fmt.Errorf("remove unused package %s: %w", hash, err)
		}
	}
}

// evict moves the folder that is unused for longest out of the way; moved is "" where there is room.
func (c *Cache) evict(need int64) (hash, moved string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes+need <= c.cfg.Budget {
		return "", "", nil
	}
	var oldest *folder
	for h, f := range c.folders {
		if f.pins == 0 && (oldest == nil || f.unpinned.Before(oldest.unpinned)) {
			hash, oldest = h, f
		}
	}
	if oldest == nil {
		return "", "", schema.Errorf(schema.CodeUnavailable,
			"no room for %d bytes of code: packages in use take %d of %d", need, c.bytes, c.cfg.Budget)
	}
	// Renamed under the lock, so that whoever asks for this package next finds its place free.
	moved = filepath.Join(c.cfg.Dir, workPrefix+"gone-"+hash)
	if err := moveFolder(c.path(hash), moved); err != nil {
		return "", "", fmt.Errorf("remove unused package %s: %w", hash, err)
	}
	c.bytes -= oldest.bytes
	delete(c.folders, hash)
	return hash, moved, nil
}

// Release gives back what one [Cache.Get] pinned. The folder stays until its room is needed.
func (c *Cache) Release(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.folders[hash]; f != nil {
		c.unpin(f)
	}
}

// unpin gives back one pin; the mutex is held.
func (c *Cache) unpin(f *folder) {
	if f.pins > 0 {
		f.pins--
		f.unpinned = time.Now()
	}
}

func (c *Cache) path(hash string) string { return filepath.Join(c.cfg.Dir, hash) }

func validHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// treeSize is the length of all files below a folder.
func treeSize(path string) (size int64, err error) {
	err = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

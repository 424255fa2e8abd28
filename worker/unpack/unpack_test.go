package unpack_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/unpack"
)

func TestMain(m *testing.M) {
	otherwise()
	unpack.Main() // as root the cache runs this program again to unpack
	goleak.VerifyTestMain(m)
}

// entry is one of a zip; what is zero is left to archive/zip.
type entry struct {
	name string
	mode fs.FileMode
	body string
}

// pack makes a zip of entries as they are, however hostile.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.body == "" {
			h.Method = zip.Store
		}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		part, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(e.name, "/") {
			_, err = io.WriteString(part, e.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// opener hands out a package and counts how often.
func opener(b []byte, opened *atomic.Int64) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		if opened != nil {
			opened.Add(1)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

func newCache(t testing.TB, cfg unpack.Config) *unpack.Cache {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "code")
	}
	c, err := unpack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t testing.TB, c *unpack.Cache, b []byte) string {
	t.Helper()
	folder, err := c.Get(t.Context(), sum(b), opener(b, nil))
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// names lists what lies in a folder, without its path.
func names(t testing.TB, dir string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

// TestUnpacks: content, modes and links of an ordinary package, whoever packed it.
func TestUnpacks(t *testing.T) {
	t.Parallel()
	c := newCache(t, unpack.Config{})
	folder := get(t, c, pack(t,
		entry{"bootstrap", 0o755, "#!/bin/sh"},
		entry{"data/", 0o2775 | fs.ModeDir, ""},
		entry{"data/a.txt", 0o666, "a"},
		entry{"deep/er/b", 0, "b"},
		entry{"link", 0o777 | fs.ModeSymlink, "data/a.txt"},
		entry{"data/up", 0o777 | fs.ModeSymlink, "../deep/er"},
		entry{"nowhere", 0o777 | fs.ModeSymlink, "gone"},
		entry{"ümläut …", 0o600, "u"},
		entry{"empty", 0o644, ""},
	))
	for path, want := range map[string]string{"bootstrap": "#!/bin/sh", "data/a.txt": "a", "deep/er/b": "b", "link": "a", "data/up/b": "b", "ümläut …": "u", "empty": ""} {
		if b, err := os.ReadFile(filepath.Join(folder, path)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	closed := closedFolder()
	for path, want := range map[string]fs.FileMode{
		".": closed, "bootstrap": 0o555, "data": closed, "data/a.txt": 0o444, "deep": closed, "deep/er/b": 0o444, "ümläut …": 0o444,
	} {
		if info, err := os.Lstat(filepath.Join(folder, path)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Dir(folder)); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("folder of the cache: %v, %v", info.Mode(), err)
	}
	if found := names(t, filepath.Dir(folder)); len(found) != 1 {
		t.Errorf("left behind: %q", found)
	}
}

// closedFolder is the mode of unpacked folders: closed to the users as which root runs functions; without root the function
// is this user itself.
func closedFolder() fs.FileMode {
	if os.Geteuid() != 0 {
		return 0o755 | fs.ModeDir
	}
	return 0o555 | fs.ModeDir
}

// TestManyFiles: a package of more files than are made durable one by one.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	entries := make([]entry, 1000)
	for i := range entries {
		entries[i] = entry{fmt.Sprintf("%d/%d", i/100, i), 0, fmt.Sprint(i)}
	}
	folder := get(t, newCache(t, unpack.Config{}), pack(t, entries...))
	for i := range entries {
		if b, err := os.ReadFile(filepath.Join(folder, entries[i].name)); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("%s: %q, %v", entries[i].name, b, err)
		}
	}
}

// TestOnce: a package is fetched and unpacked once, however many ask for it, and found again by the next cache.
func TestOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCache(t, unpack.Config{Dir: dir})
	b := pack(t, entry{"bootstrap", 0o755, "x"})
	var opened atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			folder, err := c.Get(context.Background(), sum(b), opener(b, &opened))
			if err != nil || folder != filepath.Join(dir, sum(b)) {
				t.Errorf("%s, %v", folder, err)
			}
		})
	}
	wg.Wait()
	again := newCache(t, unpack.Config{Dir: dir})
	if _, err := again.Get(t.Context(), sum(b), opener(b, &opened)); err != nil {
		t.Error(err)
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// TestCancelled: one who gives up costs the others nothing.
func TestCancelled(t *testing.T) {
	t.Parallel()
	c := newCache(t, unpack.Config{})
	b := pack(t, entry{"bootstrap", 0o755, "x"})
	first, cancel := context.WithCancel(t.Context())
	fetching := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Get(first, sum(b), func(ctx context.Context) (io.ReadCloser, error) {
			close(fetching)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v", err)
		}
	})
	<-fetching
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Get(gone, sum(b), opener(b, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for it: %v", err)
	}
	wg.Go(func() {
		if _, err := c.Get(context.Background(), sum(b), opener(b, nil)); err != nil {
			t.Errorf("second: %v", err)
		}
	})
	cancel()
	wg.Wait()
}

// TestFetchFails: what the store says reaches the caller, and the next one asks again.
func TestFetchFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCache(t, unpack.Config{Dir: dir})
	b := pack(t, entry{"bootstrap", 0o755, "x"})
	broken := errors.New("store is away")
	if _, err := c.Get(t.Context(), sum(b), func(context.Context) (io.ReadCloser, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := c.Get(t.Context(), sum(b), opener(b[:len(b)-1], nil)); schema.CodeOf(err) != schema.CodeInternal || !strings.Contains(err.Error(), "another SHA-256") {
		t.Errorf("%v", err)
	}
	for _, hash := range []string{"", "..", strings.Repeat("A", 64), strings.Repeat("a", 63) + "/"} {
		if _, err := c.Get(t.Context(), hash, opener(b, nil)); schema.CodeOf(err) != schema.CodeInternal {
			t.Errorf("%q: %v", hash, err)
		}
	}
	if found := names(t, dir); len(found) != 0 {
		t.Errorf("left behind: %q", found)
	}
	get(t, c, b)
}

// TestEviction: over the budget the folder unused for longest goes, one in use never does.
func TestEviction(t *testing.T) {
	t.Parallel()
	c := newCache(t, unpack.Config{Budget: 3000})
	var packages [][]byte
	for i := range 4 {
		packages = append(packages, pack(t, entry{"file", 0o644, strings.Repeat(fmt.Sprint(i), 1000)}))
	}
	used := get(t, c, packages[0])
	old := get(t, c, packages[1])
	young := get(t, c, packages[2])
	if _, err := c.Get(t.Context(), sum(packages[3]), opener(packages[3], nil)); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("all in use: %v", err)
	}
	c.Release(sum(packages[1]))
	c.Release(sum(packages[2]))
	get(t, c, packages[3])
	for folder, want := range map[string]bool{used: true, old: false, young: true} {
		if _, err := os.Stat(folder); (err == nil) != want {
			t.Errorf("%s: %v", folder, err)
		}
	}
	// Releasing more often than getting, or what is not there, is nothing.
	for range 3 {
		c.Release(sum(packages[1]))
		c.Release(sum(packages[2]))
	}
	if b, err := os.ReadFile(filepath.Join(get(t, c, packages[1]), "file")); err != nil || len(b) != 1000 {
		t.Errorf("unpacked again: %d bytes, %v", len(b), err)
	}
}

// TestLeftovers: what an earlier cache had not finished is removed.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{".work-1/tree/sub", "strange"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	newCache(t, unpack.Config{Dir: dir})
	if found := names(t, dir); len(found) != 0 {
		t.Errorf("left behind: %q", found)
	}
	if _, err := unpack.New(unpack.Config{}); err == nil {
		t.Error("made without a folder")
	}
}

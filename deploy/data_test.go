package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestDataFolderIsHeldByOneProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "data")
	first, err := openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m := mode(t, dir); m != 0o700 {
		t.Errorf("mode %o", m)
	}
	_, err = openData(dir)
	if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openData(dir)
	if err != nil {
		t.Fatalf("after the first has closed it: %v", err)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
}

func TestAdminKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	public, path, err := adminKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // a copy that somebody made
		t.Fatal(err)
	}
	again, _, err := adminKey(dir)
	if err != nil || again != public {
		t.Errorf("the key is %s, was %s: %v", again, public, err)
	}
	if m := mode(t, path); m != 0o600 {
		t.Errorf("mode %o", m)
	}
	for _, bad := range []string{"", "garbage", "SAANJOKNA2MPH7LHTMGAAGS7ZZXHXMWLZHR5ZMXFWQPRV3SYUUZBGGLBVA"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := adminKey(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("with %q in it: %v", bad, err)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the seed: %v", err)
		}
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "shared")
	open := func(name string) *data {
		t.Helper()
		d, err := openData(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	a, b := open("a"), open("b")
	if dir, err := a.reach(base, false); err != nil || !strings.HasPrefix(dir, a.dir) {
		t.Errorf("for this user: %s, %v", dir, err)
	}
	first, err := a.reach(base, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{base, first} {
		if m := mode(t, dir); m != 0o711 {
			t.Errorf("%s has mode %o", dir, m)
		}
	}
	// Unpacked code is read-only.
	code := filepath.Join(first, "code", "x")
	if err := os.MkdirAll(code, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(code, 0o555); err != nil {
		t.Fatal(err)
	}
	if second, err := b.reach(base, true); err != nil || second == first {
		t.Errorf("another data folder: %s, the first %s: %v", second, first, err)
	}
	if again, err := a.reach(base, true); err != nil || again != first {
		t.Errorf("again: %s, was %s: %v", again, first, err)
	}
	if _, err := os.Stat(code); err != nil {
		t.Errorf("what was there: %v", err)
	}
	// One that has the same path in another mount namespace, where its data folder is another.
	twin := &data{dir: a.dir, lock: a.lock}
	other, err := twin.reach(base, true)
	if err != nil || other == first {
		t.Errorf("of a data folder that looks the same: %s, the first %s: %v", other, first, err)
	}
	if err := twin.reached.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := open("c").reach(base, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(code); err != nil {
		t.Errorf("what a fabric uses whose data folder cannot be seen from here: %v", err)
	}
	if err := unlock(a.reached); err != nil {
		t.Fatal(err)
	}
	if _, err := open("d").reach(base, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a data folder that is gone has left: %v", err)
	}
	if err := os.Mkdir(filepath.Join(base, gonePrefix+"half"), passable); err != nil { // of one that was killed on the way
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "stranger"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open("e").reach(base, true); err != nil {
		t.Errorf("beside a stranger's file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(base, gonePrefix+"half")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was half removed: %v", err)
	}
}

// Many start at once, as tests do, while there is much to remove: none fails by what another removes.
func TestReachSweptByMany(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "shared")
	for round := range 20 {
		for i := range 10 {
			left := filepath.Join(base, fmt.Sprintf("left%d", i))
			for _, dir := range []string{"code/a", "code/b", "tree"} {
				if err := os.MkdirAll(filepath.Join(left, dir), passable); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(left, ownerFile), []byte("/nobody/there\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var starts sync.WaitGroup
		for i := range 8 {
			starts.Go(func() {
				d, err := openData(filepath.Join(t.TempDir(), fmt.Sprint(round, i)))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := d.reach(base, true); err != nil {
					t.Error(err)
				}
				if err := d.close(); err != nil {
					t.Error(err)
				}
			})
		}
		starts.Wait()
	}
}

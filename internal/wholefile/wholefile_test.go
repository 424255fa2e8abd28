package wholefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hearth-run/hearth/internal/wholefile"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	has := func(want string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want {
			t.Fatalf("%q, %v; want %q", b, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	if err := wholefile.Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	has("first")
	if err := wholefile.Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second is told %v", err)
	}
	has("first")
	if err := wholefile.Write(path, []byte("third")); err != nil {
		t.Fatal(err)
	}
	has("third")
	if err := wholefile.Write(filepath.Join(dir, "none", "key"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
}

//go:build unix

package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

// What lies in the folder of credentials and is none is left aside and named; a file that cannot be read at the moment puts
// nobody out.
func TestFolderOfCredentials(t *testing.T) {
	t.Parallel()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	d := &data{dir: t.TempDir()}
	if got, err := d.credentials(names, nil); len(got) != 0 || err != nil {
		t.Errorf("no folder: %v, %v", got, err)
	}
	path := func(name string) string { return filepath.Join(d.path(credentialsDir), name) }
	if err := os.Mkdir(d.path(credentialsDir), closedDir); err != nil {
		t.Fatal(err)
	}
	good, err := newSeed(path("frontend-f1.nk"), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"manager-m1.nk": "garbage", "copy.nk": string(good), "manager-=.nk": string(good), "root-x.nk": string(good), "frontend-f2.nk": string(good),
		"README": "x", ".manager-m2.nk-1": "half",
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		syscall.Mkfifo(path("manager-pipe.nk"), 0o600), os.Symlink(path("frontend-f1.nk"), path("client-link.nk")), os.Mkdir(path("client-dir.nk"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	known, err := d.credentials(names, nil)
	if len(known) != 1 || known[0].ID != "f1" || err == nil {
		t.Fatalf("knows %v, %v; want f1 alone, and what is wrong with the others", known, err)
	}

	if err := os.Remove(path("frontend-f2.nk")); err != nil {
		t.Fatal(err)
	}
	broken := &data{dir: path("README")} // a folder that cannot be listed
	if got, err := broken.credentials(names, known); len(got) != 1 || err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that cannot be read: %v, %v; want what was known", got, err)
	}
	if err := os.Remove(path("frontend-f1.nk")); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.credentials(names, known); len(got) != 0 {
		t.Errorf("its file removed, it knows %v", got)
	}
}

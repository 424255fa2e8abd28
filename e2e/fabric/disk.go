package fabric

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Disk is a small file system of the test's own, which it can fill: a tmpfs in a mount namespace that one process keeps, so
// that nobody else sees it and it is there for as long as the test, whatever is started and killed on it.
type Disk struct {
	Dir string // where it is, for programs that are started on it

	keeper *exec.Cmd
}

// StartDisk makes a disk of so many bytes. A test that needs one is skipped where this user may not mount. Its cleanup ends the
// keeper, and with it the disk.
func StartDisk(t testing.TB, size int) *Disk {
	t.Helper()
	d := &Disk{Dir: filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o mode=700,size="$1" hearth-e2e "$2" && echo mounted && exec cat`
	d.keeper = exec.Command("unshare", "--mount", "sh", "-c", script, "sh", fmt.Sprint(size), d.Dir)
	var said bytes.Buffer
	d.keeper.Stderr = &said
	out, err := d.keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := d.keeper.StdinPipe() // its end ends the keeper, also where this process is killed
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("mounted"))
	if err = d.keeper.Start(); err == nil {
		if _, err = io.ReadFull(out, b); err != nil {
			err = fmt.Errorf("%w: %s", errors.Join(err, in.Close(), d.keeper.Wait()), &said)
		}
	}
	if err != nil {
		t.Skipf("no disk of its own for this test: mounting in a private mount namespace needs root on Linux, with unshare and nsenter: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = d.keeper.Wait() // cat says nothing of interest
	})
	return d
}

// enter is the command that runs a program where the disk is; of no disk, the program as it is.
func (d *Disk) enter(path string, args ...string) (string, []string) {
	if d == nil {
		return path, args
	}
	nsenter := []string{"--target", fmt.Sprint(d.keeper.Process.Pid), "--mount", "--wd=/", "--", path}
	return "nsenter", append(nsenter, args...)
}

// Path is where this process finds a file of the disk.
func (d *Disk) Path(name string) string {
	return filepath.Join("/proc", fmt.Sprint(d.keeper.Process.Pid), "root", d.Dir, name)
}

// seen is where this process finds a file that a program on the disk speaks of; of no disk, the file as it is.
func (d *Disk) seen(path string) string {
	if d == nil {
		return path
	}
	return d.Path(strings.TrimPrefix(path, d.Dir))
}

// Fill takes all that is free but for so many bytes. Whoever writes meanwhile has his part.
func (d *Disk) Fill(t testing.TB, leave int64) {
	t.Helper()
	f, err := os.OpenFile(d.Path(filler), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(max(0, info.Size()-leave))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

const filler = "filler"

// Clear gives back what Fill took.
func (d *Disk) Clear(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.Path(filler)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

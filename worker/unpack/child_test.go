//go:build linux

package unpack_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver/uids"
	"github.com/hearth-run/hearth/worker/unpack"
)

// What children of tests do instead of unpacking, by the seconds of processor time that they are given.
const (
	hang  = 7001
	die   = 7002
	crash = 7003
	plant = 7004 // and on: one for each of plants
)

// probeArgument makes this binary tell what a child may do; the folder to be in is where it was started.
const probeArgument = "unpack-test-probe"

// plants are what a child that was taken over could leave, and nobody may be given.
var plants = []struct {
	what string
	make func() error
}{
	{"a program that runs as root", func() error { return errors.Join(os.WriteFile("x", nil, 0o755), os.Chmod("x", 0o755|fs.ModeSetuid)) }},
	{"a file that others may write", func() error { return errors.Join(os.WriteFile("x", nil, 0o600), os.Chmod("x", 0o666)) }},
	{"a file with two names", func() error { return errors.Join(os.WriteFile("x", nil, 0o444), os.Link("x", "y")) }},
	{"a device", func() error { return unix.Mknod("x", unix.S_IFCHR|0o444, int(unix.Mkdev(1, 3))) }},
	{"a pipe", func() error { return unix.Mkfifo("x", 0o444) }},
	{"a link that leads out", func() error { return os.Symlink("../../..", "x") }},
	{"a link to an absolute path", func() error { return os.Symlink("/etc/passwd", "x") }},
	{"too many bytes", func() error {
		return errors.Join(os.WriteFile("x", nil, 0o444), os.Truncate("x", unpack.MaxUnpacked+1))
	}},
}

// otherwise is what children of tests do.
func otherwise() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == probeArgument:
		probe()
	case len(os.Args) != 5 || os.Args[1] != unpack.ChildArgument:
		return
	}
	switch n, _ := strconv.Atoi(os.Args[4]); {
	case n == hang:
		<-time.After(time.Hour)
	case n == die:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case n == crash: // as without a stack for its handler
		var byDefault [32]byte // struct sigaction
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case n >= plant && n < plant+len(plants):
		if err := plants[n-plant].make(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			syscall.Exit(1)
		}
		fmt.Println(`{"done":true}`)
		syscall.Exit(0)
	}
}

// probe gives up all rights and says what is left of them, a line each that should not be there.
func probe() {
	parent := os.Getppid()
	runtime.LockOSThread()
	if err := unpack.Confine(uids.First+uids.Size-1, 256<<20, 10); err != nil {
		fmt.Println("not confined:", err)
		syscall.Exit(1)
	}
	for what, try := range map[string]func() error{
		"reads the host":          func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"leaves its folder":       func() error { _, err := os.Stat("../../../etc/passwd"); return err },
		"makes a root":            func() error { return unix.Chroot("/") },
		"opens a socket":          func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err },
		"opens a local socket":    func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"signals its parent":      func() error { return syscall.Kill(parent, 0) },
		"signals a thread of it":  func() error { return unix.Tgkill(parent, parent, 0) },
		"becomes root":            func() error { return syscall.Setuid(0) },
		"starts a program":        func() error { return syscall.Exec("/x", []string{"x"}, nil) },
		"forks":                   func() error { _, err := syscall.ForkExec("/x", []string{"x"}, nil); return unless(err, syscall.ENOENT) },
		"makes a namespace":       func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"makes a device":          func() error { return unix.Mknod("/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
		"links files":             func() error { return os.Link("/mine", "/other") },
		"traces":                  func() error { return unix.PtraceAttach(parent) },
		"opens too many files":    tooMany,
		"writes too large a file": func() error { return os.Truncate("/mine", unpack.MaxUnpacked+1) },
		"has groups":              func() error { return groups() },
	} {
		if err := try(); err == nil {
			fmt.Println(what)
		}
	}
	// What it needs it has, on any thread.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			runtime.LockOSThread() // ends with its thread
			if _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
				fmt.Println("opens a socket on another thread")
			}
		})
	}
	wg.Wait()
	if err := os.WriteFile("/written", []byte("x"), 0o600); err != nil {
		fmt.Println("cannot write:", err)
	}
	if id := os.Getuid(); id != uids.First+uids.Size-1 {
		fmt.Println("is user", id)
	}
	fmt.Println("over")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until it has been looked at
	syscall.Exit(0)
}

func unless(err, but error) error {
	if errors.Is(err, but) {
		return nil
	}
	return err
}

func tooMany() error {
	for range 1000 {
		fd, err := unix.Open("/", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	return nil
}

func groups() error {
	if g, err := os.Getgroups(); err != nil || len(g) == 0 {
		return errors.New("none")
	}
	return nil
}

func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true, and these tests do not run as root")
		}
		t.Skip("needs root")
	}
}

// TestConfined: what unpacks can do nothing else.
func TestConfined(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", probeArgument)
	cmd.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(cmd.Dir, "mine"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(cmd.Dir, 0o777), os.Chmod(filepath.Join(cmd.Dir, "mine"), 0o666)); err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for lines := bufio.NewScanner(pipe); lines.Scan() && lines.Text() != "over"; {
		out.WriteString(lines.Text() + "\n")
	}
	// Threads are all that it may start, and a runtime that gets none ends: so the bound is looked at and not met.
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if at := strings.Index(string(limits), "Max processes"); err != nil || at < 0 || strings.Fields(string(limits[at:]))[2] != "1024" {
		t.Errorf("%v: its limits are\n%s", err, limits)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil || out.Len() > 0 {
		t.Errorf("%v: it\n%s%s", err, out.String(), &complaint)
	}
	if info, err := os.Stat(filepath.Join(cmd.Dir, "written")); err != nil || info.Sys().(*syscall.Stat_t).Uid != uids.First+uids.Size-1 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestChildEnds: a child that hangs, dies, takes too much or lies harms nobody: an error says so, nothing is left, and the next
// one unpacks.
func TestChildEnds(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	small := pack(t, entry{"bootstrap", 0o755, "x"})
	refused := func(t *testing.T, c *unpack.Cache, b []byte, code schema.Code, says string) {
		t.Helper()
		if _, err := c.Get(t.Context(), sum(b), opener(b, nil)); schema.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", schema.CodeOf(err), err)
		}
	}
	clean := func(t *testing.T, c *unpack.Cache, dir string) {
		t.Helper()
		if left := names(t, dir); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		c.SetLimits(256<<20, time.Minute)
		get(t, c, small)
	}
	t.Run("Hangs", func(t *testing.T) {
		dir := t.TempDir()
		c := newCache(t, unpack.Config{Dir: dir})
		c.SetLimits(1<<20, hang*time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); runtime.Gosched() {
				if len(children(t, hang)) > 0 {
					break
				}
			}
			cancel(errHung)
		})
		if _, err := c.Get(ctx, sum(small), opener(small, nil)); !errors.Is(err, errHung) {
			t.Errorf("%v", err)
		}
		wg.Wait()
		if pids := children(t, hang); len(pids) > 0 {
			t.Errorf("children %v live", pids)
		}
		clean(t, c, dir)
	})
	t.Run("Dies", func(t *testing.T) {
		dir := t.TempDir()
		c := newCache(t, unpack.Config{Dir: dir})
		c.SetLimits(1<<20, die*time.Second)
		refused(t, c, small, schema.CodeUnavailable, "may be too large to unpack here")
		clean(t, c, dir)
	})
	t.Run("Crashes", func(t *testing.T) {
		dir := t.TempDir()
		c := newCache(t, unpack.Config{Dir: dir})
		c.SetLimits(1<<20, crash*time.Second)
		refused(t, c, small, schema.CodeInvalidParameter, "too large to be read in 1 MB")
	})
	t.Run("Memory", func(t *testing.T) {
		dir := t.TempDir()
		c := newCache(t, unpack.Config{Dir: dir})
		c.SetLimits(4<<20, time.Minute)
		long := strings.Repeat(strings.Repeat("n", 250)+"/", 4)
		refused(t, c, pack(t, slices.Repeat([]entry{{long, 0o755 | fs.ModeDir, ""}}, 8000)...), schema.CodeInvalidParameter, "more than 4 MB of memory")
		clean(t, c, dir)
	})
	for i, p := range plants {
		t.Run(p.what, func(t *testing.T) {
			dir := t.TempDir()
			c := newCache(t, unpack.Config{Dir: dir})
			c.SetLimits(1<<20, time.Duration(plant+i)*time.Second)
			refused(t, c, small, schema.CodeInternal, "not what may be")
			clean(t, c, dir)
		})
	}
}

var errHung = errors.New("hung on purpose")

// children are the processes of this one that unpack with so many seconds.
func children(t *testing.T, seconds int) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	ours := fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.HasSuffix(b, []byte("\x00"+strconv.Itoa(seconds)+"\x00")) {
			continue
		}
		// Another run of these tests on this host has such children too.
		if status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "status")); err == nil && strings.Contains(string(status), ours) {
			pids = append(pids, path)
		}
	}
	return pids
}

// TestOwners: what a child unpacked is root's, whatever it was when it was made.
func TestOwners(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	folder := get(t, newCache(t, unpack.Config{}), pack(t, entry{"a/b", 0o644, "b"}, entry{"l", 0o777 | fs.ModeSymlink, "a/b"}))
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if s, ok := info.Sys().(*syscall.Stat_t); err == nil && (!ok || s.Uid != 0 || s.Gid != 0) {
			err = fmt.Errorf("%s is of %+v", path, info.Sys())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFullDisk: whoever asked is told that the disk is full, wherever that shows, nothing stays behind, and there is no harm when
// there is room again.
func TestFullDisk(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	fits := pack(t, entry{"bootstrap", 0o755, "x"})
	bomb := pack(t, entry{"zeros", 0o644, strings.Repeat("\x00", 2<<20)}, entry{"noise", 0o644, noise(64 << 10)})
	large := pack(t, entry{"noise", 0o644, noise(2 << 20)})
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() { // its thread is in other mounts, and is given to nobody
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=64"); err != nil {
				return err
			}
			c, err := unpack.New(unpack.Config{Dir: dir})
			if err != nil {
				return err
			}
			for what, b := range map[string][]byte{"the zip": large, "its content": bomb, "its files": pack(t, numbered(100)...)} {
				_, err := c.Get(context.Background(), sum(b), opener(b, nil))
				if schema.CodeOf(err) != schema.CodeUnavailable || !strings.Contains(err.Error(), "disk of the worker's data folder is full") ||
					!errors.Is(err, syscall.ENOSPC) {
					return fmt.Errorf("%s does not fit: %w", what, err)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					return fmt.Errorf("%s left %v, %w", what, left, err)
				}
			}
			// A process that another test forked a moment ago has what was removed open until it executes.
			for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
				_, err := c.Get(context.Background(), sum(fits), opener(fits, nil))
				if err == nil || time.Now().After(deadline) {
					return err
				}
			}
		}()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// noise is bytes that cannot be packed.
func noise(n int) string {
	b := make([]byte, n)
	state := uint32(1)
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return string(b)
}

func numbered(n int) (entries []entry) {
	for i := range n {
		entries = append(entries, entry{"f" + strconv.Itoa(i), 0o644, "x"})
	}
	return entries
}

// BenchmarkUnpack is a small package from its zip to its folder.
func BenchmarkUnpack(b *testing.B) {
	c := newCache(b, unpack.Config{})
	for n := 0; b.Loop(); n++ {
		zip := pack(b, entry{"bootstrap", 0o755, strconv.Itoa(n)})
		if _, err := c.Get(b.Context(), sum(zip), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(zip)), nil }); err != nil {
			b.Fatal(err)
		}
	}
}

//go:build linux && (amd64 || arm64)

package native_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native/hostile"
	"github.com/hearth-run/hearth/worker/driver/uids"
)

// outside runs the guest without a sandbox, under the uid of an environment: what the host would let it do. Its network is one
// that the test made, so that there are the addresses which a host may have or not; its mounts are private.
type outside struct {
	guest string
	uid   uint32
	host  hostile.Facts // what is there on this host
	made  hostile.Facts // what is there where the guest runs
}

func newOutside(t *testing.T, guest, folder string) *outside {
	t.Helper()
	users, err := uids.Claim("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = users.Lock.Close() })
	b := &outside{guest: guest}
	if b.uid, err = users.Take(); err != nil {
		t.Fatal(err)
	}
	planted := filepath.Join(drivertest.Folder(t), "planted")
	if err := os.WriteFile(planted, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	key := os.Getpid()
	segment, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := unix.SysvShmCtl(segment, unix.IPC_RMID, nil); err != nil {
			t.Error(err)
		}
	})
	b.host = hostile.Facts{
		Victim: b.victim(t), Folder: folder, Planted: planted, Neighbour: planted, Shared: key, Task: filepath.Dir(guest),
		Abstract: "hearth-hostile-" + fmt.Sprint(os.Getpid()),
		LAN:      "10.77.0.1:80", LAN6: "[fd77::1]:80", Metadata: "169.254.169.254:80", UDP: "10.77.0.1:53",
	}
	b.made = b.host
	b.host.TCP, b.host.TCP6 = listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")
	if own := address(); own != "" {
		b.host.LAN = listen(t, own)
	}
	hear(t, "unix", "@"+b.host.Abstract)
	return b
}

// address is one of this host's on a network.
func address() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String() + ":0"
		}
	}
	return ""
}

func hear(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func listen(t *testing.T, address string) string { return hear(t, "tcp", address).Addr().String() }

// victim is a process of the same user.
func (b *outside) victim(t *testing.T) int {
	t.Helper()
	cmd := b.command([]string{"hostile-guest", "wait"})
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = leash.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func (b *outside) command(arguments []string) *exec.Cmd {
	cmd := exec.Command(b.guest, arguments...)
	cmd.Dir, cmd.Env = filepath.Dir(b.guest), []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: b.uid, Gid: b.uid}}
	return cmd
}

// run runs probes and gives what the guest said.
func (b *outside) run(t *testing.T, owner bool, names []string) string {
	t.Helper()
	said, errs := make(chan string, 1), make(chan error, 1)
	go func() { // awaited below
		runtime.LockOSThread() // and never unlocked: the thread is in other namespaces
		out, err := b.runHere(t, owner, names)
		said <- out
		errs <- err
	}()
	out, err := <-said, <-errs
	if err != nil {
		t.Fatalf("%v; %s", err, out)
	}
	return out
}

// runHere makes the namespaces of the calling thread and runs the guest there.
func (b *outside) runHere(t *testing.T, owner bool, names []string) (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_FS); err != nil {
		return "", fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	if err := addresses(); err != nil {
		return "", fmt.Errorf("make a network: %w", err)
	}
	facts := b.made
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	for _, at := range []struct {
		network, address string
		to               *string
	}{
		{"tcp", "127.0.0.1:0", &facts.TCP}, {"tcp", "[::1]:0", &facts.TCP6}, {"tcp", facts.LAN, &facts.LAN}, {"tcp", facts.LAN6, &facts.LAN6},
		{"tcp", facts.Metadata, &facts.Metadata}, {"unix", "@" + facts.Abstract, nil},
	} {
		l, err := net.Listen(at.network, at.address)
		// The kernel takes a moment to make an address of version 6 one of its own.
		for late := time.Now().Add(patience); errors.Is(err, unix.EADDRNOTAVAIL) && time.Now().Before(late); {
			runtime.Gosched()
			l, err = net.Listen(at.network, at.address)
		}
		if err != nil {
			return "", err
		}
		listeners = append(listeners, l)
		if at.to != nil {
			*at.to = l.Addr().String()
		}
	}
	// A descriptor more than it should have, for the probe that looks for one.
	extra, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer extra.Close()
	cmd := b.command(hostile.Arguments(facts, names...))
	cmd.ExtraFiles = []*os.File{extra}
	if owner {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_DAC_READ_SEARCH}
	}
	var said, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &failed
	if err := cmd.Run(); err != nil {
		return said.String() + failed.String(), err
	}
	return said.String(), nil
}

// addresses gives lo those that a guest looks for.
func addresses() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return err
	}
	for i, a := range [][4]byte{{10, 77, 0, 1}, {169, 254, 169, 254}} {
		if err := hostile.SetAddress(fd, fmt.Sprintf("lo:%d", i+1), a); err != nil {
			return err
		}
	}
	six, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(six)
	request := struct {
		address [16]byte
		prefix  uint32
		index   int32
	}{[16]byte{0: 0xfd, 1: 0x77, 15: 1}, 128, 1}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(six), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

package process

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// TestKillUser: all processes of a uid end, and nobody else's.
func TestKillUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	u, err := uids.Claim(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Lock.Close()
	// Not from the start of the block, where drivers of other tests could begin.
	victim, other := u.First+uids.BlockSize-1, u.First+uids.BlockSize-2
	sleep := func(uid uint32) *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	dies, lives := sleep(victim), sleep(other)
	if err := killUser(victim); errors.Is(err, syscall.EACCES) {
		// The test's binary lies where only its owner may run it.
		_ = dies.Process.Kill()
		_ = lives.Process.Kill()
		_, _ = dies.Wait(), lives.Wait()
		t.Skip("needs a binary that others may run")
	} else if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := dies.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the victim: %v", err)
	}
	if err := lives.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another user's process: %v", err)
	}
	_ = lives.Process.Kill()
	_ = lives.Wait()
}

// TestKillAllRefuses: the one that kills all it can reach does so only as a user of environments. It must refuse here,
// where it runs as whoever runs the tests.
func TestKillAllRefuses(t *testing.T) {
	t.Parallel()
	for _, argument := range []string{"", "x", "-1", "0", "1", strconv.Itoa(os.Getuid()), "65534", strconv.Itoa(uids.First), strconv.Itoa(uids.First + uids.Size)} {
		if err := killAll(argument); err == nil {
			t.Fatalf("%q: not refused", argument)
		}
	}
}

package process

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// TestUsersAreNotShared: two drivers of a host never have a uid in common, and a block is free again with its lock. Not
// parallel: a process that another test forks holds all locks until it executes.
func TestUsersAreNotShared(t *testing.T) {
	dir := t.TempDir()
	taken := map[uint32]bool{}
	var all []*users
	for range rangeSize / blockSize {
		u, err := claimUsers(dir)
		if err != nil {
			t.Fatal(err)
		}
		if taken[u.first] || !inRange(u.first) || !inRange(u.first+blockSize-1) || u.first%blockSize != firstUID%blockSize {
			t.Fatalf("block from %d", u.first)
		}
		taken[u.first] = true
		all = append(all, u)
	}
	if _, err := claimUsers(dir); err == nil {
		t.Error("more blocks than there are")
	}
	if err := all[17].lock.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := claimUsers(dir)
	if err != nil || u.first != all[17].first {
		t.Errorf("block from %d instead of %d, %v", u.first, all[17].first, err)
	}
	for i, each := range append(all, u) {
		if i != 17 {
			_ = each.lock.Close()
		}
	}
}

// TestUsersComeBackLast: a uid is used again after all others, and never one that was not given back.
func TestUsersComeBackLast(t *testing.T) {
	t.Parallel()
	u := &users{first: firstUID, next: firstUID}
	for i := range uint32(blockSize) {
		uid, err := u.take()
		if err != nil || uid != firstUID+i {
			t.Fatalf("%d, %v", uid, err)
		}
		if i%2 == 0 {
			u.give(uid)
		}
	}
	for i := uint32(0); i < blockSize; i += 2 {
		if uid, err := u.take(); err != nil || uid != firstUID+i {
			t.Fatalf("%d, %v", uid, err)
		}
	}
	if uid, err := u.take(); err == nil {
		t.Errorf("%d is in use", uid)
	}
}

// TestKillUser: all processes of a uid end, and nobody else's.
func TestKillUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	u, err := claimUsers(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer u.lock.Close()
	// Not from the start of the block, where drivers of other tests could begin.
	victim, other := u.first+blockSize-1, u.first+blockSize-2
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
	for _, argument := range []string{"", "x", "-1", "0", "1", strconv.Itoa(os.Getuid()), "65534", strconv.Itoa(firstUID), strconv.Itoa(firstUID + rangeSize)} {
		if err := killAll(argument); err == nil {
			t.Fatalf("%q: not refused", argument)
		}
	}
}

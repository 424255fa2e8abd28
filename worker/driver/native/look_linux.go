//go:build amd64 || arm64

package native

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

var namespaceFlags = map[string]uintptr{
	"mount": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS,
	"cgroup": unix.CLONE_NEWCGROUP,
}

// Look looks. It starts processes that end at once, and makes a cgroup that it removes.
func Look() Host {
	h := Host{Supported: true, Root: os.Geteuid() == 0, Landlock: landlockABI(), Namespaces: map[string]error{}}
	if h.Root {
		h.Users = uids.Check()
		for name, flag := range namespaceFlags {
			if err := namespace(flag); err != nil {
				h.Namespaces[name] = err
			}
		}
	}
	h.UserSpaces = namespace(unix.CLONE_NEWUSER)
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil {
		h.Seccomp = err
	}
	h.lookAtCgroups()
	if tun, err := os.OpenFile(deviceNode, os.O_RDWR, 0); err != nil {
		h.Tun = err
	} else {
		_ = tun.Close()
	}
	return h
}

// namespace starts nothing in a namespace of a kind: a program that is not there is looked for after the namespace was made.
func namespace(flag uintptr) error {
	process, err := os.StartProcess("/nowhere/at/all", []string{"nothing"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flag}})
	if err == nil { // there is one
		_ = process.Kill()
		_, _ = process.Wait()
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func (h *Host) lookAtCgroups() {
	if line, err := os.ReadFile("/proc/cmdline"); err == nil {
		for field := range strings.FieldsSeq(string(line)) {
			if list, ok := strings.CutPrefix(field, "cgroup.memory="); ok && slices.Contains(strings.Split(list, ","), "nosocket") {
				h.Uncharged = true
			}
		}
	}
	found, err := mounted()
	if err != nil {
		return
	}
	if memory, ok := found["memory"]; ok {
		h.Cgroups, h.Group = 1, memory
		for _, c := range controllers {
			if found[c] == "" {
				h.Controllers = append(h.Controllers, c)
			}
		}
		h.Sockets, h.Swap = exists(memory, tcpLimit), exists(memory, swapLimit) || !swapping()
	} else if own, ok := found[""]; ok {
		h.Cgroups, h.Group, h.Sockets, h.Swap = 2, own, true, true
		if filepath.Base(own) == leaf {
			h.Group = filepath.Dir(own)
		}
		there, _ := os.ReadFile(filepath.Join(h.Group, "cgroup.controllers"))
		for _, c := range unified {
			if !slices.Contains(strings.Fields(string(there)), c) {
				h.Controllers = append(h.Controllers, c)
			}
		}
	}
	if h.Cgroups == 0 || !h.Root {
		return
	}
	probe := filepath.Join(h.Group, "hearth-look")
	if h.Writable = os.Mkdir(probe, 0o755); errors.Is(h.Writable, os.ErrExist) {
		h.Writable = nil // of another that looks
	}
	_ = os.Remove(probe)
}

func exists(folder, file string) bool {
	_, err := os.Stat(filepath.Join(folder, file))
	return err == nil
}

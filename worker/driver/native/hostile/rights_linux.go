//go:build amd64 || arm64

package hostile

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rightsProbes ask for rights, and for what only who has them may do to the host.
func rightsProbes() []Probe {
	rights := []Control{off(Rights)}
	behind := func(then string) []Control { // refused by the filter, then for want of rights
		return []Control{off(Filter|Rights, then), off(Filter, "EPERM")}
	}
	return []Probe{
		{"rights/become root", "EPERM", rights, func(*Facts) error { return threadOnly(unix.SYS_SETRESUID, 0, 0, 0) }},
		{"rights/become root's group", "EPERM", rights, func(*Facts) error { return threadOnly(unix.SYS_SETRESGID, 0, 0, 0) }},
		{"rights/join groups", "EPERM", rights, func(*Facts) error {
			group := uint32(0)
			return threadOnly(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&group)), 0)
		}},
		{"rights/set capabilities", "EPERM", rights, func(*Facts) error { return setCapabilities() }},
		{"rights/raise ambient ones", "EPERM", rights, func(*Facts) error { return raise() }},
		{"rights/keep capabilities", "EPERM", bare, func(*Facts) error { return unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) }},
		{"rights/which there are", "none", rights, func(*Facts) error { return status("CapEff", "0000000000000000", "none") }},
		{"rights/which there may be", "none", bare, func(*Facts) error { return status("CapBnd", "0000000000000000", "none") }},
		{"rights/new privileges", "none", []Control{off(Filter | Landlock | NewRights)}, func(*Facts) error { return status("NoNewPrivs", "1", "none") }},
		{"rights/filter", "on", []Control{off(Filter)}, func(*Facts) error { return status("Seccomp", "2", "on") }},
		{"rights/setuid program", "kept", []Control{
			off(Filter | Landlock | NewRights | NoSUID), off(Filter|Landlock|NewRights, "kept"), off(Filter|Landlock|NoSUID, "kept"),
		}, func(f *Facts) error { return who(f.Setuid) }},
		{"rights/owner", "EPERM", rights, func(*Facts) error { return ownRoot() }},
		{"rights/device node", "EPERM", []Control{off(Filter | Rights | Landlock), off(Filter|Rights, "EACCES"), off(Filter|Landlock, "EPERM")}, func(*Facts) error {
			return made("/tmp/node", unix.Mknod("/tmp/node", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))))
		}},
		{"rights/host's name", "EPERM", behind(Done), func(*Facts) error { return unix.Sethostname([]byte("environment")) }},
		{"rights/domain's name", "EPERM", behind(Done), func(*Facts) error { return unix.Setdomainname([]byte("(none)")) }},
		{"rights/time of day", "EPERM", behind(Done), func(*Facts) error { return call(unix.SYS_SETTIMEOFDAY, 0, 0) }},
		{"rights/clock", "EPERM", []Control{off(Filter, "EFAULT")}, func(*Facts) error { return call(unix.SYS_CLOCK_SETTIME, 0, 0) }},
		{"rights/adjust the clock", "EPERM", []Control{off(Rights, "EINVAL")}, func(*Facts) error {
			_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 1})
			return err
		}},
		{"rights/reboot", "EPERM", behind("EINVAL"), func(*Facts) error { return call(unix.SYS_REBOOT, 0, 0, 0, 0) }},
		{"rights/swap on", "EPERM", behind("ENOENT"), func(*Facts) error { return call(unix.SYS_SWAPON, text("/nowhere"), 0) }},
		{"rights/swap off", "EPERM", behind("ENOENT"), func(*Facts) error { return call(unix.SYS_SWAPOFF, text("/nowhere")) }},
		{"rights/kernel's log", "EPERM", behind(Done), func(*Facts) error {
			const size = 10
			return call(unix.SYS_SYSLOG, size, 0, 0)
		}},
		{"rights/accounting", "EPERM", behind("ENOENT|ENOSYS"), func(*Facts) error { return call(unix.SYS_ACCT, text("/nowhere")) }},
		{"rights/quota", "EPERM", []Control{off(Filter, "ENOENT|ENOTBLK|EINVAL|ENODEV|ENOSYS")}, func(*Facts) error {
			return call(unix.SYS_QUOTACTL, 0x80000700, text("/nowhere"), 0, 0)
		}},
		{"rights/terminal", "EPERM", []Control{off(Filter|Rights, Done), off(Filter, "EPERM")}, func(*Facts) error { return call(unix.SYS_VHANGUP) }},
		{"rights/raise a limit", "EPERM", []Control{off(Resources)}, func(*Facts) error {
			return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 2048, Max: 2048}, nil)
		}},
		{"rights/priority", "EACCES", rights, func(*Facts) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }},
	}
}

// threadOnly changes the calling thread, which the probe does not give back, and not the process.
func threadOnly(number, a, b, c uintptr) error { return call(number, a, b, c) }

func setCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
	return unix.Capset(&header, &data[0])
}

// raise makes a capability one that programs are executed with.
func raise() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		data[i].Inheritable = data[i].Permitted
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
}

// status is a line of /proc/self/status: with another value than that of the sandbox the probe got further.
func status(name, value, outcome string) error {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if key, v, ok := strings.Cut(line, ":"); ok && key == name {
			if strings.TrimSpace(v) == value {
				return found(outcome)
			}
			return nil
		}
	}
	return found("no " + name)
}

// who runs a program of root's that has the setuid bit.
func who(path string) error {
	cmd := exec.Command(path, argument, "who")
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	if uid, err := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || uid != 0 {
		return found("kept")
	}
	return nil
}

// ownRoot gives a file to root.
func ownRoot() error {
	const path = "/tmp/given"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return errors.Join(unix.Chown(path, 0, 0), nil)
}

// made removes what was made.
func made(path string, err error) error {
	if err == nil {
		err = unix.Unlink(path)
	}
	return err
}

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/hearth-run/hearth/worker/driver/native"
)

// waysOn are the two ways on where no sandbox can be built.
const waysOn = "either run Hearth as root on a Linux host (5.14 or newer, amd64 or arm64) that has what is missing above; or choose " +
	"--driver process, for code that you trust: it isolates nothing, and refuses sub-tenants"

// sandbox says what driver native has here.
func (h *Host) sandbox(l *list) {
	n := &h.Native
	if !n.Supported {
		l.add("driver native", Missing, fmt.Sprintf("there is none for %s on %s", h.OS, h.Arch), waysOn)
		return
	}
	h.kernel(l)
	if n.Root {
		l.ok("root", "yes")
	} else {
		l.add("root", Missing, fmt.Sprintf("this process is user %d; mounts, cgroups and users take root", h.UID),
			"run it as root, as `sudo hearth …`, or as a systemd service without User=")
	}
	if n.Users != nil {
		l.add("users", Missing, n.Users.Error(), "run as root of the host, outside a user namespace")
	}
	h.fences(l)
	h.namespaces(l)
	h.cgroups(l)
	h.network(l)
	switch {
	case h.Proven && h.Sandbox == nil:
		l.ok("driver native", "a sandbox was built, and kept what it must: system calls are filtered, memory of sockets is charged")
	case Worst(l.all) == Missing:
		l.add("driver native", Missing, "no sandbox can be built: see what is missing above", waysOn)
	case h.Proven:
		found, _, _ := strings.Cut(h.Sandbox.Error(), "; run Hearth as root") // which is waysOn
		l.add("driver native", Missing, found, waysOn)
	default:
		l.add("driver native", Unknown, "no sandbox was built to see", "")
	}
}

func (h *Host) kernel(l *list) {
	major, minor, ok := kernelVersion(h.Kernel)
	switch {
	case !ok:
		l.add("kernel", Unknown, fmt.Sprintf("its version is not known (%q)", h.Kernel), leastKernel+" or newer is needed")
	case major < 5 || major == 5 && minor < 14:
		l.add("kernel", Missing, h.Kernel, leastKernel+" or newer is needed: update this host")
	default:
		l.ok("kernel", "%s", h.Kernel)
	}
}

// kernelVersion reads "6.18.44-generic".
func kernelVersion(release string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	second, _, _ = strings.Cut(second, "-")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return major, minor, err1 == nil && err2 == nil
}

// fences are what keeps a function from calls and files.
func (h *Host) fences(l *list) {
	n := &h.Native
	if n.Seccomp != nil {
		l.add("seccomp", Missing, "this kernel has none", "boot a kernel with CONFIG_SECCOMP_FILTER")
	} else {
		l.ok("seccomp", "yes")
	}
	switch {
	case n.Landlock == 0:
		l.add("landlock", Missing, "this kernel has none, or it is off", "boot with lsm=landlock,... (the others as /sys/kernel/security/lsm lists them) a kernel "+
			"with CONFIG_SECURITY_LANDLOCK")
	case n.Landlock < 6:
		l.add("landlock", OK, fmt.Sprintf("version %d; from 6 on (Linux 6.12) it is a second fence for signals and abstract sockets too", n.Landlock), "")
	default:
		l.ok("landlock", "version %d", n.Landlock)
	}
}

func (h *Host) namespaces(l *list) {
	n := &h.Native
	if n.Root {
		var refused []string
		var fix string
		for _, name := range native.NamespaceNames() {
			if err := n.Namespaces[name]; err != nil {
				refused = append(refused, fmt.Sprintf("%s (%s)", name, reason(err)))
				fix = namespaceFix(name, err)
			}
		}
		if len(refused) > 0 {
			l.add("namespaces", Missing, "refused: "+strings.Join(refused, ", "), fix)
		} else {
			l.ok("namespaces", "%s", strings.Join(native.NamespaceNames(), ", "))
		}
	}
	if n.UserSpaces != nil {
		l.ok("user namespaces", "refused (%s); the sandbox does without", reason(n.UserSpaces))
	} else {
		l.ok("user namespaces", "allowed; the sandbox does without")
	}
}

func namespaceFix(name string, err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		if name == "mount" {
			name = "mnt"
		}
		return fmt.Sprintf("allow more: `sysctl -w user.max_%s_namespaces=15000`", name)
	case errors.Is(err, syscall.EINVAL):
		return "boot a kernel with CONFIG_NAMESPACES and one for each kind"
	}
	return "this process lacks the capability CAP_SYS_ADMIN, as in a container: run it on the host, or with `docker run --privileged`"
}

func (h *Host) cgroups(l *list) {
	n := &h.Native
	if n.Cgroups == 0 {
		l.add("cgroups", Missing, "no hierarchy is mounted that this process is in", "`mount -t cgroup2 none /sys/fs/cgroup`, or run on a host that has it")
		return
	}
	version := fmt.Sprintf("version %d, below %s", n.Cgroups, n.Group)
	switch {
	case len(n.Controllers) > 0 && n.Cgroups == 1:
		l.add("cgroups", Missing, version+": not mounted: "+strings.Join(n.Controllers, ", "),
			fmt.Sprintf("`mkdir -p /sys/fs/cgroup/%[1]s && mount -t cgroup -o %[1]s none /sys/fs/cgroup/%[1]s`, and the same for others; or boot with version 2", n.Controllers[0]))
	case len(n.Controllers) > 0:
		l.add("cgroups", Missing, version+": not handed to this process's group: "+strings.Join(n.Controllers, ", "),
			"Delegate=yes in the systemd unit (`systemd-run -p Delegate=yes hearth …` to try); in a container its cgroups have to be writable")
	case n.Writable != nil:
		l.add("cgroups", Missing, version+": no group can be made there: "+reason(n.Writable), writableFix(n.Writable))
	default:
		l.ok("cgroups", "%s, with memory, cpu and pids", version)
	}
	switch {
	case n.Uncharged:
		l.add("socket memory", Missing, "the kernel does not charge a cgroup for it, so that a function could fill this host's memory",
			"boot without cgroup.memory=nosocket")
	case !n.Sockets:
		l.add("socket memory", Missing, "these cgroups have no limit for it (memory.kmem.tcp.limit_in_bytes)", "boot with cgroups of version 2 "+
			"(systemd.unified_cgroup_hierarchy=1), or a kernel with CONFIG_MEMCG_KMEM")
	default:
		l.ok("socket memory", "is charged to a function")
	}
	if !n.Swap {
		l.add("swap", Missing, "this host swaps, and its cgroups have no limit for that", "boot with swapaccount=1, or `swapoff -a`")
	} else {
		l.ok("swap", "is limited, or there is none")
	}
}

func writableFix(err error) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "/sys/fs/cgroup is mounted read-only, as in a container: run on the host, or with `docker run --privileged`"
	case errors.Is(err, fs.ErrPermission):
		return "this process may not write there: Delegate=yes in the systemd unit, and no ProtectControlGroups="
	}
	return "Delegate=yes in the systemd unit"
}

// network is what functions reach addresses by.
func (h *Host) network(l *list) {
	switch err := h.Native.Tun; {
	case err == nil:
		l.ok("network", "/dev/net/tun is there")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		l.add("network", Warning, "/dev/net/tun is not there: functions in the sandbox reach no network, whatever their egress policy says",
			"`modprobe tun`; in a container, `docker run --device /dev/net/tun`")
	default:
		l.add("network", Warning, "/dev/net/tun cannot be opened ("+reason(err)+"): functions in the sandbox reach no network, whatever their egress policy says",
			"run as root; in a container, `docker run --device /dev/net/tun`")
	}
}

package doctor_test

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/doctor"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/runtimes"
)

func TestMain(m *testing.M) {
	egress.Main()
	goleak.VerifyTestMain(m)
}

// good is a host on which nothing is missing.
func good() *doctor.Host {
	return &doctor.Host{
		OS: "linux", Arch: "amd64", Kernel: "6.18.44-generic", Distro: "debian", Cores: 2, Memory: 8 << 30, Files: 1 << 20, Folder: "/data",
		Disk: 50 << 30, Room: 64 << 20, Proven: true,
		Native: native.Host{
			Supported: true, Root: true, Landlock: 7, Namespaces: map[string]error{}, Cgroups: 2, Group: "/sys/fs/cgroup/hearth", Sockets: true, Swap: true,
		},
		Interpreters: []doctor.Interpreter{
			{Runtime: "nodejs", Found: runtimes.Interpreter{Path: "/usr/bin/node", Version: "20.20.2"}},
			{Runtime: "python", Found: runtimes.Interpreter{Path: "/usr/bin/python3", Version: "3.11.2"}},
		},
	}
}

func find(t *testing.T, all []doctor.Finding, check string) doctor.Finding {
	t.Helper()
	at := slices.IndexFunc(all, func(f doctor.Finding) bool { return f.Check == check })
	if at < 0 {
		t.Fatalf("nothing is said of %q: %+v", check, all)
	}
	return all[at]
}

func refused(err error) error { return &fs.PathError{Op: "open", Path: "/x", Err: err} }

// TestHost: each thing that a host may lack is said, with what to do, and nothing else is then.
func TestHost(t *testing.T) {
	t.Parallel()
	if all := good().Findings(deploy.DriverNative); doctor.Worst(all) != doctor.OK || slices.ContainsFunc(all, func(f doctor.Finding) bool { return f.State != doctor.OK }) {
		t.Fatalf("a good host: %+v", all)
	}
	lacks := func(change func(*native.Host)) func(*doctor.Host) { return func(h *doctor.Host) { change(&h.Native) } }
	for name, tt := range map[string]struct {
		change     func(*doctor.Host)
		check      string
		state      doctor.State
		found, fix string
	}{
		"memory is not known": {func(h *doctor.Host) { h.Memory = 0 }, "memory", doctor.Unknown, "not known", "--capacity"},
		"little memory":       {func(h *doctor.Host) { h.Memory = 200 << 20 }, "memory", doctor.Warning, "200 MiB is free: one place", "--capacity"},
		"a closed folder":     {func(h *doctor.Host) { h.Closed = refused(syscall.EACCES) }, "data folder", doctor.Missing, "/data cannot be used: permission denied", "--data"},
		"a disk of no size":   {func(h *doctor.Host) { h.Disk, h.Room = 0, 0 }, "data folder", doctor.Unknown, "not known", ""},
		"nothing free":        {func(h *doctor.Host) { h.Disk = 0 }, "data folder", doctor.Missing, "0 MiB free: events are refused below 64 MiB", "--data"},
		"a full disk":         {func(h *doctor.Host) { h.Disk = 10 << 20 }, "data folder", doctor.Missing, "10 MiB free: events are refused below 64 MiB", "--data"},
		"little disk":         {func(h *doctor.Host) { h.Disk = 500 << 20 }, "data folder", doctor.Warning, "500 MiB free", "--data"},
		"few descriptors":     {func(h *doctor.Host) { h.Files = 1024 }, "descriptors", doctor.Warning, "1024", "`ulimit -n 65536`, or LimitNOFILE=65536"},

		"another system":    {func(h *doctor.Host) { h.OS, h.Arch, h.Native = "darwin", "arm64", native.Host{} }, "driver native", doctor.Missing, "none for darwin on arm64", "--driver process"},
		"an old kernel":     {func(h *doctor.Host) { h.Kernel = "5.4.0-150" }, "kernel", doctor.Missing, "5.4.0-150", "5.14 or newer"},
		"a kernel 5.13":     {func(h *doctor.Host) { h.Kernel = "5.13" }, "kernel", doctor.Missing, "5.13", "5.14 or newer"},
		"no version":        {func(h *doctor.Host) { h.Kernel = "" }, "kernel", doctor.Unknown, "not known", "5.14"},
		"not root":          {func(h *doctor.Host) { h.UID, h.Native.Root, h.Proven = 1000, false, false }, "root", doctor.Missing, "user 1000", "`sudo hearth"},
		"no uids":           {lacks(func(n *native.Host) { n.Users = errors.New("root of a user namespace that lacks the uids") }), "users", doctor.Missing, "lacks the uids", "outside a user namespace"},
		"no seccomp":        {lacks(func(n *native.Host) { n.Seccomp = syscall.EINVAL }), "seccomp", doctor.Missing, "none", "CONFIG_SECCOMP_FILTER"},
		"no landlock":       {lacks(func(n *native.Host) { n.Landlock = 0 }), "landlock", doctor.Missing, "none", "lsm=landlock"},
		"an older landlock": {lacks(func(n *native.Host) { n.Landlock = 3 }), "landlock", doctor.OK, "version 3; from 6 on (Linux 6.12)", ""},
		"a container": {lacks(func(n *native.Host) { n.Namespaces = map[string]error{"mount": syscall.EPERM, "net": syscall.EPERM} }), "namespaces",
			doctor.Missing, "refused: mount (operation not permitted), net (operation not permitted)", "--privileged"},
		"no more mounts":     {lacks(func(n *native.Host) { n.Namespaces = map[string]error{"mount": syscall.ENOSPC} }), "namespaces", doctor.Missing, "mount", "`sysctl -w user.max_mnt_namespaces=15000`"},
		"no more nets":       {lacks(func(n *native.Host) { n.Namespaces = map[string]error{"net": syscall.ENOSPC} }), "namespaces", doctor.Missing, "net", "user.max_net_namespaces"},
		"a bare kernel":      {lacks(func(n *native.Host) { n.Namespaces = map[string]error{"cgroup": syscall.EINVAL} }), "namespaces", doctor.Missing, "cgroup", "CONFIG_NAMESPACES"},
		"no user spaces":     {lacks(func(n *native.Host) { n.UserSpaces = syscall.EPERM }), "user namespaces", doctor.OK, "refused (operation not permitted); the sandbox does without", ""},
		"no cgroups":         {lacks(func(n *native.Host) { n.Cgroups = 0 }), "cgroups", doctor.Missing, "no hierarchy", "`mount -t cgroup2 none /sys/fs/cgroup`"},
		"not delegated":      {lacks(func(n *native.Host) { n.Controllers = []string{"memory", "pids"} }), "cgroups", doctor.Missing, "version 2, below /sys/fs/cgroup/hearth: not handed to this process's group: memory, pids", "Delegate=yes"},
		"not mounted":        {lacks(func(n *native.Host) { n.Cgroups, n.Controllers = 1, []string{"pids"} }), "cgroups", doctor.Missing, "not mounted: pids", "mount -t cgroup -o pids none /sys/fs/cgroup/pids"},
		"read-only groups":   {lacks(func(n *native.Host) { n.Writable = refused(syscall.EROFS) }), "cgroups", doctor.Missing, "no group can be made there: read-only", "--privileged"},
		"closed groups":      {lacks(func(n *native.Host) { n.Writable = refused(syscall.EACCES) }), "cgroups", doctor.Missing, "permission denied", "ProtectControlGroups="},
		"strange groups":     {lacks(func(n *native.Host) { n.Writable = refused(syscall.EIO) }), "cgroups", doctor.Missing, "input/output error", "Delegate=yes"},
		"no socket limit":    {lacks(func(n *native.Host) { n.Sockets = false }), "socket memory", doctor.Missing, "no limit", "unified_cgroup_hierarchy=1"},
		"not charged":        {lacks(func(n *native.Host) { n.Uncharged = true }), "socket memory", doctor.Missing, "does not charge", "without cgroup.memory=nosocket"},
		"swap":               {lacks(func(n *native.Host) { n.Swap = false }), "swap", doctor.Missing, "this host swaps", "swapaccount=1"},
		"no tun":             {lacks(func(n *native.Host) { n.Tun = refused(syscall.ENOENT) }), "network", doctor.Warning, "not there", "`modprobe tun`"},
		"tun without module": {lacks(func(n *native.Host) { n.Tun = refused(syscall.ENODEV) }), "network", doctor.Warning, "not there", "`modprobe tun`"},
		"closed tun":         {lacks(func(n *native.Host) { n.Tun = refused(syscall.EPERM) }), "network", doctor.Warning, "cannot be opened (operation not permitted)", "--device /dev/net/tun"},
		"no proof": {func(h *doctor.Host) {
			h.Sandbox = errors.New("the sandbox cannot be built here: make a namespace: EPERM; run Hearth as root on Linux")
		}, "driver native", doctor.Missing, "cannot be built here: make a namespace: EPERM", "--driver process"},
		"nothing was tried": {func(h *doctor.Host) { h.Proven = false }, "driver native", doctor.Unknown, "no sandbox was built", ""},

		"no node": {func(h *doctor.Host) { h.Interpreters[0].Err = errors.New("runtime nodejs needs node 18") }, "nodejs", doctor.Warning, "needs node 18",
			"`apt-get install nodejs`; where that is older, install Node.js 18 or newer and have it on the PATH of the worker"},
		"no python on Fedora": {func(h *doctor.Host) { h.Distro, h.Interpreters[1].Err = "fedora", errors.New("none") }, "python", doctor.Warning, "none", "`dnf install python3`"},
		"no node on macOS":    {func(h *doctor.Host) { h.OS, h.Interpreters[0].Err = "darwin", errors.New("none") }, "nodejs", doctor.Warning, "none", "`brew install node`"},
		"no python elsewhere": {func(h *doctor.Host) { h.Distro, h.Interpreters[1].Err = "", errors.New("none") }, "python", doctor.Warning, "none", "install Python 3.8 or newer"},
	} {
		h := good()
		tt.change(h)
		all := h.Findings(deploy.DriverNative)
		if got := find(t, all, tt.check); got.State != tt.state || !strings.Contains(got.Found, tt.found) || !strings.Contains(got.Fix, tt.fix) {
			t.Errorf("%s: %+v; want %s, found %q, fix %q", name, got, tt.state, tt.found, tt.fix)
		}
		for _, f := range all {
			others := f.Check != tt.check && f.Check != "driver native" && !(name == "not root" && f.Check == "namespaces")
			if others && f.State != doctor.OK {
				t.Errorf("%s: also %+v", name, f)
			}
			if f.State == doctor.Missing && f.Fix == "" {
				t.Errorf("%s: nothing is said to be done: %+v", name, f)
			}
		}
		// For who wants another driver nothing of the sandbox is missing.
		for _, f := range h.Findings(deploy.DriverProcess) {
			if f.Area == doctor.AreaSandbox && f.State == doctor.Missing {
				t.Errorf("%s, driver process: %+v", name, f)
			}
		}
	}
	h := good()
	h.Native.Root, h.Proven, h.UID = false, false, 1000
	if got := find(t, h.Findings(deploy.DriverNative), "driver native"); got.State != doctor.Missing || !strings.Contains(got.Found, "see what is missing above") {
		t.Errorf("not root: %+v", got)
	}
}

// TestLookAtHost looks at the real host once: as root the sandbox is built, as the tests of the driver do.
func TestLookAtHost(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	h, err := doctor.LookAtHost(t.Context(), doctor.HostConfig{Folder: folder + "/not/there/yet", Path: os.Getenv("PATH")})
	if err != nil {
		t.Fatal(err)
	}
	if h.Closed != nil || h.Disk == 0 || h.Kernel == "" || h.Cores < 1 || len(h.Interpreters) != 2 || h.Proven != (h.Native.Supported && h.Native.Root) {
		t.Errorf("%+v", h)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
		t.Errorf("the data folder was made: %v, %v", entries, err)
	}
	if got := find(t, h.Findings(deploy.DriverNative), "driver native"); os.Getenv("CI") == "true" && os.Geteuid() == 0 && got.State != doctor.OK {
		t.Errorf("CI=true, and %+v", got)
	}
	if err := os.WriteFile(folder+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = doctor.LookAtHost(t.Context(), doctor.HostConfig{Folder: folder + "/file/below"}); err != nil || h.Closed == nil {
		t.Errorf("a folder below a file: %v, %v", h.Closed, err)
	}
}

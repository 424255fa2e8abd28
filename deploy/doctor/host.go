package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/runtimes"
)

// Host is what was seen of this host. Amounts are bytes, 0 where they are not known.
type Host struct {
	OS, Arch string
	Kernel   string // release, "" where it is not known
	Distro   string // id of its family, as "debian", "fedora", "alpine", "arch"; "" for others
	UID      int

	Cores  int
	Memory int64  // that is free
	Files  uint64 // descriptors that a process may have at most
	Folder string // where data goes
	Disk   uint64 // that is free there
	Room   uint64 // least that streams are written with; 0: neither is known
	Closed error  // the folder cannot be made or written to

	Native  native.Host
	Sandbox error // why none was built and proven; nil: one was
	Proven  bool  // it was tried

	Interpreters []Interpreter
}

// Interpreter is what one runtime of managed languages would be run by.
type Interpreter struct {
	Runtime string
	Found   runtimes.Interpreter
	Err     error // there is none
}

// What a host should have.
const (
	leastKernel = "5.14"
	leastMemory = 4 * schema.PlaceMB << 20
	leastFiles  = 4096
	warnDisk    = 1 << 30
)

// Findings judges a host for functions under a driver: what only the sandbox takes is missing for [deploy.DriverNative], and else
// worth a warning.
func (h *Host) Findings(driver string) []Finding {
	host := &list{area: AreaHost}
	h.system(host)
	sandbox := &list{area: AreaSandbox}
	h.sandbox(sandbox)
	if driver != deploy.DriverNative {
		for i := range sandbox.all {
			if sandbox.all[i].State == Missing {
				sandbox.all[i].State = Warning
			}
		}
	}
	langs := &list{area: AreaRuntimes}
	h.runtimes(langs)
	return slices.Concat(host.all, sandbox.all, langs.all)
}

func (h *Host) system(l *list) {
	l.ok("system", "%s", strings.TrimSpace(h.OS+" "+h.Kernel+" "+h.Arch))
	l.ok("cores", "%d", h.Cores)
	switch free := uint64(max(0, h.Memory)); {
	case free == 0:
		l.add("memory", Unknown, "how much is free is not known", "name the places of a node with --capacity")
	case free < leastMemory:
		l.add("memory", Warning, fmt.Sprintf("%s is free: %s of %d MB", bytesText(free), placesText(free), schema.PlaceMB),
			"free some, or say with --capacity how many places there are")
	default:
		l.ok("memory", "%s is free: %s of %d MB", bytesText(free), placesText(free), schema.PlaceMB)
	}
	switch {
	case h.Closed != nil:
		l.add("data folder", Missing, fmt.Sprintf("%s cannot be used: %s", h.Folder, reason(h.Closed)), "name another with --data")
	case h.Room == 0:
		l.add("data folder", Unknown, h.Folder+": how much is free is not known", "")
	case h.Disk < h.Room:
		l.add("data folder", Missing, fmt.Sprintf("%s has %s free: events are refused below %s", h.Folder, bytesText(h.Disk), bytesText(h.Room)),
			"free some, or name a folder on another disk with --data")
	case h.Disk < warnDisk:
		l.add("data folder", Warning, fmt.Sprintf("%s has %s free", h.Folder, bytesText(h.Disk)), "free some, or name a folder on another disk with --data")
	default:
		l.ok("data folder", "%s has %s free", h.Folder, bytesText(h.Disk))
	}
	switch {
	case h.Files == 0:
	case h.Files < leastFiles:
		l.add("descriptors", Warning, fmt.Sprintf("a process may have %d", h.Files), fmt.Sprintf("`ulimit -n %d`, or LimitNOFILE=%[1]d in the unit", 1<<16))
	default:
		l.ok("descriptors", "a process may have %d", h.Files)
	}
}

func placesText(free uint64) string {
	places := int(free / 4 * 3 / (schema.PlaceMB << 20))
	if places == 1 {
		return "one place"
	}
	return strconv.Itoa(max(1, places)) + " places"
}

// runtimes says what functions can be written in.
func (h *Host) runtimes(l *list) {
	l.ok("provided", "any executable that speaks the Lambda Runtime API")
	for _, i := range h.Interpreters {
		if i.Err != nil {
			l.add(i.Runtime, Warning, i.Err.Error(), h.install(i.Runtime))
			continue
		}
		l.ok(i.Runtime, "%s, version %s", i.Found.Path, i.Found.Version)
	}
}

// packages are how the interpreter of a language gets onto a host, by family.
var packages = map[string]map[string]string{
	"nodejs": {
		"debian": "apt-get install nodejs", "fedora": "dnf install nodejs", "alpine": "apk add nodejs", "arch": "pacman -S nodejs",
		"suse": "zypper install nodejs", "darwin": "brew install node", "": "install Node.js 18 or newer",
	},
	"python": {
		"debian": "apt-get install python3", "fedora": "dnf install python3", "alpine": "apk add python3", "arch": "pacman -S python",
		"suse": "zypper install python3", "darwin": "brew install python3", "": "install Python 3.8 or newer",
	},
}

// install says how to get what a runtime needs; where the package of the family is too old, the other way.
func (h *Host) install(runtime string) string {
	for language, by := range packages {
		if strings.HasPrefix(runtime, language) {
			own := by[h.family()]
			if own == "" {
				return by[""]
			}
			return fmt.Sprintf("`%s`; where that is older, %s and have it on the PATH of the worker", own, by[""])
		}
	}
	return "have it on the PATH of the worker"
}

func (h *Host) family() string {
	if h.OS == "darwin" {
		return h.OS
	}
	return h.Distro
}

//go:build amd64 || arm64

package hostile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe is one attempt.
type Probe struct {
	Name     string // area/what
	Want     string // outcome in the sandbox
	Controls []Control
	try      func(*Facts) error
}

// Public is the outcome in the sandbox of a function whose egress policy is public. Want is that of one which reaches nothing.
func (p Probe) Public() string {
	if outcome, ok := public[p.Name]; ok {
		return outcome
	}
	return p.Want
}

// Control is a place in which a probe gets further.
type Control struct {
	Off  Fence
	Then string // its outcome there, or several that are as good, with | between them; "" means Done
}

// Done is the outcome of a probe that got what it wanted. A system call's refusal is named as in C ("EPERM").
const Done = "done"

// Fence is one protection of the sandbox, or several.
type Fence uint32

// Fences.
const (
	Filter     Fence = 1 << iota // seccomp
	Rights                       // another user than root, without capabilities and without ways to get any
	NewRights                    // a program that is executed brings none
	Landlock                     // the second fence around files
	ReadOnly                     // mounts of the tree and of code
	NoSUID                       // of the same
	SysFiles                     // /proc is read-only
	Masks                        // entries of /proc
	HidePID                      // others' processes in /proc
	CgroupView                   // a cgroup namespace
	Resources                    // limits that the process itself has
	Sandbox                      // all: a bare process under the uid of an environment
	Ownership                    // with Sandbox: files of others may be read by it
)

func off(f Fence, then ...string) Control { return Control{f, strings.Join(then, "|")} }

// Met tells whether an outcome is the one that was expected.
func Met(outcome, want string) bool {
	if want == "" {
		want = Done
	}
	return slices.Contains(strings.Split(want, "|"), outcome)
}

// Facts are what a guest is told of the world outside, to reach for it.
type Facts struct {
	Victim    int    // a process outside
	Folder    string // that root alone may enter
	Planted   string // a file that everybody may read
	Neighbour string // one that another environment wrote
	TCP       string // addresses that somebody listens at
	TCP6      string
	LAN       string
	LAN6      string
	Metadata  string
	UDP       string // one that datagrams can be sent to
	Abstract  string // name of an abstract socket
	Shared    int    // key of shared memory
	Setuid    string // a program of root's with the bit, which tells who runs it
	Task      string // folder of the code
}

// Result is what one probe met.
type Result struct{ Name, Outcome string }

// found is an outcome that is no error of the kernel.
type found string

func (f found) Error() string { return string(f) }

// argument is the first one of a guest; its role follows.
const argument = "hostile-guest"

// Arguments make this binary a guest that tries probes by their names.
func Arguments(f Facts, names ...string) []string {
	b, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("hostile: facts do not encode: %v", err)) // strings and numbers
	}
	return append([]string{argument, "try", string(b)}, names...)
}

// Main becomes the guest where the arguments ask for it, and never returns then.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != argument {
		return
	}
	syscall.Exit(play(os.Args[2], os.Args[3:]))
}

// play does what the binary was run for, and gives the exit status.
func play(role string, arguments []string) int {
	switch {
	case role == "who":
		fmt.Println(os.Geteuid())
		return 0
	case role == "nothing":
		return 0
	case role == "wait":
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is gone
		return 0
	case role == "foreign":
		return foreign()
	}
	// What was above does nothing to anybody.
	if reason := Refuses(); reason != "" {
		fmt.Fprintln(os.Stderr, "hostile:", reason)
		return 3
	}
	if role == "try" && len(arguments) > 0 {
		return try(arguments[0], arguments[1:])
	}
	return attack(role, arguments)
}

// Refuses tells why the guest does not run here: "" where it may. Root is let in where everything says that this is a sandbox
// of ours: the second process of its namespace, behind the shim, on a tree that has the shim and no home of root's.
func Refuses() string {
	if os.Geteuid() != 0 && os.Getuid() != 0 {
		return ""
	}
	var name unix.Utsname
	_, errInit := os.Stat("/init")
	_, errRoot := os.Stat("/root")
	if unix.Uname(&name) != nil || unix.ByteSliceToString(name.Nodename[:]) != "environment" || os.Getppid() != 1 || errInit != nil || errRoot == nil {
		return "this is root, and no sandbox"
	}
	return ""
}

// Try runs probes one after the other, each on a thread of its own, which ends with it.
func Try(facts *Facts, names []string, tell func(Result)) {
	for _, p := range Probes() {
		if !slices.Contains(names, p.Name) {
			continue
		}
		outcome := make(chan string)
		go func() { // awaited below
			runtime.LockOSThread() // and never unlocked: what it did to itself goes with it
			outcome <- describe(p.try(facts))
		}()
		tell(Result{p.Name, <-outcome})
	}
}

// try is the role that answers on standard output.
func try(told string, names []string) int {
	var facts Facts
	if err := json.Unmarshal([]byte(told), &facts); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	Try(&facts, names, func(r Result) { _ = out.Encode(r) })
	return 0
}

// Read finds results among what a guest wrote.
func Read(output string) map[string]string {
	results := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(output)); lines.Scan(); {
		var r Result
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.Name != "" {
			results[r.Name] = r.Outcome
		}
	}
	return results
}

func describe(err error) string {
	var errno syscall.Errno
	var what found
	switch {
	case err == nil:
		return Done
	case errors.As(err, &what):
		return string(what)
	case errors.As(err, &errno):
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	return err.Error()
}

// Probes are all of them.
func Probes() []Probe {
	return slices.Concat(fileProbes(), procProbes(), processProbes(), namespaceProbes(), mountProbes(), rightsProbes(), kernelProbes(),
		kernelProbesArch(), socketProbes(), networkProbes(), limitProbes())
}

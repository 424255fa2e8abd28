package drivertest

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// LeashVariable names, in a guest's environment, the address of the host that it reports to instead of the one of its
// Runtime API: for tests in which the worker that serves that API dies.
const LeashVariable = "DRIVERTEST_LEASH"

// guestArgument is the first argument of a guest; its role follows.
const guestArgument = "drivertest-guest"

// Roles of guests.
const (
	RoleMain   = "main"   // what the environment was started with
	RoleChild  = "child"  // its child, in its session
	RoleDaemon = "daemon" // in a session of its own, its parent gone
	roleForker = "forker" // starts a daemon and exits
)

// Report is what a guest sees.
type Report struct {
	Role        string
	Arguments   []string // after the role
	Variables   []string
	Dir         string
	UID, GID    int
	Groups      []int
	Descriptors []int // open ones but the connection, where the system tells (Linux)
	Input       int   // bytes on stdin
	Scratch     string
}

// Guest becomes a guest where the arguments of the program ask for one, and never returns then. It must stand in TestMain,
// before everything but what the driver needs there.
func Guest() {
	if len(os.Args) < 3 || os.Args[1] != guestArgument {
		return
	}
	if os.Args[2] == roleForker {
		if err := startGuest(RoleDaemon, true); err != nil {
			fmt.Fprintln(os.Stderr, "forker:", err)
			syscall.Exit(90)
		}
		syscall.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "guest:", live(os.Args[2], os.Args[3:]))
	syscall.Exit(91)
}

// live reports and obeys, and returns only what went wrong. It goes on for ever when the connection ends: a test that sees
// it end has seen the process end.
func live(role string, arguments []string) error {
	report, err := look(role, arguments)
	if err != nil {
		return err
	}
	host, err := net.Dial("tcp", cmp.Or(os.Getenv(LeashVariable), os.Getenv("AWS_LAMBDA_RUNTIME_API")))
	if err != nil {
		return err
	}
	if err := json.NewEncoder(host).Encode(report); err != nil {
		return err
	}
	for lines := bufio.NewScanner(host); lines.Scan(); {
		if err := obey(strings.Fields(lines.Text())); err != nil {
			return err
		}
	}
	select {}
}

func look(role string, arguments []string) (*Report, error) {
	r := &Report{Role: role, Arguments: arguments, Variables: os.Environ(), UID: os.Getuid(), GID: os.Getgid(), Scratch: os.Getenv("TMPDIR")}
	// Before anything else is opened; the folder itself is among them, as the last.
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, entry := range entries {
			if fd, err := strconv.Atoi(entry.Name()); err == nil && inherited(fd) {
				r.Descriptors = append(r.Descriptors, fd)
			}
		}
	}
	var err error
	if r.Dir, err = os.Getwd(); err != nil {
		return nil, err
	}
	if r.Groups, err = os.Getgroups(); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(os.Stdin)
	r.Input = len(b)
	return r, err
}

// inherited tells a descriptor that the process was started with from those that Go opened, which close at exec.
func inherited(fd int) bool {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return errno == 0 && flags&syscall.FD_CLOEXEC == 0
}

// obey does what one line of the host says.
func obey(words []string) error {
	switch verb, argument := words[0], strings.Join(words[1:], " "); verb {
	case "exit":
		code, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		syscall.Exit(code)
	case "raise":
		number, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		defaultAction(number)
		if err := syscall.Kill(os.Getpid(), syscall.Signal(number)); err != nil {
			return err
		}
		select {}
	case "say":
		fmt.Fprintln(os.Stdout, argument)
	case "complain":
		fmt.Fprintln(os.Stderr, argument)
	case "fill":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write([]byte(strings.Repeat("x", n-1) + "\n"))
		return err
	case "write":
		return os.WriteFile(os.Getenv("TMPDIR")+"/"+argument, []byte(argument), 0o600)
	case "lacks":
		if _, err := os.Stat(os.Getenv("TMPDIR") + "/" + argument); !os.IsNotExist(err) {
			return fmt.Errorf("%s: %w", argument, err)
		}
	case RoleChild:
		return startGuest(RoleChild, false)
	case RoleDaemon:
		return startGuest(roleForker, true)
	default:
		return fmt.Errorf("cannot %q", verb)
	}
	return nil
}

// startGuest starts another guest that holds on to this one's output.
func startGuest(role string, session bool) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, guestArgument, role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	if err := cmd.Start(); err != nil {
		return err
	}
	if role == roleForker {
		return cmd.Wait()
	}
	return nil
}

// sorted is a copy in order.
func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

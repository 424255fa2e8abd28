package unpack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver/uids"
)

// childArgument is the first argument of the worker's program when it runs again to unpack a package. A uid, bytes of memory and
// seconds of processor time follow; stdin is the zip, the folder it is started in the one to fill, stdout takes its answer.
const childArgument = "hearth-unpack"

// What a child may use. Memory is what its heap and data grow by (RLIMIT_DATA); a zip's directory takes some 40 MB at most.
const (
	childMemory    = 192 << 20
	childProcessor = 60 * time.Second
	childFiles     = 64
	childThreads   = 1024    // all of its user, who is nobody else; Go's are a few for each core
	childAnswer    = 8 << 10 // bytes
)

// Main becomes a child that unpacks, where the arguments of the program ask for one, and never returns then; otherwise it does
// nothing. It must stand at the beginning of main, and of TestMain in tests that unpack as root.
func Main() {
	if !runAgain() {
		return
	}
	// syscall.Exit: under the race detector os.Exit waits for a second.
	if err := child(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// runAgain tells whether this program was started to be a child.
func runAgain() bool { return len(os.Args) > 1 && os.Args[1] == childArgument }

// verdict is what a child answers: nothing where it has unpacked, why the package is refused, or what went wrong.
type verdict struct {
	Done    bool   `json:"done"`
	Refused string `json:"refused,omitempty"`
	Failed  string `json:"failed,omitempty"`
	Errno   int    `json:"errno,omitempty"` // of what went wrong
}

// extractApart unpacks in a child of this process that has a user of its own, no rights, sees the folder and the zip alone, and
// may use so much. What it leaves in the folder is a stranger's, to be looked at.
func (c *Cache) extractApart(ctx context.Context, zip, at string) error {
	// Held while the child lives: no environment has its user then.
	users, err := uids.Claim(c.cfg.Locks)
	if err != nil {
		return fmt.Errorf("a user to unpack as: %w", err)
	}
	defer users.Lock.Close()
	uid, err := users.Take()
	if err != nil {
		return fmt.Errorf("a user to unpack as: %w", err)
	}
	if err := os.Mkdir(at, makingMode); err != nil {
		return err
	}
	if err := os.Chown(at, int(uid), int(uid)); err != nil {
		return err
	}
	// Its own description: the worker's may write.
	file, err := os.Open(zip)
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", childArgument, strconv.FormatUint(uint64(uid), 10),
		strconv.FormatInt(c.limits.memory, 10), strconv.Itoa(int(c.limits.processor/time.Second)))
	var said, complaint limited
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = at, []string{}, file, &said, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	// The kernel sends that signal when the thread ends that forked (golang/go#27505): this one stays until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What this program inherited itself, from a shell for instance, goes no further.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	err = cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.judge(cmd.ProcessState, err, &said, &complaint)
}

// judge says what became of a child that has ended.
func (c *Cache) judge(state *os.ProcessState, err error, said, complaint *limited) error {
	var v verdict
	if json.Unmarshal(said.Bytes(), &v) == nil && err == nil {
		switch {
		case v.Done:
			return nil
		case v.Refused != "":
			return schema.Errorf(schema.CodeInvalidParameter, "%s", tame(v.Refused))
		case v.Failed != "" && v.Errno != 0:
			return fmt.Errorf("%s: %w", tame(v.Failed), syscall.Errno(v.Errno))
		case v.Failed != "":
			return errors.New(tame(v.Failed))
		}
	}
	if state == nil {
		return fmt.Errorf("start the child that unpacks: %w", err)
	}
	last := complaint.String()
	switch {
	case strings.Contains(last, "out of memory") || strings.Contains(last, "cannot allocate memory") || strings.Contains(last, "create new OS thread"):
		return refuse("reading it takes more than %d MB of memory", c.limits.memory>>20)
	case state.UserTime()+state.SystemTime() >= c.limits.processor:
		return refuse("unpacking it takes more than %s of processor time", c.limits.processor)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		switch signal := status.Signal(); signal {
		case syscall.SIGKILL:
			// Not by its own limits: those fail calls. It may go better another time, so the package is not refused for ever.
			return schema.Errorf(schema.CodeUnavailable, refusal+"what unpacks it was killed, as the kernel does on a host without memory: the "+
				"package may be too large to unpack here; give the host more memory, or make the package smaller")
		case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT, syscall.SIGILL, syscall.SIGTRAP:
			// A Go program that finds no memory for a stack ends so, without a word; and whatever else it is, the package makes it.
			return refuse("what unpacks it ends by %q, as it does without memory: it is too large to be read in %d MB", signal, c.limits.memory>>20)
		}
	}
	first, _, _ := strings.Cut(last, "\n")
	return fmt.Errorf("the child that unpacks ended without an answer (does the program call unpack.Main first?): %s %s",
		cmp.Or(fmt.Sprint(err), state.String()), tame(first))
}

// tame keeps what a child says, which a package may have made say anything, within one short line.
func tame(text string) string {
	const most = 4 << 10
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(text[:min(len(text), most)], "?"))
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := childAnswer - l.Len(); room > 0 {
		_, _ = l.Buffer.Write(p[:min(len(p), room)]) // a buffer takes all
	}
	return len(p), nil
}

// child is the other half of extractApart.
func child(args []string) error {
	numbers := make([]int64, 3)
	if len(args) != len(numbers) {
		return errors.New("arguments: uid, memory, processor time")
	}
	for i, arg := range args {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	// For ever: threads that begin later are of the one that had the filter installed.
	runtime.LockOSThread()
	if err := confine(uint32(numbers[0]), uint64(numbers[1]), uint64(numbers[2])); err != nil {
		return fmt.Errorf("give up all rights: %w", err)
	}
	v := verdict{Done: true}
	if err := unpackHere(os.Stdin); err != nil {
		v = verdict{Failed: err.Error()}
		var coded *schema.Error
		var errno syscall.Errno
		switch {
		case errors.As(err, &coded) && coded.Code == schema.CodeInvalidParameter:
			v = verdict{Refused: coded.Message}
		case errors.As(err, &errno):
			v.Errno = int(errno)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}

// unpackHere unpacks into the root, which is the folder to fill.
func unpackHere(zip *os.File) error {
	info, err := zip.Stat()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot("/")
	if err != nil {
		return err
	}
	defer root.Close()
	return extract(context.Background(), io.ReaderAt(zip), info.Size(), root)
}

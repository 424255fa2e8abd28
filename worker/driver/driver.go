// Package driver is what a worker asks of the thing that isolates an environment: a bare process, a sandbox, or nothing
// at all for measuring. Everything about calls (Runtime API, time-outs, logs, limits on bodies) stands above it, once.
// DESIGN 8.
package driver

import (
	"context"
	"io"
	"net"
	"time"
)

// Driver makes environments on this host. It is safe for concurrent use.
type Driver interface {
	// Name is the driver's name on the command line: process, null, native.
	Name() string
	// Probe reports what this host lets the driver enforce, or an error with what is missing.
	Probe(ctx context.Context) (Abilities, error)
	// New makes an environment that holds nothing of any account yet.
	New(ctx context.Context, spec Spec) (Environment, error)
	// Close ends what is left and waits. No environment outlives it.
	Close() error
}

// Abilities is what a driver enforces on this host.
type Abilities struct {
	Tenants bool     // may hold code of mutually hostile sub-tenants
	Limits  bool     // memory, processes and CPU are bounded
	Notes   []string // what is not enforced, one line each, for people
	Remarks []string // what else of this host functions notice, the same
}

// Spec is what an environment is made with before it is bound.
type Spec struct {
	ID          string
	MemoryMB    int
	TemporaryMB int // of /tmp, where that is the environment's own; 0 means 512
}

// Command is what an environment runs once it is bound: the function's code and how to start it.
type Command struct {
	Path string   // executable
	Args []string // without the path
	Dir  string   // host's path of the unpacked package, read-only, where the command is started: /var/task
	Env  []string // NAME=VALUE, the whole environment: nothing is inherited

	// Runtime is the host's path of the runtime's own folder, read-only: /var/runtime. "" means that it has none.
	Runtime string

	// Network is what it may reach; nil: nothing, where the driver can hold it to that.
	Network *Network
}

// Rooted is the rare ability of a driver whose environments have a tree of their own: Path, Args and Env of a command name
// places in it, while Dir and Runtime, which are the host's, are seen there.
type Rooted interface {
	TaskDir() string    // where an environment sees Command.Dir
	RuntimeDir() string // where it sees Command.Runtime
}

// Environment is one isolated place. Methods are safe for concurrent use.
type Environment interface {
	// Listener is the Runtime API's socket as the function sees it; the worker serves it. The driver closes it at the end.
	Listener() net.Listener
	// APIAddress is the value of AWS_LAMBDA_RUNTIME_API inside.
	APIAddress() string
	// Start runs the command, once. Output receives stdout and stderr, until they end, one Write at a time.
	Start(ctx context.Context, cmd Command, output io.Writer) error
	// Kill ends everything inside, at once. Safe twice and before Start.
	Kill()
	// Done is closed when everything inside has ended and its resources are free.
	Done() <-chan struct{}
	// Exit tells how it ended; valid after Done.
	Exit() Exit
}

// Drainer is the rare ability of an environment to hand over at once what its processes have written until now, so that
// output is known to be of the call that ends, and not of the next one.
type Drainer interface {
	// Drain gives output what is on its way, at most what a pipe holds, and returns. It never waits for more.
	Drain()
}

// Terminator is the rare ability of an environment to ask its main process to end by itself.
type Terminator interface {
	// Terminate sends it SIGTERM, thawed if need be, and returns; where nothing runs it does nothing. Whoever cannot wait for
	// ever kills later.
	Terminate()
}

// Freezer is the rare ability of an environment to stop all that runs in it, and to let it go on.
type Freezer interface {
	// Freeze returns when what is inside has been told to stop, or to go on. Killing needs no thaw before.
	Freeze(on bool) error
}

// Meter is the rare ability of an environment to tell how much memory it took at most.
type Meter interface {
	// Peak is the most bytes that were charged to the environment at once since it was made: its processes, what lies in /tmp, and
	// what the kernel holds for it. An error says that this host does not tell.
	Peak() (int64, error)
}

// Stocker is the rare ability of a driver to keep empty environments ready.
type Stocker interface {
	// Stock takes a look.
	Stock() Stock
}

// Stock is what a driver keeps ready, and how often that was of use since it was made.
type Stock struct {
	Ready     int    // empty environments now
	Built     uint64 // for the stock
	Taken     uint64 // environments that found one
	Missed    uint64 // environments for which one was built while they waited
	Discarded uint64 // ended unused: more than demand wanted, or dead
}

// Exit is how an environment's main process ended.
type Exit struct {
	Started     bool // there was a process
	Code        int  // exit status, -1 if a signal ended it
	Signal      string
	CoreDumped  bool
	OutOfMemory bool
	Killed      bool // by Kill
	Lived       time.Duration
}

// Inline is an environment that answers by itself, with no Runtime API: for measuring what the fabric alone costs.
type Inline interface {
	Invoke(payload []byte) []byte
}

// Charged is the rare ability of a driver to tell what its environments take together.
type Charged interface {
	// Charged is the bytes of memory that are charged to all environments now, and the processor time that they have taken since the
	// driver was made, those that have gone too; -1 where only the memory is told. An error says that this host does not tell.
	Charged() (memory int64, processor time.Duration, err error)
}

package events

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// ErrMissed is what [Runner.Begin] says where it would have to ask KV for a name: [Runner.BeginAfter] does.
var ErrMissed = errors.New("not known here")

// MaxStartBy is how long a try may wait for an environment: less than [AckWait], so that the unstarted call of a poller that
// died can start no more when its event is given to the next one.
const MaxStartBy = 4 * time.Second

// Runner is the frontend: the sync path, through which every event runs, and what it knows of the fabric. Its methods are
// safe for concurrent use.
type Runner interface {
	// Begin puts a try on its way and does not wait: an error means that it did not start and that Done will not be called.
	Begin(t *Try) error
	// BeginAfter is Begin for a try that has to wait first: for a read of KV, or, if t.Ask is set, for a manager that runs it
	// already, which is then joined.
	BeginAfter(ctx context.Context, t *Try) error
	// ReadHeaders reads what callers may say in headers, by the rules of sync calls.
	ReadHeaders(r *schema.Request, h nats.Header) error
	// Function is the record of a function as calls see it here; it does not wait. The record is read only.
	Function(account, name string) (*schema.FunctionRecord, uint64, bool)
	// Lookup is Function that asks KV for what is missed. Its error says that nobody could be asked.
	Lookup(ctx context.Context, account, name string) (known bool, err error)
	// Refused hears of an event that cannot run as it is and becomes a dead letter, for whoever asks by its id what became of it. It is
	// read only, and not after the return.
	Refused(e *schema.Event)
	// Places is the capacity of all managers, 0 if nobody serves.
	Places() int
	// Frontends is how many frontends live, this one included.
	Frontends() int
}

// Try is one run of an event.
type Try struct {
	Request *schema.Request
	Event   string        // identity of event and try: [schema.Call.Event]
	Source  *schema.Event // read only, and not after Begin
	Ask     bool          // it was given to a poller before: who runs it is asked first
	Done    func(Result)  // called once when a try that began has ended; it does not block

	// Span is the context of the try's span. The runner sets it before the try can end; it is empty where no spans are recorded, or
	// the try was joined.
	Span telemetry.Parent
}

// Result is how a try ended. At most one of Err and Lost is set.
type Result struct {
	Answer *schema.Answer // of the function, its own error included
	Err    error          // it did not start; a [schema.Error]
	Lost   bool           // it may have run and nobody can tell
}

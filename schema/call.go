package schema

import "time"

// Version is the newest version of envelopes and records that this build reads and writes.
const Version = 1

// Key says to which environments a call may go: exactly those of this function id, version, code and configuration, and of
// this sub-tenant. Comparable, so it is the key of maps. DESIGN 1, 3.
type Key struct {
	FunctionID     string
	Version        string // "$LATEST" or a number
	CodeSHA256     string // hex
	ConfigRevision uint64
	Tenant         string // "" unless the function is per tenant
}

// Call is the envelope of one call on an arc: what a manager needs to claim it, a worker to run it, and both to
// answer. Frontends write it; it is immutable after that.
type Call struct {
	Key
	RequestID     string
	Account       string
	Function      string
	Qualifier     string        // as the caller gave it, "" if none
	Frontend      string        // whose call it is: told of its end at [subjects.FrontendInbox]
	Token         uint64        // the frontend's name for it, unguessable
	Reply         string        // where the answer goes
	Reason        Reason        // why it took this arc
	Attempt       uint32        // 1 for the first
	StartBy       time.Duration // budget from publication until it must have started
	Timeout       time.Duration // of the function, counted by the worker from the start
	LogTail       bool
	ClientContext []byte // decoded JSON
	Traceparent   string
	Tracestate    string
	Payload       []byte

	// Event is the identity of the event and try that this call runs, "" for sync calls: who runs it can be asked by it ([Ask]),
	// so that an event whose poller died is joined and not run beside itself. DESIGN 4.
	Event string
	// Held is the size of a payload that stays with the frontend: Payload is empty then, and who claims the call fetches it
	// ([subjects.FrontendInbox], kind "f"). 0: Payload is the payload. DESIGN 3.
	Held int
}

// TTLGrace is how much longer than its start-by a call's message may stand, in seconds: a net for frontends that die before they
// delete it. DESIGN 3.
const TTLGrace = 2

// CallTTL is the time to live in seconds of the message of a call with this start-by, in whole ones as the server counts: it
// rounds down, so this rounds up.
func CallTTL(startBy time.Duration) int { return int((startBy+time.Second-1)/time.Second) + TTLGrace }

// Binding is what an environment is made for; a worker compares every call with it. Variables are in clear, so a Binding
// never leaves the manager and its worker. Tenant is always "": an environment of a PER_TENANT function is made generic, and its
// worker binds it to the sub-tenant of its first call, for good (DESIGN 7).
type Binding struct {
	Key
	PerTenant   bool // its calls name a sub-tenant each, the same all
	Reserved    bool // made for a reservation, as its function is told
	Account     string
	Function    string
	Runtime     string // as in the record: provided, nodejs, python, or Lambda's names
	Handler     string
	MemoryMB    int
	EphemeralMB int // of /tmp; 0 means [DefaultEphemeralMB]
	Timeout     time.Duration
	InitTimeout time.Duration // 10 s as in Lambda (A6); 0 means that
	Logging     Logging
	Egress      []string  // as in the record ([ParseEgress])
	Variables   Variables `json:"-"` // not even by mistake

	// Token is where the tokens of the sub-tenant come from that the environment will be bound to, attached by its manager; nil
	// where the function has no audience, or no sub-tenants. SECURITY 4.
	Token TokenSource `json:"-"`
}

// FunctionError is a failure that the caller sees as an answer, not as a refusal: the function's own error, a
// time-out, a crash. Lambda A7.
type FunctionError struct {
	Type    string // "Runtime.ExitError", "Sandbox.Timedout"
	Message string
	Body    []byte // JSON of the answer; made from Type and Message where the runtime posted none
	// Posted says that the function said all of it, or its runtime did: Type may be any text, a code of the platform's too. No other
	// member tells that, for a function chooses them all, and which of them are empty.
	Posted bool
}

// PlatformCode is the code of a failure that the platform found, "" of what a function posted.
func (f *FunctionError) PlatformCode() Code {
	if code := Code(f.Type); !f.Posted && code.Known() {
		return code
	}
	return ""
}

// Outcome is how a call ended in its environment.
type Outcome struct {
	Payload     []byte
	ContentType string
	Error       *FunctionError // nil: Payload is the function's answer
	Duration    time.Duration  // from the start line to the answer
	LogTail     []byte         // last 4 KB, if asked for
	Reusable    bool           // the environment will ask for the next call; false when it is gone or doomed
}

// Run is one start of a call in an environment: what the manager tells its worker.
type Run struct {
	Call         *Call
	Subject      string // on which the call was published; the worker compares it with the envelope
	Environment  string
	Arc          string // short name, "u.17"
	Rank         int
	Manager      string
	Start        Start
	InitDuration time.Duration // of a cold start; 0 otherwise

	// Ended is called exactly once, before the answer goes out, on the goroutine that has it: the manager offers the
	// environment and tells its status there, so that the caller's next call does not overtake the offer (DESIGN 2).
	Ended func(*Run, *Outcome)
	// Answered is called after the answer was published, or could not be; nil: nobody asks.
	Answered func(*Run)
}

// EnvironmentEventKind says what happened to an environment.
type EnvironmentEventKind uint8

// The kinds of events, in the order of a life. Parked comes again after each call; exactly one of Failed and Gone comes
// last.
const (
	// EnvironmentParked: it asks for a call (first time: its init is done). It can start one now.
	EnvironmentParked EnvironmentEventKind = iota + 1
	// EnvironmentFailed: its init failed; Error says how.
	EnvironmentFailed
	// EnvironmentGone: it ended after a good init: killed, crashed, exited.
	EnvironmentGone
)

// EnvironmentEvent is what a worker tells the manager of an environment.
type EnvironmentEvent struct {
	Environment  string
	Kind         EnvironmentEventKind
	InitDuration time.Duration  // with the first Parked
	Error        *FunctionError // with Failed
}

// Ends tells a frontend which of its calls ended, coalesced, off the caller's path; not of those whose answers go to the frontend
// itself, which tell it.
type Ends struct {
	Manager     string   `msgpack:"m"`
	Incarnation string   `msgpack:"i"`
	Tokens      []uint64 `msgpack:"t"`
	Marks       []byte   `msgpack:"k,omitempty"` // a [Mark] of each, in the order of Tokens
}

// Mark is how the call of the i-th token ended.
func (e *Ends) Mark(i int) Mark {
	if i >= len(e.Marks) {
		return 0
	}
	return Mark(e.Marks[i])
}

// Ask is sent to all managers on hearth.status.ask: whoever runs, or holds unstarted, the call with this Event makes it the
// asker's: its beats, its end and its answer go there under the asker's token, and a [Beat] that names that token is sent at
// once. Nobody else answers. DESIGN 4.
type Ask struct {
	V        int    `msgpack:"v"`
	Event    string `msgpack:"e"`
	Frontend string `msgpack:"f"`
	Token    uint64 `msgpack:"t"`
	Reply    string `msgpack:"r"` // where the answer goes from now on: an inbox of the asker
}

// Beat tells a frontend every 500 ms which of its calls run at a manager for longer than that. DESIGN 3. For a while after a
// reconnect of the manager it also tells which ended lately: their ends and answers may be lost. DESIGN 6.
type Beat struct {
	Manager     string   `msgpack:"m"`
	Incarnation string   `msgpack:"i"`
	Number      uint64   `msgpack:"n"`
	Tokens      []uint64 `msgpack:"t"`
	Late        []uint64 `msgpack:"l,omitempty"` // started, and ended by now: no sign of life
	Locks       []uint64 `msgpack:"k,omitempty"` // may be out of the stream and have not started: the sender waits to hear whether they are its own
}

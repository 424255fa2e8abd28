package schema

import "time"

// A worker in a process of its own, and the manager that it serves, speak like this (DESIGN 3, 9; SECURITY 6). The subjects say
// who may: only managers publish to hearth.w.<worker>, and the session is known to this manager and this worker alone, for it
// is told there.
//
//	worker ── WorkerHello ──► _HM.<manager>.w.hello          again and again until it has a session
//	          the manager reads the worker's lease in bucket members: its incarnation has to be that of the hello
//	worker ◄─ WorkerOpen ──── hearth.w.<worker>.open         with the session, drawn for this once
//	worker ◄─ LinkFrame ───── hearth.w.<worker>.link         whose bodies are WorkerOrder
//	worker ── LinkFrame ────► _HM.<manager>.w.l.<session>    whose bodies are WorkerReport
//	worker ── (a run) ──────► _HM.<manager>.w.p.<session>    answered with the payload of a call that Start left out
//	worker ── WorkerTokenAsk► _HM.<manager>.w.t.<session>    answered with a WorkerToken
//
// One call, in the order in which it is sent; what stands in brackets is no frame:
//
//	Start ──► ... function runs ... ──► Ended, [offer, status: the manager's] ◄── Done ──► [answer, to the caller] Answered
//
// The orders and reports of one session arrive once and in their order (internal/link), or the session ends: then the manager
// has given every environment of it up, and the worker ends what is left of it.

// WorkerPrefix begins the keys of workers' leases in bucket members.
const WorkerPrefix = "worker."

// MaxWorkerPlaces is the most places that a worker may say it has.
const MaxWorkerPlaces = 1 << 16

// MaxWorkerError is the longest body of a failure that a worker reports of an init; of a longer one its type and message are told.
const MaxWorkerError = 64 << 10

// WorkerRecord is the lease of a worker that is a process of its own, in bucket members as [MemberRecord].
type WorkerRecord struct {
	V           int         `msgpack:"v"`
	ID          string      `msgpack:"id"`
	Manager     string      `msgpack:"manager"`     // whom it serves
	Incarnation string      `msgpack:"incarnation"` // random at each start
	State       MemberState `msgpack:"state"`
	Capacity    int         `msgpack:"capacity"` // places of 128 MB
	Driver      string      `msgpack:"driver"`
	Tenants     bool        `msgpack:"tenants"` // it keeps sub-tenants apart
	Limits      bool        `msgpack:"limits"`  // it bounds memory, processes and CPU
	Build       string      `msgpack:"build"`
	Reads       int         `msgpack:"reads"` // highest record version it reads
}

// WorkerLease asks a manager to write the worker's lease.
type WorkerLease struct {
	V      int    `msgpack:"v"`
	Record []byte `msgpack:"r,omitempty"` // a [WorkerRecord]; none gives the lease up
	Last   uint64 `msgpack:"l,omitempty"` // sequence of the message that stands there now, 0 for none
}

// WorkerHello asks a manager for a session, or whether it still knows the one that there is.
type WorkerHello struct {
	V           int    `msgpack:"v"`
	Worker      string `msgpack:"w"`
	Incarnation string `msgpack:"i"`
	Session     string `msgpack:"s,omitempty"` // that it has, "" if none
}

// WorkerOpen begins a session with the worker of this incarnation. One that it has already changes nothing; any other ends the
// one before, with all that is left of it.
type WorkerOpen struct {
	V           int    `msgpack:"v"`
	Manager     string `msgpack:"m"`
	Incarnation string `msgpack:"i"` // the worker's
	Session     string `msgpack:"s"`
}

// LinkFrame is one message of a link: numbered from 1 in each direction, or with 0 a beat, which carries nothing else.
type LinkFrame struct {
	V       int    `msgpack:"v"`
	Session string `msgpack:"s"`
	Number  uint64 `msgpack:"n,omitempty"`
	Last    uint64 `msgpack:"l,omitempty"` // number of the last one that was sent
	Ack     uint64 `msgpack:"a,omitempty"` // number of the last one that was received in order
	Again   bool   `msgpack:"g,omitempty"` // what came after Ack did not arrive: send it again
	Body    []byte `msgpack:"b,omitempty"`
}

// WorkerOrder is what a manager tells its worker: one of these.
type WorkerOrder struct {
	V     int          `msgpack:"v"`
	Make  *WorkerMake  `msgpack:"make,omitempty"`
	Start *WorkerStart `msgpack:"start,omitempty"`
	End   string       `msgpack:"end,omitempty"` // an environment
	Done  *WorkerDone  `msgpack:"done,omitempty"`
	Bye   bool         `msgpack:"bye,omitempty"` // the manager goes: nothing of the session is wanted any more
	Level *LevelOrder  `msgpack:"level,omitempty"`
}

// WorkerMake is the bind message of an environment: it alone carries variables, in clear.
type WorkerMake struct {
	Environment    string        `msgpack:"e"`
	FunctionID     string        `msgpack:"id"`
	Version        string        `msgpack:"version"`
	CodeSHA256     string        `msgpack:"code"`
	ConfigRevision uint64        `msgpack:"config"`
	PerTenant      bool          `msgpack:"per_tenant,omitempty"`
	Reserved       bool          `msgpack:"reserved,omitempty"`
	Account        string        `msgpack:"account"`
	Function       string        `msgpack:"function"`
	Runtime        string        `msgpack:"runtime"`
	Handler        string        `msgpack:"handler,omitempty"`
	MemoryMB       int           `msgpack:"memory"`
	EphemeralMB    int           `msgpack:"tmp,omitempty"`
	Timeout        time.Duration `msgpack:"timeout"`
	InitTimeout    time.Duration `msgpack:"init,omitempty"`
	Logging        *Logging      `msgpack:"log,omitempty"` // nil: as the zero value
	Egress         []string      `msgpack:"egress,omitempty"`
	Variables      Variables     `msgpack:"vars,omitempty"`
	Tokens         bool          `msgpack:"tokens,omitempty"` // the worker asks its manager for the environment's token
}

// NewWorkerMake is the order to make an environment with this binding.
func NewWorkerMake(environment string, b *Binding) *WorkerMake {
	m := &WorkerMake{
		Environment: environment, FunctionID: b.FunctionID, Version: b.Version, CodeSHA256: b.CodeSHA256, ConfigRevision: b.ConfigRevision,
		PerTenant: b.PerTenant, Reserved: b.Reserved, Account: b.Account, Function: b.Function, Runtime: b.Runtime, Handler: b.Handler, MemoryMB: b.MemoryMB,
		EphemeralMB: b.EphemeralMB, Timeout: b.Timeout, InitTimeout: b.InitTimeout, Egress: b.Egress, Variables: b.Variables,
		Tokens: b.Token != nil,
	}
	if b.Logging != (Logging{}) {
		m.Logging = &b.Logging
	}
	return m
}

// Binding is what the environment is made for.
func (m *WorkerMake) Binding() *Binding {
	b := &Binding{
		Key:       Key{FunctionID: m.FunctionID, Version: m.Version, CodeSHA256: m.CodeSHA256, ConfigRevision: m.ConfigRevision},
		PerTenant: m.PerTenant, Reserved: m.Reserved, Account: m.Account, Function: m.Function, Runtime: m.Runtime, Handler: m.Handler, MemoryMB: m.MemoryMB,
		EphemeralMB: m.EphemeralMB, Timeout: m.Timeout, InitTimeout: m.InitTimeout, Egress: m.Egress, Variables: m.Variables,
	}
	if m.Logging != nil {
		b.Logging = *m.Logging
	}
	return b
}

// WorkerTokenAsk is a worker's question for the token of one of its environments, which it has bound to this sub-tenant.
type WorkerTokenAsk struct {
	V           int    `msgpack:"v"`
	Environment string `msgpack:"e"`
	Tenant      string `msgpack:"t"`
}

// WorkerToken answers a [WorkerTokenAsk], into an inbox of that worker alone.
type WorkerToken struct {
	V     int           `msgpack:"v"`
	Text  string        `msgpack:"t,omitempty"`
	Life  time.Duration `msgpack:"l,omitempty"`
	Error string        `msgpack:"e,omitempty"` // why there is none now
}

// WorkerStart starts a call in an environment. The envelope goes without a payload of over [MaxCarried] bytes: the worker asks
// for that ([Call.Held] is its size). That of an event's call goes without its reply, which may become another's while it runs
// ([Ask]): Done names it.
type WorkerStart struct {
	Run         uint64        `msgpack:"n"` // its number in this session, from 1
	Environment string        `msgpack:"e"`
	Subject     string        `msgpack:"s"`
	Arc         string        `msgpack:"a"`
	Rank        int           `msgpack:"r,omitempty"`
	Start       string        `msgpack:"k"`
	Init        time.Duration `msgpack:"i,omitempty"`
	Call        []byte        `msgpack:"c"`
}

// WorkerDone says that the manager has offered the environment of a run that ended, and told its status: the caller may hear.
type WorkerDone struct {
	Run   uint64 `msgpack:"n"`
	Reply string `msgpack:"r,omitempty"` // where the answer goes
}

// WorkerReport is what a worker tells its manager: one of these.
type WorkerReport struct {
	V     int          `msgpack:"v"`
	Event *WorkerEvent `msgpack:"event,omitempty"`
	Ended *WorkerEnded `msgpack:"ended,omitempty"`
	// Answered is the number of a run whose caller has its answer: until then the manager has to answer if the worker goes.
	Answered uint64 `msgpack:"answered,omitempty"`
	Drain    bool   `msgpack:"drain,omitempty"` // the worker goes when what runs there has ended: nothing new, please
	Bye      bool   `msgpack:"bye,omitempty"`   // the worker goes, and has ended everything
}

// WorkerEvent is an [EnvironmentEvent].
type WorkerEvent struct {
	Environment string               `msgpack:"e"`
	Kind        EnvironmentEventKind `msgpack:"k"`
	Init        time.Duration        `msgpack:"i,omitempty"`
	Type        string               `msgpack:"t,omitempty"` // of the failure
	Message     string               `msgpack:"m,omitempty"`
	Body        []byte               `msgpack:"b,omitempty"`
	Posted      bool                 `msgpack:"p,omitempty"` // as in [FunctionError]; where Body was too long to be told, too
}

// WorkerEnded are the facts of a run's outcome; what it answered goes to the caller alone.
type WorkerEnded struct {
	Run        uint64        `msgpack:"n"`
	Reusable   bool          `msgpack:"u,omitempty"`
	Error      string        `msgpack:"t,omitempty"` // type of the function error, "" for none
	ByFunction bool          `msgpack:"f,omitempty"` // as Posted in [FunctionError]
	Duration   time.Duration `msgpack:"d,omitempty"`
}

package schema

import "time"

// FunctionRecord is the value of one key of bucket functions: a function with its versions and aliases. Written by the
// control handlers of frontends alone. DESIGN 9.
type FunctionRecord struct {
	V           int                      `msgpack:"v"`
	Account     string                   `msgpack:"account"`
	Name        string                   `msgpack:"name"`
	ID          string                   `msgpack:"id"` // random; a name used again gets another
	PerTenant   bool                     `msgpack:"per_tenant,omitempty"`
	Created     time.Time                `msgpack:"created"`
	Latest      VersionRecord            `msgpack:"latest"`
	Versions    []VersionRecord          `msgpack:"versions,omitempty"` // published, ascending
	NextVersion int                      `msgpack:"next"`               // number of the next published version
	Aliases     map[string]AliasRecord   `msgpack:"aliases,omitempty"`
	Tags        map[string]string        `msgpack:"tags,omitempty"`
	Event       *EventInvokeConfigRecord `msgpack:"event,omitempty"`
	Concurrency *int                     `msgpack:"concurrency,omitempty"` // most environments of all versions; nil: no limit of its own

	// TenantConcurrency is the most environments, and calls in flight, of each sub-tenant; nil: no limit (DESIGN 7).
	TenantConcurrency *int `msgpack:"tenant_concurrency,omitempty"`
}

// VersionRecord is one version: immutable once published.
type VersionRecord struct {
	Version        string        `msgpack:"version"` // "$LATEST" or a number
	Description    string        `msgpack:"description,omitempty"`
	Runtime        string        `msgpack:"runtime"`
	Handler        string        `msgpack:"handler,omitempty"`
	Role           string        `msgpack:"role,omitempty"`
	MemoryMB       int           `msgpack:"memory"`
	Timeout        time.Duration `msgpack:"timeout"`
	EphemeralMB    int           `msgpack:"ephemeral,omitempty"`
	Architecture   string        `msgpack:"arch,omitempty"` // x86_64, arm64
	CodeSHA256     string        `msgpack:"code"`           // hex, name in the object store
	CodeSize       int64         `msgpack:"size"`
	ConfigRevision uint64        `msgpack:"config"`              // changes with every change of configuration
	VariableNames  []string      `msgpack:"vars,omitempty"`      // sorted; values stand sealed in bucket secrets
	SecretKey      string        `msgpack:"secret,omitempty"`    // key in bucket secrets, "" if no variables
	SecretsSHA256  string        `msgpack:"secretsum,omitempty"` // keyed digest, to tell an unchanged set
	LogFormat      string        `msgpack:"logformat,omitempty"`
	LogGroup       string        `msgpack:"loggroup,omitempty"`
	LogLevel       string        `msgpack:"loglevel,omitempty"` // of the function's own lines, with LogFormat JSON
	SystemLogLevel string        `msgpack:"syslevel,omitempty"` // of the platform's
	Tracing        string        `msgpack:"tracing,omitempty"`  // Active, PassThrough; "" is PassThrough
	Idempotent     bool          `msgpack:"idempotent,omitempty"`
	Egress         []string      `msgpack:"egress,omitempty"`
	Audiences      []string      `msgpack:"audiences,omitempty"`
	RevisionID     string        `msgpack:"revision"` // UUID, as Lambda's RevisionId
	Modified       time.Time     `msgpack:"modified"`
}

// AliasRecord names one version, or two by weight.
type AliasRecord struct {
	Name          string  `msgpack:"name"`
	Version       string  `msgpack:"version"`
	SecondVersion string  `msgpack:"second,omitempty"`
	SecondWeight  float64 `msgpack:"weight,omitempty"` // 0 to 1, share of SecondVersion
	Description   string  `msgpack:"description,omitempty"`
	RevisionID    string  `msgpack:"revision"`
}

// EventInvokeConfigRecord is what happens to events of a function (Lambda's FunctionEventInvokeConfig).
type EventInvokeConfigRecord struct {
	Retries    *int          `msgpack:"retries,omitempty"`     // nil means [MaxEventRetries]
	MaxAge     time.Duration `msgpack:"max_age,omitempty"`     // 0 means [MaxEventAge]
	RetryDelay time.Duration `msgpack:"retry_delay,omitempty"` // 0 means [DefaultRetryDelay]
	OnSuccess  string        `msgpack:"on_success,omitempty"`  // name of a function of the account, "" none
	OnFailure  string        `msgpack:"on_failure,omitempty"`  // the same; "" means DEADLETTERS
	Modified   time.Time     `msgpack:"modified,omitempty"`
}

// Numbers are how often a failed event is tried again, how old it may get, and how long it waits before the first retry: c's own, or the
// defaults. nil has the defaults.
func (c *EventInvokeConfigRecord) Numbers() (retries int, maxAge, delay time.Duration) {
	retries, maxAge, delay = MaxEventRetries, MaxEventAge, DefaultRetryDelay
	if c == nil {
		return retries, maxAge, delay
	}
	if c.Retries != nil {
		retries = *c.Retries
	}
	if c.MaxAge > 0 {
		maxAge = c.MaxAge
	}
	if c.RetryDelay > 0 {
		delay = c.RetryDelay
	}
	return retries, maxAge, delay
}

// SecretRecord is one set of variables in bucket secrets, sealed to the managers' public key. SECURITY 6.
type SecretRecord struct {
	V      int    `msgpack:"v"`
	KeyID  string `msgpack:"key"`    // which public key
	Sealed []byte `msgpack:"sealed"` // X25519 sealed box of the variables and of the key under which they lie (internal/seal)
	At     string `msgpack:"-"`      // the key in bucket secrets from which it was read; whoever reads it sets it
}

// SealKeyRecord is the managers' public key in bucket keys, under [SealKeyName].
type SealKeyRecord struct {
	V      int    `msgpack:"v"`
	KeyID  string `msgpack:"id"`
	Public []byte `msgpack:"public"` // 32 bytes, X25519
}

// SealKeyName is the key of [SealKeyRecord] in bucket keys.
const SealKeyName = "seal"

// MemberState is where a manager stands between joining and leaving.
type MemberState string

// The states of a member.
const (
	MemberJoining  MemberState = "joining"
	MemberActive   MemberState = "active"
	MemberDraining MemberState = "draining"
)

// ControllerKey is the lease in bucket members of the one manager that writes the ring; MemberKey prefixes managers'.
const (
	ControllerKey = "controller"
	MemberPrefix  = "manager."
	RingKey       = "ring"   // in bucket ring
	FabricKey     = "fabric" // in bucket ring
)

// MemberRecord is a manager's lease in bucket members (TTL 2 s, renewed each 0.5 s).
type MemberRecord struct {
	V           int         `msgpack:"v"`
	ID          string      `msgpack:"id"`
	Incarnation string      `msgpack:"incarnation"` // random at each start
	State       MemberState `msgpack:"state"`
	Capacity    int         `msgpack:"capacity"` // places of 128 MB
	Build       string      `msgpack:"build"`
	Reads       int         `msgpack:"reads"` // highest record version it reads
}

// LeaseRecord is the controller's lease.
type LeaseRecord struct {
	V           int    `msgpack:"v"`
	Holder      string `msgpack:"holder"`
	Incarnation string `msgpack:"incarnation"`
}

// RingRecord is the one key ring, written by the controller, watched by all.
type RingRecord struct {
	V       int      `msgpack:"v"`
	Epoch   uint64   `msgpack:"epoch"`
	Members []string `msgpack:"members"`           // sorted ids
	Leaving []string `msgpack:"leaving,omitempty"` // serve on until their shares are ready elsewhere
}

// ArcRecord is the stored length of an unreserved arc, in bucket arcs under "u.<nn>".
type ArcRecord struct {
	V      int `msgpack:"v"`
	Length int `msgpack:"length"`
}

// ManagerStatus is what a manager tells each 500 ms and on changes. DESIGN 9.
type ManagerStatus struct {
	V           int         `msgpack:"v"`
	ID          string      `msgpack:"id"`
	Incarnation string      `msgpack:"inc"`
	Number      uint64      `msgpack:"n"`
	RingEpoch   uint64      `msgpack:"ring"`
	State       MemberState `msgpack:"state"`
	Capacity    int         `msgpack:"cap"`
	Room        int         `msgpack:"room"`          // places free or evictable
	Hot         int         `msgpack:"hot,omitempty"` // of these, places of what ran so lately that it makes way for nobody who has not waited (manager/pool)
	Soon        int         `msgpack:"soon"`          // places of what is about to be idle, or to go, and that no claim waits for
	Idle        int         `msgpack:"idle"`
	Busy        int         `msgpack:"busy"`
	Starting    int         `msgpack:"starting"`
	Reserved    int         `msgpack:"reserved"`
	Surplus     int         `msgpack:"surplus"`
	Arcs        []ArcStatus `msgpack:"arcs,omitempty"`
	Tenants     bool        `msgpack:"apart,omitempty"` // a worker of it keeps sub-tenants apart
	Stock       *Stock      `msgpack:"stock,omitempty"` // of the worker in the manager's process; nil: not in a partial status, or it keeps none

	// Partial says that Arcs are only those that changed, with everything else as in the last whole status of this life. A member
	// that went idle is told by it before its call is answered (DESIGN 5).
	// Counted says that a partial status speaks for every number beside Arcs too.
	Partial bool `msgpack:"part,omitempty"`
	Counted bool `msgpack:"num,omitempty"`
}

// Stock is empty environments that a worker keeps ready, how often that was of use since it started, and how many environments lie
// frozen.
type Stock struct {
	Ready     int    `msgpack:"r" json:"ready"`     // now
	Made      uint64 `msgpack:"m" json:"made"`      // for the stock
	Taken     uint64 `msgpack:"t" json:"taken"`     // environments that found one
	Missed    uint64 `msgpack:"x" json:"missed"`    // environments for which one was made while they waited
	Discarded uint64 `msgpack:"d" json:"discarded"` // ended unused
	Frozen    int    `msgpack:"f" json:"frozen"`    // environments now: idle for 10 s
}

// ArcStatus is one function version (and sub-tenant) on one arc at a manager. Of a reserved arc on which a manager has a share
// it is told also while there is nothing yet.
type ArcStatus struct {
	Arc      string `msgpack:"a"` // short name
	Share    int    `msgpack:"s,omitempty"`
	Unable   bool   `msgpack:"u,omitempty"` // its share does not fit here, evictions done (DESIGN 6)
	Failed   string `msgpack:"x,omitempty"` // why members cannot be made, after three failed inits in a row
	Account  string `msgpack:"c"`
	Function string `msgpack:"f"`
	Version  string `msgpack:"v"`
	Tenant   string `msgpack:"t,omitempty"`
	Ready    int    `msgpack:"r"`
	Idle     int    `msgpack:"i"`
	Busy     int    `msgpack:"b"`
	Starting int    `msgpack:"st,omitempty"`
}

// FrontendStatus is what a frontend tells each 500 ms and on changes.
type FrontendStatus struct {
	V           int            `msgpack:"v"`
	ID          string         `msgpack:"id"`
	Incarnation string         `msgpack:"inc"`
	Number      uint64         `msgpack:"n"`
	Functions   uint64         `msgpack:"fn"` // revision of bucket functions that it has seen: a change is answered when all have it
	InFlight    map[string]int `msgpack:"fl,omitempty"`
	Reconnects  uint64         `msgpack:"rc,omitempty"` // of its connection: what was said to it before it came back did not reach it

	// Partial says that InFlight are only those that changed since the last status of this life, 0 where none is left: versions
	// with a reservation, whose calls all frontends count at each decision (DESIGN 5). Everything else is as it is.
	Partial bool `msgpack:"part,omitempty"`
}

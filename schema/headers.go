package schema

// Headers of calls and answers, the same on NATS and HTTP. Durations are Go durations. DESIGN 9.
const (
	HeaderQualifier     = "Hearth-Qualifier"
	HeaderTenant        = "Hearth-Tenant"
	HeaderToken         = "Hearth-Token" // the caller's, where the tenant policy asks for one (SECURITY 5)
	HeaderTimeout       = "Hearth-Timeout"
	HeaderLog           = "Hearth-Log" // "tail"
	HeaderClientContext = "Hearth-Client-Context"
	HeaderTraceparent   = "traceparent"
	HeaderTracestate    = "tracestate"
	HeaderDeadTry       = "Hearth-Dead-Try" // of an event that was a dead letter: the traceparent of its first try then

	HeaderRequestID       = "Hearth-Request-Id"
	HeaderLogResult       = "Hearth-Log-Result"
	HeaderDuration        = "Hearth-Duration"
	HeaderInitDuration    = "Hearth-Init-Duration"
	HeaderRank            = "Hearth-Rank"
	HeaderFunctionError   = "Hearth-Function-Error"
	HeaderPlatformError   = "Hearth-Platform-Error" // beside the one above, where the platform found the failure: its code ([FunctionError.PlatformCode]); a function cannot say it
	HeaderExecutedVersion = "Hearth-Executed-Version"
	HeaderEnvironment     = "Hearth-Environment"
	HeaderManager         = "Hearth-Manager"
	HeaderArc             = "Hearth-Arc"
	HeaderReason          = "Hearth-Reason"
	HeaderStart           = "Hearth-Start"
	HeaderAttempt         = "Hearth-Attempt"
	HeaderContentType     = "Content-Type"

	// HeaderErrorCode and HeaderError are those of NATS services (micro): a refused call carries both.
	HeaderErrorCode = "Nats-Service-Error-Code"
	HeaderError     = "Nats-Service-Error"

	// HeaderStatus is that of NATS's own short answers; with [StatusUnknown] a frontend says that it holds no such payload.
	HeaderStatus = "Status"
)

// StatusUnknown is the [HeaderStatus] of an answer that says: there is none.
const StatusUnknown = "404"

// StatusRefused is the [HeaderStatus] of an answer that says: who asks may not have it.
const StatusRefused = "403"

// StatusLater is the [HeaderStatus] of an answer that says: it is too much for now, and may be asked for again in some seconds.
const StatusLater = "429"

// FunctionErrorUnhandled is the one value of [HeaderFunctionError] that runtimes produce (Lambda, X-Amz-Function-Error).
const FunctionErrorUnhandled = "Unhandled"

// Reason says why a call took its arc. A call counts once, under its last reason. DESIGN 5.
type Reason string

// The reasons.
const (
	ReasonReserved   Reason = "reserved"
	ReasonSpillover  Reason = "spillover"
	ReasonScale      Reason = "scale"
	ReasonOverflow   Reason = "overflow"
	ReasonUnreserved Reason = "unreserved"
)

// Start says how a call found its environment. DESIGN 1.
type Start string

// The start kinds.
const (
	StartCold        Start = "cold"
	StartSpecialised Start = "specialised"
	StartWarm        Start = "warm"
)

// Latest is the qualifier of the unpublished code.
const Latest = "$LATEST"

// Limits of payloads and what an answer may hold. DESIGN 9; Lambda's quotas.
const (
	MaxPayload      = 6 << 20     // of a sync call, in and out
	MaxAnswer       = 6<<20 + 100 // what the Runtime API accepts of a function
	MaxEventPayload = 1 << 20
	MaxHeader       = 64 << 10
	MaxCarried      = 64 << 10 // of a payload that travels in its call's envelope; a larger one is held (Call.Held)
	MaxTenant       = 256
)

package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Most series by name in one process, above which everything else is told as [Other].
const (
	MaxFunctions = 1000 // function versions
	MaxTenants   = 100  // sub-tenants of one function
	MaxUsage     = 2000 // functions and sub-tenants together, and of each function one for those beyond
)

// Attributes of metrics, beside those that spans have.
const (
	Code      = attribute.Key("hearth.code")    // CodeOK, CodeFunction, or the error's code
	Stage     = attribute.Key("hearth.stage")   // StageAdmission and so on
	State     = attribute.Key("hearth.state")   // of an environment
	Side      = attribute.Key("hearth.side")    // of an arc: what its open pulls offer
	Step      = attribute.Key("hearth.step")    // of a hand-over
	Result    = attribute.Key("hearth.result")  // what came of it
	Cap       = attribute.Key("hearth.cap")     // which cap permits are of
	Stream    = attribute.Key("hearth.stream")  // its name
	Direction = semconv.NetworkIODirectionKey   // DirectionOut, DirectionIn
	Refusal   = attribute.Key("hearth.refusal") // why egress was refused
)

// Values of those attributes.
const (
	CodeOK         = "ok"
	CodeFunction   = "function-error" // that the function itself reported
	StageAdmission = "admission"      // a frontend has it: until it is published
	StageWait      = "wait"           // published: until it starts, the wait for an environment too
	StageInit      = "init"           // of an environment
	StageRun       = "run"            // started: until the function's answer
	StageAnswer    = "answer"         // the function's answer: until it is on its way to the caller
	DirectionOut   = "transmit"
	DirectionIn    = "receive"
)

// Buckets of durations, from 25 us, which a warm call takes from door to publication, to the longest time-out, and of memory.
var (
	Durations = NewBuckets(1e9, 25e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
	Sizes     = NewBuckets(1, 8<<20, 16<<20, 32<<20, 64<<20, 128<<20, 256<<20, 512<<20, 1<<30, 2<<30, 4<<30, 10<<30)
)

// Calls. The first is told by whoever answered: the worker that ran a call, the manager or the frontend that refused it.
var (
	Calls         = &Metric{"hearth.calls", "{call}", "Calls answered, by function, version, reason, start kind and code; no reason or start where none was decided.", counter}
	CallStage     = &Metric{"hearth.call.stage.duration", "s", "Time that calls spent in each stage: admission, wait, init, run, answer.", histogram}
	Invocations   = &Metric{"faas.invocations", "{invocation}", "Calls that a function answered well.", counter}
	Errors        = &Metric{"faas.errors", "{error}", "Calls that ended with an error of the function or its environment, time-outs too.", counter}
	Timeouts      = &Metric{"faas.timeouts", "{timeout}", "Calls that took longer than their function may.", counter}
	ColdStarts    = &Metric{"faas.coldstarts", "{coldstart}", "Calls for which an environment was made.", counter}
	RunDuration   = &Metric{"faas.invoke_duration", "s", "Time that functions ran.", histogram}
	InitDuration  = &Metric{"faas.init_duration", "s", "Time that environments took to become ready.", histogram}
	MemoryPeak    = &Metric{"faas.mem_usage", "By", "Most memory that an environment had taken by the end of a call, where its driver tells.", histogram}
	UsageCalls    = &Metric{"hearth.usage.calls", "{call}", "Calls that an environment answered, by function and sub-tenant.", counter}
	UsageErrors   = &Metric{"hearth.usage.errors", "{call}", "Those of them that ended with an error.", counter}
	UsageDuration = &Metric{"hearth.usage.billed", "s", "Billed duration: of each call in whole milliseconds, rounded up.", counter}
	UsageMemory   = &Metric{"hearth.usage.gb_seconds", "", "Billed duration times the memory of the function, in GB (1,024 MB) seconds.", counter}
	UsageEgress   = &Metric{"hearth.usage.egress", "By", "Payload bytes to and from what functions reached, by function and sub-tenant.", counter}
)

// Of frontends.
var (
	Requests           = &Metric{"hearth.requests", "{request}", "Calls and events that came to a door.", counter}
	Dropped            = &Metric{"hearth.requests.dropped", "{request}", "Requests without a reply subject that may be answered.", counter}
	CallersGone        = &Metric{"hearth.callers.gone", "{call}", "HTTP callers that left before their answer.", counter}
	CallsInFlight      = &Metric{"hearth.calls.in_flight", "{call}", "Calls that were published and have not ended.", gauge}
	Routed             = &Metric{"hearth.calls.routed", "{call}", "Calls that left a frontend, by function and by the reason that each had last.", counter}
	Lost               = &Metric{"hearth.calls.lost", "{call}", "Calls answered with ExecutionLost: nobody can tell whether they ran.", counter}
	Again              = &Metric{"hearth.calls.again", "{call}", "Lost calls of idempotent functions that were published again.", counter}
	Joined             = &Metric{"hearth.calls.joined", "{call}", "Tries of events that ran already and were joined.", counter}
	Spilled            = &Metric{"hearth.calls.spilled", "{call}", "Calls that a reserved arc refused and that went to their unreserved one.", counter}
	Unclaimed          = &Metric{"hearth.answers.unclaimed", "{answer}", "Answers that came for nobody.", counter}
	Untold             = &Metric{"hearth.calls.untold", "{call}", "Calls whose end nobody told.", counter}
	PayloadHeld        = &Metric{"hearth.payload.held", "By", "Payloads that frontends hold for claimers.", gauge}
	PayloadTaken       = &Metric{"hearth.payload.fetched", "{payload}", "Payloads handed to claimers.", counter}
	RingMembers        = &Metric{"hearth.ring.members", "{manager}", "Managers on the ring, as a frontend knows it.", level}
	Connected          = &Metric{"hearth.nats.connected", "{connection}", "Connections to NATS that are up, of the nodes of this process.", gauge}
	Disconnected       = &Metric{"hearth.nats.disconnected", "{connection}", "Those of them that are down; must be 0.", gauge}
	ReservationLimit   = &Metric{"hearth.reservation.limit", "{environment}", "L: environments that a reservation keeps ready.", level}
	ReservationMembers = &Metric{"hearth.reservation.members", "{environment}", "S: members that are there and ready.", level}
	ReservationBusy    = &Metric{"hearth.reservation.busy", "{environment}", "B: members that run a call.", level}
	StreamDepth        = &Metric{"hearth.stream.messages", "{message}", "Messages in a stream: calls that wait or were claimed, events that wait, retries, dead letters.", level}
	StreamSize         = &Metric{"hearth.stream.size", "By", "Bytes in a stream.", level}
	StreamAge          = &Metric{"hearth.stream.look.age", "s", "Time since the depths of streams were read; where that never succeeded, since it was first tried.", level}
	EventsDone         = &Metric{"hearth.events", "{event}", "Tries of events, by what came of them: done, retried, dead.", counter}
	EventsTold         = &Metric{"hearth.events.told", "{record}", "Records sent to destinations.", counter}
	EventsRunning      = &Metric{"hearth.events.running", "{event}", "Events in the hands of pollers.", gauge}
)

// Of managers.
var (
	Environments  = &Metric{"hearth.environments", "{environment}", "Environments by state: starting, idle, busy, leaving.", gauge}
	EnvReserved   = &Metric{"hearth.environments.reserved", "{environment}", "Those of them that are members of reservations.", gauge}
	EnvSurplus    = &Metric{"hearth.environments.surplus", "{environment}", "Members above their reservation's limit.", gauge}
	EnvGeneric    = &Metric{"hearth.environments.generic", "{environment}", "Environments of functions with sub-tenants that are bound to none.", gauge}
	Capacity      = &Metric{"hearth.capacity", "{place}", "Places of 128 MB.", gauge}
	Room          = &Metric{"hearth.room", "{place}", "Places that are free, or taken by what may be evicted.", gauge}
	Waiting       = &Metric{"hearth.claims.waiting", "{call}", "Claims that wait for an environment.", gauge}
	EnvMade       = &Metric{"hearth.environments.made", "{environment}", "Environments begun.", counter}
	EnvEnded      = &Metric{"hearth.environments.ended", "{environment}", "Environments told to end.", counter}
	Evictions     = &Metric{"hearth.evictions", "{environment}", "Idle environments that made way for another: for room, or under a cap.", counter}
	FailedInits   = &Metric{"hearth.inits.failed", "{environment}", "Environments that did not become ready.", counter}
	OffersSent    = &Metric{"hearth.offers", "{pull}", "Pulls sent.", counter}
	OffersOpen    = &Metric{"hearth.offers.open", "{pull}", "Pulls that are open: one is an idle environment, or room for one, or the catcher's.", gauge}
	Withdrawals   = &Metric{"hearth.offers.withdrawn", "{withdrawal}", "Times that pulls were taken back because they were too many.", counter}
	Naks          = &Metric{"hearth.naks", "{claim}", "Claims given back.", counter}
	Caught        = &Metric{"hearth.catcher", "{claim}", "Deliveries that found no open pull but a catcher's, by what came of them: caught (all), moved (overflow), refused.", counter}
	HandOvers     = &Metric{"hearth.handovers", "{claim}", "Claims of which another manager has a warm environment: asked for, promised and handed over, used there.", counter}
	Locks         = &Metric{"hearth.locks", "{lock}", "Calls in doubt, by who took them out of the stream: won, lost.", counter}
	ClaimsLeft    = &Metric{"hearth.claims.left", "{claim}", "Claims that started nothing: late (past their start-by), uncrossed (another's, or unclear), garbage.", counter}
	Permits       = &Metric{"hearth.permits.held", "{permit}", "Permits held for environments.", gauge}
	PermitsDenied = &Metric{"hearth.permits.denied", "{permit}", "Environments that were not made because a cap was reached.", counter}
	ArcsChanged   = &Metric{"hearth.arcs.changed", "{change}", "Unreserved arcs made longer (grown) or shorter (shrunk).", counter}
	Controlling   = &Metric{"hearth.controller", "{manager}", "1 while this process has the manager that writes the ring.", gauge}
	Tokens        = &Metric{"hearth.tokens", "{token}", "Tokens of sub-tenants that were asked for: made, failed.", counter}
	Unsigned      = &Metric{"hearth.tokens.unsigned", "{token}", "Tokens asked for by a worker for another sub-tenant than the one it was given; must be 0.", counter}
	Workers       = &Metric{"hearth.workers", "{worker}", "Workers in processes of their own that are here.", gauge}
	WorkerLost    = &Metric{"hearth.workers.lost_calls", "{call}", "Calls whose worker went away.", counter}
	WorkerRefused = &Metric{"hearth.workers.refused", "{message}", "What workers said and may not; must be 0.", counter}
)

// Of workers.
var (
	EnvFrozen     = &Metric{"hearth.environments.frozen", "{environment}", "Environments that were idle for a while and are stopped.", gauge}
	EnvStock      = &Metric{"hearth.environments.stock", "{environment}", "Empty sandboxes kept ready.", gauge}
	StockUse      = &Metric{"hearth.stock", "{environment}", "Sandboxes by what came of the stock: built, taken, missed, discarded.", counter}
	EnvMemory     = &Metric{"hearth.environments.memory", "By", "Memory that all environments are charged with now.", gauge}
	EnvCPU        = &Metric{"hearth.environments.cpu", "s", "Processor time of all environments.", counter}
	Mismatches    = &Metric{"hearth.binding.mismatches", "{call}", "Calls that met an environment of another binding; must be 0.", counter}
	Bound         = &Metric{"hearth.bindings", "{environment}", "Generic environments that were bound to a sub-tenant.", counter}
	NotReturned   = &Metric{"hearth.environments.not_returned", "{environment}", "Environments killed because they did not ask for the next call in time.", counter}
	Unanswered    = &Metric{"hearth.answers.failed", "{answer}", "Answers that could not be published, or had nowhere allowed to go.", counter}
	LogsDropped   = &Metric{"hearth.logs.dropped", "By", "Output of functions above what one may write.", counter}
	BodyBytes     = &Metric{"hearth.bodies", "By", "Bodies and lines in the worker's hands.", gauge}
	EgressOpened  = &Metric{"hearth.egress.connections", "{connection}", "Connections that functions opened.", counter}
	EgressFlows   = &Metric{"hearth.egress.flows", "{flow}", "UDP flows of functions.", counter}
	EgressQueries = &Metric{"hearth.egress.queries", "{query}", "Names that functions asked for.", counter}
	EgressFailed  = &Metric{"hearth.egress.failed", "{connection}", "Connections that were allowed and found nobody.", counter}
	EgressRefused = &Metric{"hearth.egress.refused", "{connection}", "What functions may not reach, by why.", counter}
	EgressBytes   = &Metric{"hearth.egress.io", "By", "Payload bytes of functions' connections.", counter}
	UsageBehind   = &Metric{"hearth.usage.behind", "s", "Time for which usage could not be written into the ledger; 0 while it can.", level}
)

// BuildInfo is 1, with the version of the build.
var BuildInfo = &Metric{"hearth.build.info", "", "1, with the version of this build.", level}

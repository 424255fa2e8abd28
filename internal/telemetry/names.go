package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Names of the spans. What is called stands in attributes, so that names stay few.
const (
	SpanCall    = "hearth.call"
	SpanAccept  = "hearth.accept"
	SpanPublish = "hearth.publish"
	SpanClaim   = "hearth.claim"
	SpanInit    = "hearth.init"
	SpanInvoke  = "hearth.invoke"
)

// Names of moments in a span.
const (
	EventUnpromised = "hearth.unpromised" // another manager was asked for an idle environment and has none; [To] names it
	EventGone       = "hearth.caller_gone"
)

// Attributes by the conventions for functions, messaging and errors. What they have of the invoked function's provider and region is
// left out: they name clouds.
const (
	Function     = semconv.FaaSNameKey         // at the worker: what runs
	Version      = semconv.FaaSVersionKey      // "$LATEST" or a number
	RequestID    = semconv.FaaSInvocationIDKey // the call
	Trigger      = semconv.FaaSTriggerKey      // how it came: TriggerHTTP, TriggerPubSub
	Instance     = semconv.FaaSInstanceKey     // the environment
	Cold         = semconv.FaaSColdstartKey    // bool
	Invoked      = semconv.FaaSInvokedNameKey  // at those that have it called: the function
	System       = semconv.MessagingSystemKey  // SystemNATS
	Operation    = semconv.MessagingOperationNameKey
	OperationOf  = semconv.MessagingOperationTypeKey // OperationSend, OperationReceive, OperationProcess
	Destination  = semconv.MessagingDestinationNameKey
	MessageID    = semconv.MessagingMessageIDKey             // "<stream>/<sequence>"; of an event its identity
	Conversation = semconv.MessagingMessageConversationIDKey // the request id, at both ends
	MessageBytes = semconv.MessagingMessageBodySizeKey
	Group        = semconv.MessagingConsumerGroupNameKey
	Error        = semconv.ErrorTypeKey // the code of package schema, or the name that a function gives its failure
)

// Values of those attributes.
const (
	TriggerHTTP      = "http"
	TriggerPubSub    = "pubsub"
	TriggerOther     = "other"
	SystemNATS       = "nats"
	OperationSend    = "send"
	OperationReceive = "receive"
	OperationProcess = "process"
)

// Attributes of Hearth's own words (DESIGN 1): the decision behind a call, and where it led.
const (
	Account    = attribute.Key("hearth.account")
	Tenant     = attribute.Key("hearth.tenant")
	Qualifier  = attribute.Key("hearth.qualifier")
	Arc        = attribute.Key("hearth.arc")    // short name, "u.17"
	Reason     = attribute.Key("hearth.reason") // why it took this arc
	Rank       = attribute.Key("hearth.rank")
	Start      = attribute.Key("hearth.start") // cold, specialised, warm
	Manager    = attribute.Key("hearth.manager")
	Frontend   = attribute.Key("hearth.frontend")
	Attempt    = attribute.Key("hearth.attempt")
	Deliveries = attribute.Key("hearth.deliveries") // of the claim; above 1 it was in doubt
	Sequence   = attribute.Key("hearth.sequence")   // in the stream
	Limit      = attribute.Key("hearth.limit")      // L
	Members    = attribute.Key("hearth.members")    // S
	Busy       = attribute.Key("hearth.busy")       // B
	InFlight   = attribute.Key("hearth.in_flight")  // C
	Init       = attribute.Key("hearth.init_ms")
	Outcome    = attribute.Key("hearth.outcome")   // of a claim: OutcomeStarted and its like
	Handed     = attribute.Key("hearth.handed")    // bool: another manager handed the claim over
	To         = attribute.Key("hearth.to")        // the manager that it is handed to
	ByCatcher  = attribute.Key("hearth.caught")    // bool: by a catcher's pull
	Try        = attribute.Key("hearth.try")       // of an event: 1 for the first
	BackOffs   = attribute.Key("hearth.back_offs") // of an event since its last try
	Duplicate  = attribute.Key("hearth.duplicate") // bool: the stream had seen the event's id
	LinkKind   = attribute.Key("hearth.link")      // of a link: LinkPublisher and its like
)

// What became of a claim.
const (
	OutcomeStarted    = "started"
	OutcomeHandedOver = "handed_over" // to the manager in [To]
	OutcomeMoved      = "moved"       // off a reserved arc where no member was idle, by its catcher
	OutcomeGivenBack  = "given_back"  // to the stream, for another manager or a later moment
	OutcomeLate       = "late"        // its start-by had passed
	OutcomeNotOurs    = "not_ours"    // another won the lock
	OutcomeUnclear    = "unclear"     // whether it is ours could not be found out, so it was not started
	OutcomeRefused    = "refused"
	OutcomeFailed     = "failed" // its environment's init failed
)

// How one span goes back to another.
const (
	LinkPublisher    = "publisher"     // what handed the event in
	LinkFirstTry     = "first_try"     // of the same event
	LinkDeadLetter   = "dead_letter"   // the first try of the event whose dead letter was redriven
	LinkFirstAttempt = "first_attempt" // the publication of the attempt that was lost
)

package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Names of the spans at the four borders. What is called stands in attributes, so that names stay few.
const (
	SpanCall    = "hearth.call"
	SpanPublish = "hearth.publish"
	SpanClaim   = "hearth.claim"
	SpanInvoke  = "hearth.invoke"
)

// Attributes by the conventions for functions, messaging and errors.
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
	OperationOf  = semconv.MessagingOperationTypeKey // OperationSend, OperationReceive
	Destination  = semconv.MessagingDestinationNameKey
	MessageBytes = semconv.MessagingMessageBodySizeKey
	Group        = semconv.MessagingConsumerGroupNameKey
	Error        = semconv.ErrorTypeKey // the code of package schema
)

// Values of those attributes.
const (
	TriggerHTTP      = "http"
	TriggerPubSub    = "pubsub"
	TriggerOther     = "other"
	SystemNATS       = "nats"
	OperationSend    = "send"
	OperationReceive = "receive"
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
)

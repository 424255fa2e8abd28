package schema

import (
	"encoding/json"
	"time"
)

// An event is accepted when stream EVENTS_<account> has it: its payload is the message's data, what else a caller may say
// stands in the headers of calls. Everything after that is written by pollers alone (DESIGN 4):
//
//	EVENTS  ── claim ──► run through the sync path ── done ──► ack
//	                          │ function error, tries left: RETRIES, due after the retry delay, Attempt + 1
//	                          │ throttled, system error:    RETRIES, due after a back-off, Throttles + 1
//	                          │ no tries left, too old, cannot run at all: destination, or DEADLETTERS
//	RETRIES ── due ───────────┘                       ack of the old message only after the PubAck of the new one

// Event is one accepted event with its whole context: what lies on RETRIES, and in a [DeadLetter].
type Event struct {
	V             int         `msgpack:"v"`
	ID            string      `msgpack:"id"` // the same for all its tries; never repeats within a fabric
	RequestID     string      `msgpack:"request"`
	Account       string      `msgpack:"account"`
	Function      string      `msgpack:"function"`
	Qualifier     string      `msgpack:"qualifier,omitempty"`
	Tenant        string      `msgpack:"tenant,omitempty"`
	BySubject     bool        `msgpack:"by_subject,omitempty"` // the subject named Tenant (SECURITY 5)
	ClientContext []byte      `msgpack:"context,omitempty"`
	Traceparent   string      `msgpack:"traceparent,omitempty"`
	Tracestate    string      `msgpack:"tracestate,omitempty"`
	Payload       []byte      `msgpack:"payload"`
	Accepted      time.Time   `msgpack:"accepted"`             // by the stream's clock, like every age that is judged by it
	Attempts      int         `msgpack:"attempts,omitempty"`   // tries that the function has had
	Throttles     int         `msgpack:"throttles,omitempty"`  // back-offs since the last try
	LastError     *EventError `msgpack:"last_error,omitempty"` // of the last try or back-off
	Hops          int         `msgpack:"hops,omitempty"`       // ends of other events that led to it, by destinations

	// FirstTry is the traceparent of the span of its first try, "" where none was recorded; DeadTry is that of the event whose dead
	// letter it was made of.
	FirstTry string `msgpack:"first_try,omitempty"`
	DeadTry  string `msgpack:"dead_try,omitempty"`
}

// EventError is how a try of an event ended: a function's own error, or a refusal.
type EventError struct {
	Code    string `msgpack:"code" json:"code"` // of the table, or the function's own errorType
	Message string `msgpack:"message" json:"message"`
	Status  int    `msgpack:"status" json:"status"`       // 200 for a function's error
	Body    []byte `msgpack:"body,omitempty" json:"-"`    // the function's answer, whole
	Version string `msgpack:"version,omitempty" json:"-"` // that ran
}

// DeadReason says why an event will not be tried again; the first three are Lambda's condition.
type DeadReason string

// The reasons.
const (
	DeadRetriesExhausted DeadReason = "RetriesExhausted"
	DeadEventAge         DeadReason = "EventAgeExceeded"
	DeadNoConcurrency    DeadReason = "ZeroReservedConcurrency"
	DeadInvalid          DeadReason = "InvalidEvent" // unknown function or qualifier, sub-tenant, malformed: it cannot run as it is
)

// DeadLetter is what lies on DEADLETTERS under `dead.<account>.<function>`: the event and why it is there.
type DeadLetter struct {
	V      int         `msgpack:"v"`
	Event  Event       `msgpack:"event"`
	Reason DeadReason  `msgpack:"reason"`
	Error  *EventError `msgpack:"error,omitempty"`
	Died   time.Time   `msgpack:"died"`
}

// Bounds and defaults of what happens to events (Lambda C, B5).
const (
	MaxEventRetries   = 2
	MinEventAge       = time.Minute
	MaxEventAge       = 6 * time.Hour
	DefaultRetryDelay = time.Minute      // before the first retry; the second waits twice as long
	MinRetryDelay     = time.Second      // whole seconds
	MaxRetryDelay     = 15 * time.Minute // whole seconds
	FirstBackOff      = time.Second      // of a throttled event, doubled each time
	LastBackOff       = 5 * time.Minute
)

// EventConfigInput is the request of Put-, Update-, Get- and DeleteFunctionEventInvokeConfig. It is kept for the function as a
// whole: a Qualifier other than $LATEST is refused.
type EventConfigInput struct {
	FunctionName             string             `json:"FunctionName"`
	Qualifier                string             `json:"Qualifier,omitempty"`
	MaximumRetryAttempts     *int               `json:"MaximumRetryAttempts,omitempty"`
	MaximumEventAgeInSeconds *int               `json:"MaximumEventAgeInSeconds,omitempty"`
	DestinationConfig        *DestinationConfig `json:"DestinationConfig,omitempty"`
	Hearth                   *HearthEventConfig `json:"Hearth,omitempty"`
}

// HearthEventConfig is what Hearth has beyond Lambda's.
type HearthEventConfig struct {
	RetryDelaySeconds *int `json:"RetryDelaySeconds,omitempty"`
}

// DestinationConfig is Lambda's.
type DestinationConfig struct {
	OnSuccess *Destination `json:"OnSuccess,omitempty"`
	OnFailure *Destination `json:"OnFailure,omitempty"`
}

// Destination names where a record of an event's end goes: the ARN or name of a function.
type Destination struct {
	Destination string `json:"Destination,omitempty"`
}

// EventConfigOutput is the answer of Put, Update and Get; Delete answers nothing.
type EventConfigOutput struct {
	FunctionArn              string             `json:"FunctionArn"`
	LastModified             float64            `json:"LastModified"` // epoch seconds, as AWS has it
	MaximumRetryAttempts     *int               `json:"MaximumRetryAttempts,omitempty"`
	MaximumEventAgeInSeconds *int               `json:"MaximumEventAgeInSeconds,omitempty"`
	DestinationConfig        *DestinationConfig `json:"DestinationConfig,omitempty"`
	Hearth                   *HearthEventConfig `json:"Hearth,omitempty"`
}

// ListEventConfigsOutput is the answer of ListFunctionEventInvokeConfigs.
type ListEventConfigsOutput struct {
	FunctionEventInvokeConfigs []EventConfigOutput `json:"FunctionEventInvokeConfigs"`
	NextMarker                 string              `json:"NextMarker,omitempty"`
}

// EventsInput is the request of ListEvents and ListDeadLetters (FunctionName may be "" there: of all functions; or Ids names
// some, and those that are not there are left out).
type EventsInput struct {
	FunctionName string   `json:"FunctionName,omitempty"`
	Ids          []string `json:"Ids,omitempty"`
	Marker       string   `json:"Marker,omitempty"`
	MaxItems     int      `json:"MaxItems,omitempty"`
}

// EventsOutput is the answer of ListEvents: counts, and a page of the events that wait or run.
type EventsOutput struct {
	FunctionName string      `json:"function"`
	Waiting      uint64      `json:"waiting"`      // accepted, not claimed yet
	Running      uint64      `json:"running"`      // claimed by a poller
	Retrying     uint64      `json:"retrying"`     // wait on RETRIES until they are due
	DeadLetters  uint64      `json:"dead_letters"` // on DEADLETTERS
	Events       []EventItem `json:"events"`
	NextMarker   string      `json:"next_marker,omitempty"`
}

// EventItem is one event that waits or runs.
type EventItem struct {
	Sequence  uint64      `json:"sequence"` // in its stream
	RequestID string      `json:"request_id,omitempty"`
	State     string      `json:"state"` // waiting, running, retrying: as they are counted
	Qualifier string      `json:"qualifier,omitempty"`
	Tenant    string      `json:"tenant,omitempty"`
	Bytes     int         `json:"bytes"`
	Attempts  int         `json:"attempts"`
	Accepted  time.Time   `json:"accepted"`
	Due       *time.Time  `json:"due,omitempty"`
	LastError *EventError `json:"last_error,omitempty"`
}

// DeadLettersOutput is the answer of ListDeadLetters, oldest first.
type DeadLettersOutput struct {
	DeadLetters []DeadLetterItem `json:"dead_letters"`
	NextMarker  string           `json:"next_marker,omitempty"`
}

// DeadLetterItem is one dead letter. Payload is the event's own bytes, less blanks between values, where they are JSON: never decoded,
// for a number of more than 53 bits or the order of names would not come out again. Else it is a JSON string (base64 where they are
// no text, and then Base64 is true); null where the NATS server carries no answer with it, which Bytes tells.
type DeadLetterItem struct {
	ID        string          `json:"id"` // for RedriveDeadLetters and DeleteDeadLetters
	Function  string          `json:"function"`
	Qualifier string          `json:"qualifier,omitempty"`
	Tenant    string          `json:"tenant,omitempty"`
	RequestID string          `json:"request_id"`
	Reason    DeadReason      `json:"reason"`
	Error     *EventError     `json:"error,omitempty"`
	Attempts  int             `json:"attempts"`
	Accepted  time.Time       `json:"accepted"`
	Died      time.Time       `json:"died"`
	Bytes     int             `json:"bytes"` // of the payload
	Payload   json.RawMessage `json:"payload"`
	Base64    bool            `json:"base64,omitempty"`
}

// DeadLettersInput is the request of RedriveDeadLetters and DeleteDeadLetters: those of Ids, or all of one function, or All.
// Which ones has to be said: none of them is no wish for everything.
type DeadLettersInput struct {
	FunctionName string   `json:"FunctionName,omitempty"`
	Ids          []string `json:"Ids,omitempty"` // at most [MaxDeadLetters]
	All          bool     `json:"All,omitempty"`
	Marker       string   `json:"Marker,omitempty"` // of the answer before, to go on
}

// MaxDeadLetters is how many dead letters one request names at most.
const MaxDeadLetters = 1000

// DeadLettersDone is the answer of RedriveDeadLetters and DeleteDeadLetters: how many there were and are no longer. With a
// NextMarker there are more, of those that were there when the first request came.
type DeadLettersDone struct {
	Done       int      `json:"done"`
	Missing    []string `json:"missing,omitempty"` // of Ids: not there (any more)
	Failed     []string `json:"failed,omitempty"`  // cannot be redriven: their subject named no function
	NextMarker string   `json:"next_marker,omitempty"`
}

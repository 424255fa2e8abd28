package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/hearth-run/hearth/subjects"
)

// HeaderMsgID is JetStream's: an event with an id that the stream has seen within its window is not taken again.
const HeaderMsgID = "Nats-Msg-Id"

// HeaderDuplicate says "true" over HTTP where an event was accepted before under the same id, and nothing new was.
const HeaderDuplicate = "Hearth-Duplicate"

// MaxMsgID is the longest id that a caller may give an event, in bytes.
const MaxMsgID = 256

// ScopeMsgID is the id under which the stream compares an event: of this function and sub-tenant alone, so that nobody drops
// another's events by guessing their ids. Each name is one token, so no two of them read the same. "" is no id. The error is
// a [CodeInvalidParameter] that names [HeaderMsgID]. DESIGN 4.
func ScopeMsgID(function, tenant, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	if len(id) > MaxMsgID {
		return "", Invalid(FieldError{HeaderMsgID, strconv.Itoa(len(id)) + " bytes", "at most " + strconv.Itoa(MaxMsgID) + " bytes"})
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] >= 0x7f {
			return "", Invalid(FieldError{HeaderMsgID, clip(id), "printable ASCII without blanks"})
		}
	}
	return function + "/" + subjects.Escape(tenant) + "/" + id, nil
}

// EventTooLarge is the refusal of a payload that no event may have, in Lambda's words (B2).
func EventTooLarge(bytes int) error {
	return Errorf(CodeTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)", bytes, MaxEventPayload)
}

// Accepted is the promise that an event will run, or come to its dead letter: the stream has it.
type Accepted struct {
	RequestID string // of all its tries; "" for a duplicate, whose first event has its own
	Sequence  uint64 // in the stream of events: of a duplicate, the first event's
	Duplicate bool   // accepted before, under the same id
}

// The error codes with which JetStream refuses a message for want of room, or for its size (nats-server errors.json).
const (
	jsInsufficient    = 10023
	jsStorageExceeded = 10047
	jsMessageTooLarge = 10054
	jsStoreFailed     = JSStoreFailed
	jsTooManyRequests = 10167
)

// JSStoreFailed is JetStream's error code of a stream that is full, or cannot write.
const JSStoreFailed = 10077

// ReadAccepted reads the PubAck of an event. What the stream refused has certainly not been accepted: [CodeCapacityExceeded]
// where it is full, [CodeTooLarge], else [CodeUnavailable].
func ReadAccepted(pubAck []byte) (Accepted, error) {
	if sequence, ok := plainPubAck(pubAck); ok {
		return Accepted{Sequence: sequence}, nil
	}
	var ack struct {
		Stream    string `json:"stream"`
		Sequence  uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	err := json.Unmarshal(pubAck, &ack)
	switch {
	case err == nil && ack.Error == nil && ack.Stream != "" && ack.Sequence > 0:
		return Accepted{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
	case err != nil || ack.Error == nil:
		return Accepted{}, &Error{Code: CodeUnavailable, Message: "what took the event is no stream", Cause: err}
	}
	why := fmt.Sprintf("%s (%d)", ack.Error.Description, ack.Error.Code)
	switch ack.Error.Code {
	case jsStoreFailed, jsInsufficient, jsStorageExceeded, jsTooManyRequests:
		return Accepted{}, Errorf(CodeCapacityExceeded, "the stream of events is full, so the event was not accepted: %s; `hearth events` shows what waits", why)
	case jsMessageTooLarge:
		return Accepted{}, Errorf(CodeTooLarge, "the stream of events does not take messages of this size")
	}
	return Accepted{}, Errorf(CodeUnavailable, "the stream of events refused it: %s", why)
}

// plainPubAck reads the PubAck of a message that was stored, `{"stream":"NAME","seq":7}` and no byte else, without decoding JSON:
// that was a twelfth of the CPU of handing in an event, server and all. Whatever reads otherwise is left to the decoder.
func plainPubAck(b []byte) (sequence uint64, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"stream":"`))
	end := bytes.IndexByte(rest, '"')
	if !ok || end <= 0 || bytes.ContainsFunc(rest[:end], func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
		return 0, false
	}
	if rest, ok = bytes.CutPrefix(rest[end+1:], []byte(`,"seq":`)); !ok {
		return 0, false
	}
	const digits = 19 // more may not fit
	n := len(rest) - 1
	if n < 1 || n > digits || rest[n] != '}' || rest[0] == '0' {
		return 0, false
	}
	for _, c := range rest[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		sequence = sequence*10 + uint64(c-'0')
	}
	return sequence, true
}

package frontend

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// Kinds of inboxes, one letter each after `_HF.<frontend>.`; those of one call end in its token.
const (
	kindPublish = 'p' // PubAck of a call's publication
	kindAnswer  = 'a' // answer for a caller of this process, HTTP or a poller; subjects.AnswerKind
	kindDelete  = 'd' // what became of the delete at its start-by
	kindLook    = 'g' // whether its message is still in the stream
	kindStream  = 'i' // a stream of calls after a reconnect; ends in its number
	kindEnds    = 'e' // schema.Ends
	kindEndsNow = 't' // the same of one call whose sub-tenant is limited, before its answer: it comes to the queue of statuses
	kindBeat    = 'b' // schema.Beat
	kindLevel   = 'l' // schema.LevelOrder
	kindFetch   = 'f' // a claimer asks for the payload of the call that it has claimed

	kindDeleteReserved = 'D' // the same of a message in a shard of reserved arcs: moved.go
	kindLookReserved   = 'G'
)

// Error codes of JetStream (server/errors.json) that decide something.
const (
	jsMemoryExceeded   = 10028
	jsNoMessage        = 10037
	jsSequenceNotFound = 10043
	jsInsufficient     = 10023
	jsMessageTooLarge  = 10054
	jsStreamNotFound   = 10059
	jsStoreFailed      = 10077 // full: "maximum messages exceeded", "maximum messages per subject exceeded", "maximum bytes exceeded"
	jsTooManyRequests  = 10167
)

// received dispatches everything that comes to this frontend's inboxes. There is one subscription, so what one
// connection sent in order is looked at in order. Only nodes of the fabric and the server may publish here, and tokens
// cannot be guessed; still, what cannot be read is dropped.
func (f *Frontend) received(m *nats.Msg) {
	rest := m.Subject[len(f.inbox):]
	if len(rest) == 1 {
		switch rest[0] {
		case kindEnds:
			f.told(m)
		case kindBeat:
			var b schema.Beat
			if err := schema.Unmarshal(m.Data, &b); err != nil {
				f.log.Warn("beat cannot be read", "error", err)
				return
			}
			tick := f.clock.now()
			f.view.beat(b.Manager, tick)
			f.pending.named(&b, tick)
		case kindLevel:
			f.setLevel(m)
		}
		return
	}
	if len(rest) != 2+tokenDigits || rest[1] != '.' {
		return
	}
	token, ok := parseToken(rest[2:])
	if !ok {
		return
	}
	switch rest[0] {
	case kindPublish:
		f.published(token, m)
	case kindAnswer:
		if !f.pending.answered(token, m) {
			f.counters.unclaimed.Add(1)
		}
	case kindDelete, kindDeleteReserved:
		f.deleted(token, rest[0] == kindDeleteReserved, m)
	case kindLook, kindLookReserved:
		f.looked(token, rest[0] == kindLookReserved, m)
	case kindStream:
		f.streamSeen(token, m)
	case kindFetch:
		f.asked(token, m.Reply)
	}
}

// told takes in which calls have ended.
func (f *Frontend) told(m *nats.Msg) {
	var e schema.Ends
	if err := schema.Unmarshal(m.Data, &e); err != nil {
		f.log.Warn("end notice cannot be read", "error", err)
		return
	}
	tick := f.clock.now()
	for i, token := range e.Tokens {
		f.pending.end(token, tick, howMarked(e.Mark(i), e.Manager))
	}
}

// published takes in the PubAck of a call: where it lies, or why the stream did not take it, which the caller hears at
// once unless the unreserved arc is still to be asked.
func (f *Frontend) published(token uint64, m *nats.Msg) {
	if name, sequence, ok := pubAck(m.Data); ok {
		if s := f.streamNamed(name); s != nil {
			f.stored(token, s, sequence)
		}
		return
	}
	if f.spill(token, crowded(m)) {
		return
	}
	c := f.pending.take(token, true)
	if c == nil {
		return
	}
	if m.Header.Get("Status") == "503" {
		c.stream.asked.Store(true) // whatever stands there next is another one
	}
	f.refuse(c, f.notStored(m))
}

// notStored says why a publication was refused. Each of these means that the call did certainly not start.
func (f *Frontend) notStored(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "503":
		return &schema.Error{Code: schema.CodeUnavailable, Message: "the stream of calls is not there"}
	case "429":
		return full("the server's queue of calls is full")
	case "":
	default:
		return &schema.Error{Code: schema.CodeUnavailable, Message: "the call was not taken: status " + status}
	}
	e, ok := apiError(m.Data)
	if !ok {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "the stream of calls answered what cannot be read"}
	}
	switch e.ErrCode {
	case jsStoreFailed, jsInsufficient, jsMemoryExceeded, jsTooManyRequests:
		return full("the stream of calls is full: " + e.Description)
	case jsMessageTooLarge:
		return &schema.Error{Code: schema.CodeTooLarge, Message: "the stream of calls does not take messages of this size"}
	}
	return &schema.Error{
		Code: schema.CodeUnavailable, Message: fmt.Sprintf("the stream of calls refused it: %s (%d)", e.Description, e.ErrCode),
	}
}

func full(why string) error {
	return &schema.Error{Code: schema.CodeCapacityExceeded, Message: why}
}

var (
	streamKey   = []byte(`{"stream":"`)
	sequenceKey = []byte(`"seq":`)
)

// pubAck reads the stream and the sequence of a good PubAck, `{"stream":"HEARTH_CALLS_U","seq":17}`, without decoding JSON:
// it stands on the way of every call. Names of streams hold no quote, so the first key is the key. Anything else, and
// every error, is left to [apiError].
func pubAck(b []byte) (stream []byte, sequence uint64, ok bool) {
	rest, ok := bytes.CutPrefix(b, streamKey)
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		return nil, 0, false
	}
	at := bytes.Index(b, sequenceKey)
	if at < 0 {
		return nil, 0, false
	}
	var v uint64
	digits := 0
	for _, c := range bytes.TrimLeft(b[at+len(sequenceKey):], " ") {
		if c < '0' || c > '9' {
			break
		}
		v = v*10 + uint64(c-'0')
		digits++
	}
	return rest[:end], v, digits > 0 && digits < 20 && v > 0
}

// jsError is the error member of JetStream's answers.
type jsError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// apiError reads the error of an answer of JetStream; false if it is none.
func apiError(b []byte) (jsError, bool) {
	var answer struct {
		Error *jsError `json:"error"`
	}
	if json.Unmarshal(b, &answer) != nil || answer.Error == nil {
		return jsError{}, false
	}
	return *answer.Error, true
}

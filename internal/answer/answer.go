// Package answer writes what a caller is told of a call: one message with everything that DESIGN 9 lists, or a function error
// where nothing else can be said. A worker answers what it ran; the manager of workers that are processes of their own answers
// what none of them can.
package answer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// ErrNowhere says that a call's reply is no inbox that may be answered.
var ErrNowhere = errors.New("the reply is no inbox that may be answered")

// Publish publishes the answer of a run by publish, which must not keep the message; ran says that an environment ran it. It
// never publishes nothing: an answer that the NATS server does not take becomes a function error.
func Publish(publish func(*nats.Msg) error, run *schema.Run, o *schema.Outcome, ran bool) error {
	if !subjects.FabricReplyAllowed(run.Call.Reply) {
		return ErrNowhere
	}
	m := messages.Get().(*message)
	defer m.recycle()
	m.write(run, o, ran)
	err := publish(&m.msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		f := &schema.FunctionError{Type: string(schema.CodeResponseTooLarge), Message: fmt.Sprintf(
			"Response payload size (%d bytes) exceeded the maximum payload size of the NATS server.", len(o.Payload))}
		f.Body = ErrorBody(run.Call.RequestID, f)
		m.clear()
		m.write(run, &schema.Outcome{Error: f, Duration: o.Duration}, ran)
		err = publish(&m.msg)
	}
	return err
}

// message is an answer's NATS message with room for its headers, used again: made anew for each call, the map of lists
// costs 2 KB, five allocations and half of the worker's own time (BenchmarkNull: 2.4 us against 1.3).
type message struct {
	msg    nats.Msg
	values [18]string
	used   int
}

// messages lends them to all workers of a process; one holds nothing of a call once it is back.
var messages = sync.Pool{New: func() any { return &message{msg: nats.Msg{Header: make(nats.Header, 18)}} }}

func (m *message) recycle() {
	m.clear()
	messages.Put(m)
}

func (m *message) clear() {
	clear(m.msg.Header)
	clear(m.values[:m.used])
	m.used = 0
	m.msg.Subject, m.msg.Data = "", nil
}

// set sets a header, unless it is empty or cannot stand in one.
func (m *message) set(name, value string) {
	if value == "" || !printable(value) {
		return
	}
	i := m.used
	m.used++
	m.values[i] = value
	m.msg.Header[name] = m.values[i : i+1 : i+1]
}

func (m *message) write(run *schema.Run, o *schema.Outcome, ran bool) {
	call := run.Call
	m.msg.Subject, m.msg.Data = call.Reply, o.Payload
	content := o.ContentType
	if o.Error != nil {
		m.msg.Data = o.Error.Body
		m.set(schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
		m.set(schema.HeaderPlatformError, string(o.Error.PlatformCode()))
	}
	if content == "" {
		content = "application/json"
	}
	m.set(schema.HeaderContentType, content)
	m.set(schema.HeaderRequestID, call.RequestID)
	m.set(schema.HeaderExecutedVersion, call.Version)
	m.set(schema.HeaderTenant, call.Tenant)
	m.set(schema.HeaderEnvironment, run.Environment)
	m.set(schema.HeaderManager, run.Manager)
	m.set(schema.HeaderArc, run.Arc)
	m.set(schema.HeaderRank, strconv.Itoa(run.Rank))
	m.set(schema.HeaderReason, string(call.Reason))
	m.set(schema.HeaderStart, string(run.Start))
	m.set(schema.HeaderAttempt, strconv.FormatUint(uint64(max(call.Attempt, 1)), 10))
	if ran {
		m.set(schema.HeaderDuration, duration(o.Duration))
	}
	if run.InitDuration > 0 && run.Start == schema.StartCold {
		m.set(schema.HeaderInitDuration, duration(run.InitDuration))
	}
	if len(o.LogTail) > 0 {
		m.set(schema.HeaderLogResult, base64.StdEncoding.EncodeToString(o.LogTail))
	}
}

// duration is a Go duration with "us" for microseconds: headers are ASCII, and [time.ParseDuration] reads both.
func duration(d time.Duration) string {
	s := d.String()
	if number, ok := strings.CutSuffix(s, "µs"); ok {
		return number + "us"
	}
	return s
}

// printable reports whether a value may stand in a header as it is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ErrorBody is the JSON of a failure that no runtime wrote. What the platform says of a sandbox names the request, as
// Lambda does (A7); a function that posted a type and no body does not speak so.
func ErrorBody(requestID string, f *schema.FunctionError) []byte {
	message := f.Message
	switch f.PlatformCode() {
	case schema.CodeExitError, schema.CodeOutOfMemory, schema.CodeTimedOut, schema.CodeInvalidEntrypoint, schema.CodeInitError:
		message = "RequestId: " + requestID + " Error: " + message
	}
	body, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{f.Type, message})
	if err != nil {
		panic(fmt.Sprintf("answer: two strings do not encode: %v", err))
	}
	return body
}

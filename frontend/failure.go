package frontend

import (
	"bytes"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// timedOut reports whether an answer says that the function's time-out was over. What a function calls its own failure says no such
// thing, whatever it reads like.
func timedOut(m *nats.Msg) bool {
	return m.Header.Get(schema.HeaderPlatformError) == string(schema.CodeTimedOut)
}

// failureOf is what an answer that is an error of the function or its runtime calls it: the platform's code, or the function's own
// name for it (telemetry.ErrorName), which everybody on the host reads.
func failureOf(m *nats.Msg) string {
	if code := schema.Code(m.Header.Get(schema.HeaderPlatformError)); code.Known() {
		return string(code)
	}
	return telemetry.ErrorName(errorType(m.Data))
}

// errorLook is how much of a failure is looked through for its name: runtimes write it first, or after one message. The rest may be
// megabytes, and calls wait while it is read.
const errorLook = 8 << 10

// errorType is the member errorType of Lambda's error object, "" where none is found: a function may fail with anything.
func errorType(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body[:min(len(body), errorLook)]))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return "" // cut off, too
		}
		if key != "errorType" {
			continue
		}
		var name string
		_ = json.Unmarshal(value, &name) // none, where it is no string
		return name
	}
	return ""
}

package lambdaapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// requestIDHeader is spelt as Lambda does; net/http would write it otherwise.
const requestIDHeader = "x-amzn-RequestId"

// WriteError answers with the JSON body, status and headers that Lambda's clients read (B2). An empty request id gets a
// new one: every client prints it. It stands under Hearth's name too, as in answers and in refusals over NATS. An error
// without a code says nothing of its cause.
func WriteError(w http.ResponseWriter, requestID string, err error) {
	e := new(schema.Error)
	if !errors.As(err, &e) {
		e = &schema.Error{Code: schema.CodeInternal, Message: "internal error"}
	}
	row := e.Code.Row()
	h := w.Header()
	h["X-Amzn-ErrorType"] = []string{row.LambdaTypeName()}
	if requestID == "" {
		requestID = newRequestID()
	}
	h[requestIDHeader], h[schema.HeaderRequestID] = []string{requestID}, []string{requestID}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if row.Retriable {
		h.Set("Retry-After", retryAfter(e, row))
	}
	body, _ := json.Marshal(schema.APIErrorOf(e)) // text and numbers: cannot fail
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(row.Status)
	_, _ = w.Write(body) // the caller has gone
}

func newRequestID() string { return uuid.NewString() }

// retryAfter is the hint in whole seconds, rounded up: the JavaScript SDK really waits that long.
func retryAfter(e *schema.Error, row schema.Row) string {
	hint := e.Retry
	if hint <= 0 {
		hint = row.Hint
	}
	return strconv.Itoa(max(1, int((hint+time.Second-1)/time.Second)))
}

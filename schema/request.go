package schema

import "time"

// Request is what a caller asks of a frontend, by whichever door it came: one sync call of a function. The door has
// checked what only it can see (headers, forms of names); the frontend's admission checks the rest. DESIGN 3.
type Request struct {
	Account   string // subjects.DefaultAccount unless the door knows better
	Function  string
	Qualifier string // "" means [Latest]
	Tenant    string // sub-tenant, "" if none was named

	// TenantBySubject says that the subject named Tenant, which NATS permissions restrict; a header is never identity
	// (SECURITY 5).
	TenantBySubject bool

	// Token is the caller's, "" if it sent none. It is looked at where the tenant policy asks for one, and goes no further.
	Token string

	RequestID     string // a UUID that the caller drew, so that it can name the call whatever becomes of its answer; "": drawn here
	Payload       []byte
	Timeout       time.Duration // how long the caller waits; 0: it did not say
	LogTail       bool
	ClientContext []byte // decoded JSON, "" if none
	Traceparent   string // W3C, "" if none
	Tracestate    string
}

// MaxTimeout is the longest time-out that a caller may name in [HeaderTimeout], that of Lambda's longest call.
const MaxTimeout = 15 * time.Minute

// MaxClientContext is the longest client context, in bytes (Lambda B4).
const MaxClientContext = 3583

// Answer is what a sync call came to: the function's own answer or its error, told apart by [HeaderFunctionError].
// It is what a worker sent, byte for byte; callers only read it.
type Answer struct {
	RequestID string
	Header    map[string][]string // the headers of answers, under their exact names
	Payload   []byte
}

// Get is the value of a header by its exact name, "" if it is absent.
func (a *Answer) Get(header string) string {
	if v := a.Header[header]; len(v) > 0 {
		return v[0]
	}
	return ""
}

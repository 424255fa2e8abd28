package lambdaapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// Invoker takes calls and events; the frontend is one. Invoke runs one call and waits for its answer: an error is a refusal,
// with an answer that holds the request id alone; the cause of ctx comes back when the caller has gone. Accept
// hands an event in, under an id of the caller's that may be ""; Check says whether either would be taken. Both leave the request id of
// a refusal in r.
type Invoker interface {
	Invoke(ctx context.Context, r *schema.Request) (*schema.Answer, error)
	Accept(ctx context.Context, r *schema.Request, id string) (schema.Accepted, error)
	Check(ctx context.Context, r *schema.Request) error
}

// Handler serves the Lambda API. It is safe for concurrent use.
type Handler struct {
	invoker Invoker
	bodies  budget
}

// New makes a handler that runs calls by invoker.
func New(invoker Invoker) *Handler {
	return &Handler{invoker: invoker, bodies: budget{limit: bodyBudget}}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, params, known, err := route(r.Method, r.URL.EscapedPath())
	if len(known) > 0 { // a client is told what it may do (RFC 9110, 15.5.6)
		w.Header().Set("Allow", strings.Join(known, ", "))
	}
	if err == nil {
		switch op.name {
		case opInvoke:
			h.invoke(w, r, params)
			return
		case opInvokeAsync:
			h.invokeAsync(w, r, params)
			return
		}
		err = notServed(op)
	}
	refuse(w, r, err)
}

// NotServed refuses an operation of Lambda's API by its name as this door does, for the others. It is nil for names that are not in
// Lambda's API, as far as this door knows them.
func NotServed(name string) error {
	all := operations()
	if i := slices.IndexFunc(all, func(op operation) bool { return op.name == name }); i >= 0 {
		return notServed(all[i])
	}
	return nil
}

// notServed refuses an operation by its name, and says what to use instead where there is something.
func notServed(op operation) error {
	switch {
	case op.never:
		return schema.Errorf(schema.CodeInvalidParameter, "%s has no meaning in Hearth and is not served", op.name)
	case op.control:
		return schema.Errorf(schema.CodeInvalidParameter,
			"%s is not served over HTTP yet; use the hearth command, or the control service on NATS (%s)", op.name, op.name)
	}
	return schema.Errorf(schema.CodeInvalidParameter, "%s is not served yet", op.name)
}

// route finds the operation of a method and an escaped path, and the decoded values of the path's names. Where the method is not the
// path's, known has those that are.
func route(method, path string) (op operation, params map[string]string, known []string, err error) {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	for _, op := range operations() {
		params, ok := match(op.path, parts)
		if !ok {
			continue
		}
		if op.method == method {
			return op, params, nil, nil
		}
		known = append(known, op.method)
	}
	if len(known) > 0 {
		return operation{}, nil, known, schema.Errorf(schema.CodeMethodNotAllowed, "method %.16q; this path takes %s", method, strings.Join(known, ", "))
	}
	return operation{}, nil, nil, schema.Errorf(schema.CodeUnknownOperation, "no operation of Lambda's API has the path %.200q", path)
}

// match compares a pattern, whose names stand in braces, with the parts of an escaped path.
func match(pattern string, parts []string) (map[string]string, bool) {
	want := strings.Split(pattern, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	params := make(map[string]string)
	for i, w := range want {
		if !strings.HasPrefix(w, "{") {
			if w != parts[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(parts[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[w[1:len(w)-1]] = value
	}
	return params, true
}

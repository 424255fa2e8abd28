package lambdaapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	readTime  = time.Minute // to send a body
	writeTime = time.Minute // to take an answer
)

// invoke serves POST /2015-03-31/functions/{FunctionName}/invocations (B4).
func (h *Handler) invoke(w http.ResponseWriter, r *http.Request, params map[string]string) {
	kind, err := invocationType(r.Header)
	if err == nil && kind != typeCall {
		h.take(w, r, params["FunctionName"], kind)
		return
	}
	var req *schema.Request
	var release func()
	if err == nil {
		req, release, err = h.read(w, r, params["FunctionName"], schema.MaxPayload)
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer release()
	control := http.NewResponseController(w)
	answer, err := h.invoker.Invoke(r.Context(), req)
	_ = control.SetWriteDeadline(time.Now().Add(writeTime))
	switch {
	case err == nil:
		writeAnswer(w, answer)
	case r.Context().Err() != nil && !errors.As(err, new(*schema.Error)):
		// The caller has gone: nobody reads what would be written.
	default:
		id := ""
		if answer != nil {
			id = answer.RequestID
		}
		WriteError(w, id, err)
	}
	_ = control.SetWriteDeadline(time.Time{})
}

// read reads the whole request: what it says in path and headers first, then the body, at most so many bytes of it. release
// gives back what the body takes of the bound on all bodies.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, name string, most int) (req *schema.Request, release func(), err error) {
	if req, err = readInvoke(r, name); err != nil {
		return nil, nil, err
	}
	// The deadlines stand on the connection; writers that have none, as in tests, go without.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTime))
	body, release, err := h.readBody(w, r, most)
	if err != nil {
		return nil, nil, err
	}
	_ = control.SetReadDeadline(time.Time{}) // a caller may wait for 15 minutes without a byte
	if req.Payload, err = readPayload(body); err != nil {
		release()
		return nil, nil, err
	}
	return req, release, nil
}

// readInvoke reads everything of the request but its body.
func readInvoke(r *http.Request, name string) (*schema.Request, error) {
	req := &schema.Request{Account: subjects.DefaultAccount}
	var err error
	if req.Function, req.Qualifier, err = schema.ParseFunctionName(name); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, schema.Errorf(schema.CodeInvalidParameter, "the query cannot be read: %w", err)
	}
	if err := readQualifier(req, query); err != nil {
		return nil, err
	}
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	for _, read := range [...]func(*schema.Request, http.Header) error{
		refuseOthers, readLogType, readClientContext, readTenant, readToken, readTimeout, readTrace,
	} {
		if err := read(req, r.Header); err != nil {
			return nil, err
		}
	}
	if r.Header.Get("X-Amz-Durable-Execution-Name") != "" {
		return nil, schema.Invalid(schema.FieldError{Field: "X-Amz-Durable-Execution-Name", Allowed: "durable functions are not served"})
	}
	return req, nil
}

// readQualifier takes in the query's qualifier, which may repeat the name's and not contradict it.
func readQualifier(req *schema.Request, query url.Values) error {
	values := query["Qualifier"]
	switch {
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return schema.Invalid(schema.FieldError{Field: "Qualifier", Got: strconv.Itoa(len(values)) + " values", Allowed: "one value"})
	}
	q := values[0]
	if err := schema.ValidateQualifier(q); err != nil {
		return err
	}
	if req.Qualifier != "" && req.Qualifier != q {
		return schema.Invalid(schema.FieldError{
			Field: "Qualifier", Got: q, Allowed: "the same as in FunctionName, " + strconv.Quote(req.Qualifier) + ", or left out",
		})
	}
	req.Qualifier = q
	return nil
}

// checkContentType lets JSON pass, what SDKs send for it (octet-stream, or nothing at all), and what curl's -d says without
// meaning it: users of Lambda's emulator call it that way. Forms of web pages are refused by the guards before.
func checkContentType(h http.Header) error {
	value := h.Get("Content-Type")
	kind, _, _ := strings.Cut(value, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case kind == "", kind == "application/octet-stream", kind == "application/json", kind == "text/json",
		kind == "application/x-www-form-urlencoded":
		return nil
	case strings.HasPrefix(kind, "application/") && (strings.HasSuffix(kind, "+json") || strings.HasPrefix(kind, "application/x-amz-json")):
		return nil
	}
	return schema.Errorf(schema.CodeUnsupportedMedia, "Content-Type %.80q is not JSON", value)
}

// header is the one value of a header, "" if it is absent.
func header(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", schema.Invalid(schema.FieldError{Field: name, Got: strconv.Itoa(len(values)) + " values", Allowed: "one value"})
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

func readLogType(req *schema.Request, h http.Header) error {
	const name = "X-Amz-Log-Type"
	kind, err := header(h, name)
	switch {
	case err != nil:
		return err
	case kind == "", kind == "None":
		return nil
	case kind == "Tail":
		req.LogTail = true
		return nil
	}
	return schema.Invalid(schema.FieldError{Field: name, Got: clip(kind), Allowed: "None or Tail"})
}

// readClientContext decodes the base64; the frontend's admission looks at the JSON in it.
func readClientContext(req *schema.Request, h http.Header) error {
	const name = "X-Amz-Client-Context"
	text, err := header(h, name)
	if err != nil || text == "" {
		return err
	}
	if len(text) > schema.MaxClientContext {
		return schema.Invalid(schema.FieldError{
			Field: name, Got: strconv.Itoa(len(text)) + " bytes", Allowed: "at most " + strconv.Itoa(schema.MaxClientContext) + " bytes of base64",
		})
	}
	if req.ClientContext, err = base64.StdEncoding.DecodeString(text); err != nil {
		return schema.Invalid(schema.FieldError{Field: name, Allowed: "base64 of a JSON object"})
	}
	return nil
}

func readTenant(req *schema.Request, h http.Header) (err error) {
	req.Tenant, err = header(h, "X-Amz-Tenant-Id")
	return err
}

// readToken takes in the caller's token: as bearers are sent (RFC 6750), or, for SDKs, whose signature stands in that place, in a
// header of its own.
func readToken(req *schema.Request, h http.Header) (err error) {
	if req.Token, err = header(h, schema.HeaderToken); err != nil {
		return err
	}
	for _, value := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		if req.Token != "" {
			return schema.Invalid(schema.FieldError{Field: schema.HeaderToken, Allowed: "one token: here or as Authorization, once"})
		}
		req.Token = strings.TrimSpace(token)
	}
	return nil
}

// readTimeout lets HTTP callers say how long they wait, as NATS callers do.
func readTimeout(req *schema.Request, h http.Header) error {
	text, err := header(h, schema.HeaderTimeout)
	if err != nil || text == "" {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > schema.MaxTimeout {
		return schema.Invalid(schema.FieldError{
			Field: schema.HeaderTimeout, Got: clip(text), Allowed: "a Go duration above 0, at most " + schema.MaxTimeout.String(),
		})
	}
	req.Timeout = d
	return nil
}

// readBody reads the body, at most so many bytes of it; a body that announces more is refused before it is read. What bodies
// in service hold together is bounded; release gives this one's share back.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, most int) (body []byte, release func(), err error) {
	size := r.ContentLength
	if size > int64(most) {
		return nil, nil, tooLarge(size, most)
	}
	if size < 0 {
		size = int64(most)
	}
	if !h.bodies.take(size) {
		return nil, nil, &schema.Error{
			Code: schema.CodeThrottled, Reason: "CallerRateLimitExceeded", Message: "the bodies of the requests in service take too much memory",
		}
	}
	release = func() { h.bodies.give(size) }
	if r.ContentLength >= 0 {
		body = make([]byte, size)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(r.Body, int64(most)+1))
	}
	switch {
	case err == nil && len(body) <= most:
		return body, release, nil
	case err == nil:
		err = tooLarge(int64(len(body)), most) // at least
	default:
		err = schema.Errorf(schema.CodeInvalidRequest, "the body ended early: %w", err)
	}
	release()
	return nil, nil, err
}

func tooLarge(bytes int64, most int) error {
	if most == schema.MaxEventPayload {
		return schema.EventTooLarge(int(bytes))
	}
	return schema.Errorf(schema.CodeTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", schema.MaxPayload)
}

// readPayload is the body as the function sees it: nothing counts as {}, and anything else must be JSON, as on AWS.
func readPayload(body []byte) ([]byte, error) {
	if len(body) == 0 {
		return []byte("{}"), nil
	}
	if json.Valid(body) {
		return body, nil
	}
	var ignored json.RawMessage
	err := json.Unmarshal(body, &ignored)
	return nil, schema.Errorf(schema.CodeInvalidRequest, "Could not parse request body into json: %w", err)
}

// writeAnswer gives a call's answer: its bytes as they came, Lambda's headers, and all of ours.
func writeAnswer(w http.ResponseWriter, a *schema.Answer) {
	h := w.Header()
	for name, values := range a.Header {
		if strings.HasPrefix(name, "Hearth-") && len(values) == 1 {
			h[name] = values
		}
	}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(requestIDHeader, a.RequestID)
	set("X-Amz-Executed-Version", a.Get(schema.HeaderExecutedVersion))
	set("X-Amz-Function-Error", a.Get(schema.HeaderFunctionError))
	set("X-Amz-Log-Result", a.Get(schema.HeaderLogResult))
	set("Content-Type", a.Get(schema.HeaderContentType))
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(a.Payload)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(a.Payload) // the caller has gone
}

// clip shortens what an error repeats of a request.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

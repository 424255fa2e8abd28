package runtimeapi

import (
	"bytes"
	"errors"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// Bounds of a head. Runtimes put up to 1 MiB of X-Ray error cause into one header.
const (
	maxHead  = 1<<20 + 64<<10
	maxID    = 128
	maxValue = 256
)

// route is what a request asks for.
type route uint8

const (
	routeUnknown route = iota
	routeNext
	routeResponse
	routeError
	routeInitError
	routePing
	routeRegister
	routeExtensionNext
	routeExtensionError
	routeLogs
	routeTelemetry
	routeToken
)

// request is the head of a request, reduced to what the server acts on. It is used again for the next one.
type request struct {
	method    method
	route     route
	id        [maxID]byte
	idLen     int // longer than the array: no call's id
	length    int64
	chunked   bool
	close     bool
	expect    bool // the client waits for "100 Continue"
	content   string
	errorType string
	mode      string // of the response: "" or "streaming"
	extension string // its name, or its identifier
	features  string
	together  bool // a next that wants the answers before it with its own

	sized, framed bool // Content-Length, Transfer-Encoding were there

	ask *tokenAsk // of a request for a token, which alone looks at more
}

// method is a request's method, as far as the routes know it.
type method uint8

const (
	methodOther method = iota
	methodGet
	methodPost
	methodPut
)

// badRequest is a head that is refused; the connection ends with the answer.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

func (r *request) callID() []byte {
	if r.idLen > maxID {
		return nil
	}
	return r.id[:r.idLen]
}

// hasBody reports whether a body follows the head.
func (r *request) hasBody() bool { return r.chunked || r.length > 0 }

// readHead reads the next request's head into c.req. A *badRequest is to be answered, any other error ends the connection.
func (c *connection) readHead() error {
	c.req = request{}
	left := maxHead
	line, err := c.in.line(&left)
	for err == nil && len(line) == 0 { // blank lines before a request are allowed
		line, err = c.in.line(&left)
	}
	if errors.Is(err, errLong) {
		return &badRequest{414, "the request line is too long"}
	}
	if err != nil {
		return err
	}
	if err := c.req.parseLine(line); err != nil {
		return err
	}
	for {
		line, err := c.in.line(&left)
		if errors.Is(err, errLong) && left > 0 {
			if err = c.skipHeader(&left); err == nil {
				continue
			}
		}
		switch {
		case errors.Is(err, errLong):
			return &badRequest{431, "the headers are too long"}
		case err != nil:
			return err
		case len(line) == 0:
			return c.req.check()
		}
		if err := c.req.header(line); err != nil {
			return err
		}
	}
}

// skipHeader passes over a header that does not fit the buffer, if it is none that the server acts on.
func (c *connection) skipHeader(left *int) error {
	name, _, ok := bytes.Cut(c.in.buf[c.in.r:c.in.w], []byte(":"))
	if !ok || known(name) || c.req.ask != nil {
		return errLong
	}
	return c.in.rest(left, nil)
}

func (r *request) parseLine(line []byte) error {
	const lean = "GET /2018-06-01/runtime/invocation/next HTTP/1.1"
	if string(line) == lean {
		r.method, r.route = methodGet, routeNext
		return nil
	}
	verb, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(verb) == 0 {
		return &badRequest{400, "this is no HTTP request"}
	}
	target, version, ok := bytes.Cut(rest, []byte(" "))
	if !ok || string(version) != "HTTP/1.1" {
		return &badRequest{400, "the Runtime API speaks HTTP/1.1"}
	}
	for _, b := range target {
		if b <= ' ' || b >= 0x7f {
			return &badRequest{400, "the request target is malformed"}
		}
	}
	switch string(verb) {
	case "GET":
		r.method = methodGet
	case "POST":
		r.method = methodPost
	case "PUT":
		r.method = methodPut
	}
	return r.parseTarget(target)
}

func (r *request) parseTarget(target []byte) error {
	whole := target
	if after, ok := bytes.CutPrefix(target, []byte("http://")); ok { // absolute form
		i := bytes.IndexByte(after, '/')
		if i < 0 {
			return &badRequest{400, "the request target is malformed"}
		}
		target = after[i:]
	}
	if len(target) == 0 || target[0] != '/' {
		return &badRequest{400, "the request target is malformed"}
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	if call, ok := bytes.CutPrefix(target, []byte("/2018-06-01/runtime/invocation/")); ok {
		id, verb, ok := bytes.Cut(call, []byte("/"))
		switch {
		case !ok && string(id) == "next":
			r.route = routeNext
		case ok && string(verb) == "response":
			r.route = routeResponse
		case ok && string(verb) == "error":
			r.route = routeError
		}
		if ok {
			r.idLen = len(id)
			copy(r.id[:], id)
		}
		return nil
	}
	switch string(target) {
	case "/2018-06-01/runtime/init/error":
		r.route = routeInitError
	case "/ping", "/2018-06-01/ping":
		r.route = routePing
	case "/2020-01-01/extension/register":
		r.route = routeRegister
	case "/2020-01-01/extension/event/next":
		r.route = routeExtensionNext
	case "/2020-01-01/extension/init/error", "/2020-01-01/extension/exit/error":
		r.route = routeExtensionError
	case "/2020-08-15/logs":
		r.route = routeLogs
	case "/2022-07-01/telemetry":
		r.route = routeTelemetry
	case schema.TokenPath:
		r.route, r.ask = routeToken, &tokenAsk{odd: len(whole) != len(schema.TokenPath)}
	}
	return nil
}

// The headers that the server acts on, in lower case.
const (
	headerLength    = "content-length"
	headerEncoding  = "transfer-encoding"
	headerClose     = "connection"
	headerExpect    = "expect"
	headerContent   = "content-type"
	headerErrorType = "lambda-runtime-function-error-type"
	headerErrorBody = "lambda-runtime-function-error-body" // a trailer only
	headerMode      = "lambda-runtime-function-response-mode"
	headerExtension = "lambda-extension-name"
	headerIdentity  = "lambda-extension-identifier"
	headerFeature   = "lambda-extension-accept-feature"
	headerAnswers   = "hearth-runtime-answers" // "together": see doc.go
)

var errHeader = &badRequest{400, "a header is malformed"}

func (r *request) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !token(name) {
		return errHeader // folded lines too: obsolete, and a way to smuggle
	}
	value = bytes.Trim(value, " \t")
	switch {
	case is(name, headerContent):
		r.content = contentType(value)
	case is(name, headerLength):
		n, ok := decimal(value)
		if !ok || r.sized && n != r.length {
			return &badRequest{400, "Content-Length is malformed"}
		}
		r.sized, r.length = true, n
	case is(name, headerEncoding):
		if r.framed || !is(value, "chunked") {
			return &badRequest{501, "the transfer encoding is not supported"}
		}
		r.framed, r.chunked = true, true
	case is(name, headerClose):
		for option := range bytes.SplitSeq(value, []byte(",")) {
			if is(bytes.Trim(option, " \t"), "close") {
				r.close = true
			}
		}
	case is(name, headerExpect):
		if !is(value, "100-continue") {
			return &badRequest{417, "the expectation is not supported"}
		}
		r.expect = true
	case is(name, headerErrorType):
		r.errorType = short(value)
	case is(name, headerMode):
		r.mode = short(value)
	case is(name, headerExtension), is(name, headerIdentity):
		r.extension = short(value)
	case is(name, headerFeature):
		r.features = short(value)
	case is(name, headerAnswers):
		r.together = is(value, "together")
	case r.ask != nil:
		r.ask.header(name, value)
	}
	return nil
}

// check judges the head as a whole.
func (r *request) check() error {
	if r.sized && r.framed {
		return &badRequest{400, "a request has Content-Length or Transfer-Encoding, not both"}
	}
	return nil
}

// known reports whether a header is one that the server acts on.
func known(name []byte) bool {
	for _, h := range [...]string{headerLength, headerEncoding, headerClose, headerExpect, headerContent, headerErrorType,
		headerErrorBody, headerMode, headerExtension, headerIdentity, headerFeature, headerAnswers} {
		if is(name, h) {
			return true
		}
	}
	return false
}

// is compares without case; lower is ASCII in lower case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

// token reports whether a header's name is one.
func token(name []byte) bool {
	for _, b := range name {
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, b) >= 0 {
			return false
		}
	}
	return len(name) > 0
}

// decimal reads a length: digits alone, below 2^53.
func decimal(value []byte) (n int64, ok bool) {
	if len(value) == 0 || len(value) > 15 {
		return 0, false
	}
	for _, b := range value {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// contentType copies a content type; the usual ones are not allocated. One that could not stand in a header of ours is
// none.
func contentType(value []byte) string {
	switch string(value) {
	case "application/json":
		return "application/json"
	case "application/octet-stream":
		return "application/octet-stream"
	case "application/unknown":
		return "application/unknown"
	}
	return short(value)
}

// short copies a value that may stand in a header of ours, "" for any other.
func short(value []byte) string {
	if len(value) > maxValue {
		return ""
	}
	for _, b := range value {
		if b < ' ' || b > '~' {
			return ""
		}
	}
	return string(value)
}

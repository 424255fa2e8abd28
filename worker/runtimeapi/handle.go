package runtimeapi

import (
	"errors"
	"fmt"

	"github.com/hearth-run/hearth/schema"
)

// handle answers the request whose head is in c.req, and reads its body. It reports false when the connection ends.
func (c *connection) handle() bool {
	r := &c.req
	if want, ok := methodOf(r.route); ok && r.method != want {
		return c.dropped(405, "MethodNotAllowed", "the method is not allowed here")
	}
	switch r.route {
	case routeNext:
		return c.next()
	case routeResponse:
		return c.answer(false)
	case routeError:
		return c.answer(true)
	case routeInitError:
		return c.initError()
	case routePing:
		ok := c.discard()
		c.out.reply(200, "", "text/plain", []byte("pong"), r.close || !ok)
		return ok && !r.close
	case routeRegister, routeExtensionNext, routeExtensionError, routeLogs, routeTelemetry:
		return c.extension()
	case routeToken:
		if c.server.cfg.TokenAuth != "" {
			return c.token()
		}
	}
	return c.dropped(404, "NotFound", "the Runtime API has no such path")
}

func methodOf(r route) (method, bool) {
	switch r {
	case routeNext, routePing, routeExtensionNext:
		return methodGet, true
	case routeResponse, routeError, routeInitError, routeRegister, routeExtensionError, routeToken:
		return methodPost, true
	case routeLogs, routeTelemetry:
		return methodPut, true
	}
	return methodOther, false
}

// dropped refuses a request, and passes over its body.
func (c *connection) dropped(status int, errorType, text string) bool {
	last := c.req.close
	kept := c.discard()
	c.out.fail(status, errorType, text, last || !kept)
	return kept && !last
}

// next parks the connection or writes the call that waits for it.
func (c *connection) next() bool {
	if c.req.hasBody() && !c.discard() {
		return false
	}
	last := c.req.close
	c.out.settle()
	c.asked, c.together = true, c.req.together
	var call Invocation
	switch parked, was := c.server.state.park(c, last, &call); parked {
	case parkRefused:
		c.asked = false
		c.out.fail(403, "InvalidStateTransition", transition(was, idle.String()), last)
		return !last
	case parkDelivered:
		c.asked = false
		c.out.queue(&call, last)
	case parkFirst:
		c.server.cfg.Events.Parked(true)
	case parkReturned:
		c.server.cfg.Events.Parked(false)
	}
	return true
}

// transition is the text of AWS's emulator for a request that comes at the wrong time.
func transition(from phase, to string) string {
	return fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to)
}

// answer takes the response to a call, or its error.
func (c *connection) answer(failed bool) bool {
	ok, known, was := c.server.state.claim(c.req.callID())
	switch {
	case !known:
		return c.dropped(400, "InvalidRequestID", "Invalid request ID")
	case !ok && failed:
		return c.dropped(403, "InvalidStateTransition", transition(was, "InvocationErrorResponse"))
	case !ok:
		return c.dropped(403, "InvalidStateTransition", transition(was, "InvocationResponse"))
	}
	if !failed && c.req.mode != "" && c.req.mode != "streaming" {
		c.tell(&Answer{Error: &schema.FunctionError{Type: string(schema.CodeInvalidMode),
			Message: "Invalid function response mode"}}, false)
		return c.dropped(400, "InvalidFunctionResponseMode", "Invalid function response mode")
	}

	var b body
	defer c.release(&b)
	err := c.readBody(&b, c.server.cfg.MaxAnswer)
	switch {
	case errors.Is(err, errTooLarge):
		c.tell(&Answer{Error: c.tooLarge(b.size)}, false)
		return c.dropped(413, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", c.server.cfg.MaxAnswer))
	case errors.Is(err, errTruncated):
		c.tell(&Answer{Broken: true, Error: &schema.FunctionError{Type: string(schema.CodeTruncatedResponse),
			Message: "The runtime cut its answer off"}}, false)
		c.out.fail(400, "TruncatedHTTPRequest", "HTTP request detected as truncated", true)
		return false
	case err != nil: // the server was closed
		return false
	}

	a := &c.posted
	*a = Answer{Payload: b.bytes, ContentType: c.req.content}
	switch {
	case failed:
		a.Error = postedError(c.req.errorType, c.req.content, b.bytes)
	case b.trailer.errorType != "" || len(b.trailer.errorBody) > 0:
		a.Error = postedError(b.trailer.errorType, "", b.trailer.errorBody)
	}
	last := c.req.close
	c.out.accepted(last)
	// From here on the environment may be given its next call, which then goes out behind the 202 in one write.
	c.tell(a, !last && c.lean())
	*a = Answer{}
	return !last
}

// tell hands an answer on. A call that was ended meanwhile, by its time-out for instance, is not answered again.
func (c *connection) tell(a *Answer, next bool) {
	parked, ok := c.server.state.answer(c, next)
	if !ok {
		return
	}
	a.Parked = parked
	c.server.cfg.Events.Answered(a)
}

// leanNext is how a runtime's request for its next call begins.
const leanNext = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n"

// lean reports whether the runtime has asked for its next call in the same write as its answer. The head is read then;
// where it is anything else than a plain next, it stays for the loop.
func (c *connection) lean() bool {
	// Only a head that is here to its end: to read more would move the answer, which lies in the same buffer.
	if !c.in.startsWith(leanNext) || !c.in.contains("\r\n\r\n") {
		return false
	}
	if err := c.readHead(); err != nil {
		var bad *badRequest
		if errors.As(err, &bad) {
			c.bad = bad
		}
		return false
	}
	if c.req.route != routeNext || c.req.method != methodGet || c.req.hasBody() || c.req.close {
		c.peeked = true
		return false
	}
	c.asked, c.together = true, c.req.together
	return true
}

func (c *connection) tooLarge(n int64) *schema.FunctionError {
	return &schema.FunctionError{Type: string(schema.CodeResponseTooLarge), Message: fmt.Sprintf(
		"Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes).", n, c.server.cfg.MaxAnswer)}
}

// initError takes the report that the init failed.
func (c *connection) initError() bool {
	if was, ok := c.server.state.fail(); !ok {
		return c.dropped(403, "InvalidStateTransition", transition(was, "InitError"))
	}
	var b body
	defer c.release(&b)
	errorType, last := c.req.errorType, c.req.close
	err := c.readBody(&b, c.server.cfg.MaxAnswer)
	if err != nil {
		// A report that cannot be read is still one.
		b.bytes = nil
	}
	failure := postedError(errorType, c.req.content, b.bytes)
	failure.Body = append([]byte(nil), failure.Body...)
	c.server.cfg.Events.InitFailed(failure)
	if err != nil {
		c.out.fail(400, "TruncatedHTTPRequest", "HTTP request detected as truncated", true)
		return false
	}
	c.out.accepted(last)
	return !last
}

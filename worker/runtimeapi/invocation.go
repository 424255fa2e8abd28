package runtimeapi

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Invocation is one call as the runtime sees it. Empty members leave their header out.
type Invocation struct {
	RequestID     string
	Deadline      time.Time // by the wall clock; the runtime computes its remaining time from it
	Qualifier     string    // as the caller gave it: the end of the ARN
	Traceparent   string    // W3C, of the span in which the function runs; also told as X-Ray's id, as Lambda does. One that is not valid is none
	Tracestate    string
	ClientContext []byte // JSON, decoded
	Tenant        string
	Token         string // of the tenant; pushed in the header Hearth-Tenant-Token
	Payload       []byte // not copied: must not change until the call has ended
}

// syncPayload is the largest payload that Start writes itself; a larger one goes out on a goroutine of the server, since
// copying it into the socket takes long enough to be felt by the caller of Start.
const syncPayload = 64 << 10

// inlinePayload is the largest payload that is copied behind the head, to be one buffer.
const inlinePayload = 2 << 10

// Start gives the environment a call. Its bytes are on their way when Start returns, or go out as soon as the runtime
// asks for a call, if it does not yet. It does not wait for the runtime. Errors: [ErrBusy], [ErrClosed], and [ErrHeader]
// for a request id, qualifier, tenant or token that holds anything but printable ASCII.
func (s *Server) Start(call *Invocation) error {
	if !printable(call.RequestID) || !printable(call.Qualifier) || !printable(call.Tenant) || !printable(call.Token) ||
		call.RequestID == "" {
		return ErrHeader
	}
	c, last, err := s.state.start(call)
	if c != nil {
		c.deliver(call, last)
	}
	return err
}

// Idle reports whether the runtime waits for a call.
func (s *Server) Idle() bool { return s.state.idleNow() }

// appendInvocation appends the head of the answer to next.
func (s *Server) appendInvocation(dst []byte, call *Invocation, last bool) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: "...)
	dst = append(dst, call.RequestID...)
	dst = append(dst, "\r\nLambda-Runtime-Deadline-Ms: "...)
	dst = strconv.AppendInt(dst, call.Deadline.UnixMilli(), 10)
	dst = append(dst, "\r\nLambda-Runtime-Invoked-Function-Arn: "...)
	dst = append(dst, s.cfg.ARN...)
	if call.Qualifier != "" {
		dst = append(dst, ':')
		dst = append(dst, call.Qualifier...)
	}
	dst = appendTrace(dst, call)
	if len(call.ClientContext) > 0 {
		dst = append(dst, "\r\nLambda-Runtime-Client-Context: "...)
		dst = appendOneLine(dst, call.ClientContext)
	}
	if call.Tenant != "" {
		dst = append(dst, "\r\nLambda-Runtime-Aws-Tenant-Id: "...)
		dst = append(dst, call.Tenant...)
	}
	if call.Token != "" {
		dst = append(dst, "\r\nHearth-Tenant-Token: "...)
		dst = append(dst, call.Token...)
	}
	if last {
		dst = append(dst, "\r\nConnection: close"...)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(call.Payload)), 10)
	return append(dst, "\r\n\r\n"...)
}

// appendOneLine appends JSON so that it can stand in a header: control bytes, which JSON has between its tokens only,
// become blanks, and what is not ASCII, which JSON has inside strings only, becomes an escape. So the value is the same,
// whatever encoding a client takes headers for, and can never begin a header of its own.
func appendOneLine(dst, json []byte) []byte {
	const hex = "0123456789abcdef"
	unit := func(u rune) {
		dst = append(dst, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	for i := 0; i < len(json); {
		b := json[i]
		switch {
		case b < ' ' || b == 0x7f:
			dst = append(dst, ' ')
			i++
		case b < utf8.RuneSelf:
			dst = append(dst, b)
			i++
		default:
			r, n := utf8.DecodeRune(json[i:])
			i += n
			if r >= 0x10000 {
				r -= 0x10000
				unit(0xd800 + r>>10)
				r = 0xdc00 + r&0x3ff
			}
			unit(r)
		}
	}
	return dst
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

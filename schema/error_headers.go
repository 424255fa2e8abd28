package schema

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxErrorText bounds the message of an error in a header, so that a refusal never outgrows what it refuses.
const maxErrorText = 2 << 10

// ErrorHeaders are the values of [HeaderErrorCode] and [HeaderError] for err: its HTTP status and "Code: message.
// Advice." in one line, where the message of a throttle ends with its reason and when to come again. An error without a code is a [CodeInternal] whose cause stays in this node's log.
func ErrorHeaders(err error) (status, text string) {
	e := asError(err)
	row := e.Code.Row()
	message := oneLine(e.Message)
	if hint := e.Throttle(); hint != "" {
		message = strings.TrimRight(message, ". ") + hint
	}
	return strconv.Itoa(row.Status), string(e.Code) + ": " + sentence(message) + " " + adviceSentence(row)
}

// Throttle is the reason of a throttle and its hint, as they end a message: " (Reason, retry after 1s)". A refusal with status 429 that
// has no reason of its own, such as a full fabric's, has the one that its HTTP body has. It is "" for everything else.
func (e *Error) Throttle() string {
	row := e.Code.Row()
	reason := reasonOf(e, row)
	if reason == "" {
		return ""
	}
	return " (" + oneLine(reason) + ", retry after " + cmp.Or(e.Retry, row.Hint).Round(time.Millisecond).String() + ")"
}

// reasonOf is the reason of a throttle: its own, else the one that Lambda's clients expect of status 429; the code says which of ours
// it is. It is "" for what is no throttle.
func reasonOf(e *Error, row Row) string {
	if row.Status != 429 {
		return e.Reason
	}
	return cmp.Or(e.Reason, ThrottleConcurrency)
}

// cutThrottle reads and takes off what [Error.Throttle] is.
func cutThrottle(message string) (rest, reason string, retry time.Duration) {
	at := strings.LastIndex(message, " (")
	if at < 0 || !strings.HasSuffix(message, ")") {
		return message, "", 0
	}
	reason, after, ok := strings.Cut(message[at+2:len(message)-1], ", retry after ")
	retry, err := time.ParseDuration(after)
	if !ok || err != nil || retry < 0 {
		return message, "", 0
	}
	return message[:at], reason, retry
}

// ParseErrorHeaders is the error that [ErrorHeaders] wrote: its code and message, the reason and hint of a throttle, without fields. A text without a code of
// ours, as other services of NATS send it, gets the code that stands for its status; nothing is refused.
func ParseErrorHeaders(status, text string) *Error {
	if name, rest, ok := strings.Cut(text, ": "); ok {
		if row, known := Code(name).row(); known {
			message, reason, retry := cutThrottle(strings.TrimRight(strings.TrimSuffix(rest, adviceSentence(row)), ". "))
			return &Error{Code: row.Code, Message: message, Reason: reason, Retry: retry}
		}
	}
	n, _ := strconv.Atoi(status) // no number: 0, which no code has
	return &Error{Code: codeOfStatus(n), Message: text}
}

// codeOfStatus is the most general code of an HTTP status.
func codeOfStatus(status int) Code {
	for _, row := range table {
		if row.Status == status && status != 200 {
			return row.Code
		}
	}
	return CodeInternal
}

// asError is the first [Error] in err's chain, for what wraps it is for logs; any other error is an internal one that says
// nothing of its cause.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error", Cause: err}
}

// adviceSentence is the advice of a row as a sentence of its own.
func adviceSentence(row Row) string {
	return strings.ToUpper(row.Advice[:1]) + sentence(row.Advice[1:])
}

// sentence is text with one full stop at its end.
func sentence(s string) string { return strings.TrimRight(s, ". ") + "." }

// oneLine makes text fit for a header: control bytes become blanks, and it is cut where it grows too long.
func oneLine(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

package schema

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Code names one way in which Hearth refuses or fails. It is what users, headers and exit codes see.
type Code string

// The codes. Each has a row in [Table].
const (
	CodeInvalidParameter   Code = "InvalidParameterValueException"
	CodeInvalidRequest     Code = "InvalidRequestContentException"
	CodeNotFound           Code = "ResourceNotFoundException"
	CodeNoProvisioned      Code = "ProvisionedConcurrencyConfigNotFoundException"
	CodeConflict           Code = "ResourceConflictException"
	CodePrecondition       Code = "PreconditionFailedException"
	CodeTooLarge           Code = "RequestTooLargeException"
	CodeStorageExceeded    Code = "CodeStorageExceededException"
	CodeUnsupportedMedia   Code = "UnsupportedMediaTypeException"
	CodeAccessDenied       Code = "AccessDeniedException"
	CodeMisdirected        Code = "MisdirectedRequest"
	CodeMethodNotAllowed   Code = "MethodNotAllowed"
	CodeUnknownOperation   Code = "UnknownOperationException"
	CodeThrottled          Code = "TooManyRequestsException"
	CodeTenantLimit        Code = "TenantLimitExceeded"
	CodeCapacityExceeded   Code = "CapacityExceeded"
	CodeUnavailable        Code = "Unavailable"
	CodeNoAnswer           Code = "NoAnswer"
	CodeInternal           Code = "Internal"
	CodeExecutionLost      Code = "Hearth.ExecutionLost"
	CodeTimedOut           Code = "Sandbox.Timedout"
	CodeExitError          Code = "Runtime.ExitError"
	CodeInvalidEntrypoint  Code = "Runtime.InvalidEntrypoint"
	CodeInitError          Code = "Runtime.InitError"
	CodeOutOfMemory        Code = "Runtime.OutOfMemory"
	CodeResponseTooLarge   Code = "Function.ResponseSizeTooLarge"
	CodeTruncatedResponse  Code = "Runtime.TruncatedResponse"
	CodeInvalidMode        Code = "Runtime.InvalidResponseModeHeader"
	CodeBindingMismatch    Code = "Hearth.BindingMismatch"
	CodeRuntimeUnavailable Code = "Runtime.Unavailable"
	CodeNoToken            Code = "Hearth.TokenUnavailable"
)

// Reasons of a [CodeThrottled], [CodeTenantLimit] or [CodeCapacityExceeded], Lambda's whole enum that applies here (B3).
const (
	ThrottleConcurrency         = "ConcurrentInvocationLimitExceeded"                 // of the account, the fabric, a sub-tenant
	ThrottleFunctionConcurrency = "ReservedFunctionConcurrentInvocationLimitExceeded" // the function's cap
	ThrottleRate                = "FunctionInvocationRateLimitExceeded"               // environments made too fast
	ThrottleCaller              = "CallerRateLimitExceeded"                           // control operations
)

// Row is one line of the error table.
type Row struct {
	Code       Code
	Status     int    // HTTP, and Nats-Service-Error-Code; 200 for what leaves as a function error
	LambdaType string // X-Amzn-ErrorType; "" where the code has the name that AWS's model has
	Retriable  bool   // certainly not started, or safe to send again
	Exit       int    // of the command (CLI, Habits)
	Hint       time.Duration
	Advice     string // what to do, one line
}

// table is the one table of errors: NATS headers, HTTP bodies and exit codes are read off it. What may have started never
// has a status above 499, and nothing has 502 or 504: SDKs send those again by themselves (DESIGN 3, Lambda B1). The two
// that stand at 500 and 503 without being retriable never answer a call that may run: Internal answers operations and
// calls before they are published, NoAnswer stays with the client that gave up, or answers an event of which the stream did
// not say in time whether it has it: events run at least once, so sending it again is allowed.
var table = [...]Row{
	{CodeInvalidParameter, 400, "", false, 2, 0, "correct the named field"},
	{CodeInvalidRequest, 400, "", false, 2, 0, "send JSON with the members that the operation takes"},
	{CodeNotFound, 404, "", false, 2, 0, "check the name and the qualifier; `hearth ls` lists what there is"},
	{CodeNoProvisioned, 404, "", false, 2, 0, "`hearth reservations` lists what is reserved"},
	{CodeConflict, 409, "", false, 2, 0, "read the current state, then try again"},
	{CodePrecondition, 412, "", false, 2, 0, "somebody changed it meanwhile: read it again and repeat the change"},
	{CodeTooLarge, 413, "", false, 2, 0, "send less, 6 MiB is the limit of a sync call; pass a reference to larger data"},
	{CodeStorageExceeded, 400, "", false, 3, 0, "delete functions or versions that are not needed, or give the code store more room"},
	{CodeUnsupportedMedia, 415, "", false, 2, 0, "send application/json or application/octet-stream"},
	{CodeAccessDenied, 403, "", false, 2, 0, "call from a program on this host, not from a page or through a proxy, with a good token where callers need one"},
	{CodeMisdirected, 421, "InvalidParameterValueException", false, 2, 0, "use localhost, a loopback address or a configured name as host"},
	{CodeMethodNotAllowed, 405, "InvalidParameterValueException", false, 2, 0, "use the method that the operation has in Lambda's API"},
	{CodeUnknownOperation, 404, "", false, 2, 0, "check the path or the operation's name"},
	{CodeThrottled, 429, "", true, 3, time.Second, "wait as the hint says, then call again, or raise the cap"},
	{CodeTenantLimit, 429, "TooManyRequestsException", true, 3, time.Second, "wait as the hint says, then call again; `hearth limit NAME N --per-tenant` sets another limit"},
	{CodeCapacityExceeded, 429, "TooManyRequestsException", true, 3, time.Second, "it certainly did not start: call again later, or add capacity"},
	{CodeUnavailable, 503, "ServiceException", true, 4, time.Second, "it certainly did not start: call again; `hearth ring` shows who is there"},
	{CodeNoAnswer, 503, "ServiceException", false, 4, 0, "it may still run: look at its effects before calling again, or allow more time"},
	{CodeInternal, 500, "ServiceException", false, 5, 0, "look at the log of the node that answered"},
	{CodeExecutionLost, 200, "", false, 1, 0, "it may have run: check its effects before calling again, or make the function idempotent"},
	{CodeTimedOut, 200, "", false, 1, 0, "raise the function's time-out or make it faster"},
	{CodeExitError, 200, "", false, 1, 0, "the function's process ended; its log says why"},
	{CodeInvalidEntrypoint, 200, "", false, 1, 0, "put an executable `bootstrap` at the root of the package"},
	{CodeInitError, 200, "", false, 1, 0, "the function did not become ready in time; its log says why"},
	{CodeOutOfMemory, 200, "", false, 1, 0, "raise the function's memory"},
	{CodeResponseTooLarge, 200, "", false, 1, 0, "answer with less than 6 MiB; return a reference to larger data"},
	{CodeTruncatedResponse, 200, "", false, 1, 0, "the runtime cut its answer off; its log says why"},
	{CodeInvalidMode, 200, "", false, 1, 0, "the runtime asked for a response mode that is not known; update its library"},
	{CodeBindingMismatch, 200, "", false, 1, 0, "the call met an environment of another function and was not run; report this"},
	{CodeNoToken, 200, "", false, 1, 0, "it was not run: the manager's log says why its token provider gave no token for the sub-tenant"},
	{CodeRuntimeUnavailable, 200, "", false, 1, 0, "install the interpreter that the runtime names on the worker's host"},
}

// Table is a copy of the table of errors, in the order of the codes.
func Table() []Row { return slices.Clone(table[:]) }

// Row is the line of a code; an unknown code has [CodeInternal]'s.
func (c Code) Row() Row {
	row, _ := c.row()
	return row
}

// Known reports whether the code is in the table. "" is not.
func (c Code) Known() bool {
	_, known := c.row()
	return known
}

func (c Code) row() (row Row, known bool) {
	for i := range table {
		if table[i].Code == c {
			return table[i], true
		}
	}
	row, _ = CodeInternal.row()
	return row, false
}

// LambdaTypeName is the name under which AWS's clients know the error.
func (r Row) LambdaTypeName() string {
	if r.LambdaType != "" {
		return r.LambdaType
	}
	return string(r.Code)
}

// Error is a refusal or failure with its code. Message says to the caller what was wrong with what; Cause is for logs and
// errors.Is.
type Error struct {
	Code    Code
	Message string
	Fields  []FieldError  // bad input, by field
	Reason  string        // of a throttle: one of the Throttle constants
	Retry   time.Duration // hint; 0 means the table's
	Cause   error
}

// Errorf makes an [Error]; a %w among the arguments becomes its Cause, and its text a part of the message that callers
// read.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// Error is the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is matches another *Error by its code alone, so that errors.Is(err, &Error{Code: c}) asks for a code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// CodeOf is the code of the first [Error] in err's chain; any other error is [CodeInternal], nil is "".
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// FieldError is one bad field of some input: its name, what it was (never a secret), and what is allowed.
type FieldError struct {
	Field   string
	Got     string
	Allowed string
}

// String is "field: got X, allowed: Y".
func (f FieldError) String() string {
	if f.Got == "" {
		return f.Field + ": " + f.Allowed
	}
	return fmt.Sprintf("%s: is %q; %s", f.Field, f.Got, f.Allowed)
}

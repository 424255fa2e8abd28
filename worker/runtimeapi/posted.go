package runtimeapi

import (
	"encoding/json"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// withCause is the content type of an error object that carries its X-Ray cause: the caller gets it without.
const withCause = "application/vnd.aws.lambda.error.cause+json"

// postedError is the failure that a runtime reported. Its body goes to the caller byte for byte, and is not copied; its
// type, for spans and logs, is the header's or else the body's.
func postedError(errorType, content string, posted []byte) *schema.FunctionError {
	f := &schema.FunctionError{Body: posted, Posted: true}
	var object struct {
		Message string          `json:"errorMessage"`
		Type    string          `json:"errorType"`
		Stack   json.RawMessage `json:"stackTrace,omitempty"`
	}
	// What the function posts may be anything; an object that is not one has no type and no message, whatever of it was read.
	isObject := json.Unmarshal(posted, &object) == nil
	if isObject {
		f.Type, f.Message = object.Type, object.Message
	}
	if errorType != "" {
		f.Type = validType(errorType)
	}
	if f.Type == "" {
		f.Type = "Runtime.Unknown"
	}
	if content == withCause {
		f.Body = nil
		if isObject {
			// Of strings and JSON that was valid already: it cannot fail.
			f.Body, _ = json.Marshal(object)
		}
	}
	if len(f.Body) == 0 {
		f.Body = nil
	}
	return f
}

// validType is an error type as AWS's emulator takes it from a header: (Runtime|Function).Name, any other is unknown.
func validType(s string) string {
	family, name, ok := strings.Cut(s, ".")
	if family != "Function" {
		if family != "Runtime" || !ok {
			return "Runtime.Unknown"
		}
	}
	if !ok || len(name) < 2 || name[0] < 'A' || name[0] > 'Z' {
		return family + ".Unknown"
	}
	for i := range len(name) {
		if c := name[i] | 0x20; c < 'a' || c > 'z' {
			return family + ".Unknown"
		}
	}
	return s
}

package schema

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// Hidden stands where a value is secret: in logs, in errors, and in what the control operations answer.
const Hidden = "***"

// Variables are environment variables in clear. They encode as they are, for a request must carry them; they print and log
// as [Hidden], under every verb of fmt.
type Variables map[string]string

// Format prints [Hidden], whatever the verb.
func (v Variables) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Hidden)) }

// String is [Hidden].
func (v Variables) String() string { return Hidden }

// LogValue is the names, each with [Hidden] for its value.
func (v Variables) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, len(v))
	for _, name := range v.Names() {
		attrs = append(attrs, slog.String(name, Hidden))
	}
	return slog.GroupValue(attrs...)
}

// Names are the names of the variables, sorted.
func (v Variables) Names() []string { return slices.Sorted(maps.Keys(v)) }

// LogValue keeps variables out of logs that encode what they are given as JSON.
func (e Environment) LogValue() slog.Value { return e.Variables.LogValue() }

// LogValue names the function and the members that were sent, not what they hold: variables are among them.
func (in FunctionInput) LogValue() slog.Value {
	return slog.GroupValue(slog.String("function", in.FunctionName), slog.Any("members", in.members()))
}

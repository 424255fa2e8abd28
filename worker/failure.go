package worker

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// unmade is the failure of an environment that did not come so far as to run. dir is the host's path of the package, which
// the function knows as /var/task.
func (e *environment) unmade(err error, dir string) *schema.FunctionError {
	var coded *schema.Error
	var path *os.PathError
	text := func(s string) string {
		if dir != "" {
			s = strings.ReplaceAll(s, dir, "/var/task")
		}
		return s
	}
	switch {
	case errors.Is(err, errEnded), errors.Is(err, errStopped):
		return &schema.FunctionError{Type: string(schema.CodeUnavailable), Message: "The environment was ended before it was ready"}
	case errors.As(err, &coded) && coded.Code != schema.CodeInternal:
		return &schema.FunctionError{Type: string(coded.Code), Message: text(coded.Message)}
	case errors.As(err, &path) && path.Op == "fork/exec" && dir != "":
		return &schema.FunctionError{Type: string(schema.CodeInvalidEntrypoint), Message: text(path.Error())}
	}
	e.worker.log.Error("make an environment", "environment", e.id, "function", e.binding.Function, "error", err)
	return &schema.FunctionError{Type: string(schema.CodeInitError), Message: "The environment could not be made"}
}

// exitFailure is how a caller is told that the runtime's process ended (A7).
func exitFailure(exit driver.Exit) *schema.FunctionError {
	f := &schema.FunctionError{Type: string(schema.CodeExitError)}
	switch {
	case exit.OutOfMemory:
		f.Type = string(schema.CodeOutOfMemory)
		f.Message = "Runtime exited with error: signal: killed"
	case exit.Signal != "":
		f.Message = "Runtime exited with error: signal: " + exit.Signal
		if exit.CoreDumped {
			f.Message += " (core dumped)"
		}
	case exit.Code != 0:
		f.Message = fmt.Sprintf("Runtime exited with error: exit status %d", exit.Code)
	default:
		f.Message = "Runtime exited without providing a reason"
	}
	return f
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// Exit codes (CLI, Habits). Those of refusals stand in the table of package schema.
const (
	exitOK          = 0
	exitUsage       = 2
	exitUnreachable = 4
	exitInterrupted = 130
)

// usageError is bad usage: it names what was wrong and what is right.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// toldError ends the command with a code after its command has said everything there is to say.
type toldError struct{ code int }

func (e *toldError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exit says what went wrong in one line on stderr, and gives the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var told *toldError
	if errors.As(err, &told) {
		return told.code
	}
	if errors.Is(context.Cause(ctx), errInterrupted) {
		a.complain("interrupted")
		return exitInterrupted
	}
	code, advice := verdict(err)
	if advice != "" {
		a.complain("%v%s; %s", err, throttle(err), advice)
	} else {
		a.complain("%v%s", err, throttle(err))
	}
	return code
}

// throttle is why a call was throttled and when to come again, as its message ends with it; "" of any other error.
func throttle(err error) string {
	var coded *schema.Error
	if !errors.As(err, &coded) {
		return ""
	}
	return coded.Throttle()
}

// verdict is the exit code of an error, and what to do where the error itself does not say it.
func verdict(err error) (code int, advice string) {
	var usage *usageError
	var coded *schema.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage, ""
	case errors.As(err, &coded) && coded.Cause != nil:
		return coded.Code.Row().Exit, "" // made on this side, where the message says what to do
	case errors.As(err, &coded):
		row := coded.Code.Row()
		return row.Exit, row.Advice
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
		return exitUnreachable, "no answer came in time: `hearth ring` shows who is there"
	}
	return schema.CodeInternal.Row().Exit, ""
}

// longestLine is what a complaint may take, in bytes: a function's message may be megabytes, and stands in its answer.
const longestLine = 4 << 10

// complain writes one line to stderr, whatever the text holds: errors may carry what a function or a server sent.
func (a *app) complain(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if len(line) > longestLine {
		const half = longestLine / 2 // what was wrong stands in front, what to do at the end
		line = line[:half] + " ... " + line[len(line)-half:]
	}
	if a.lines != nil {
		a.lines.Warn(oneLine(line))
		return
	}
	fmt.Fprintln(a.stderr, "hearth: "+oneLine(line))
}

// oneLine makes control bytes harmless, so that a message is one line and no terminal obeys it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))
}

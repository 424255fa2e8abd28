package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

func (a *app) invoke() *cobra.Command {
	var payload, tenant, id string
	var timeout time.Duration
	var log, async bool
	cmd := &cobra.Command{
		Use:   "invoke NAME[:QUALIFIER]",
		Short: "Call a function and print its answer",
		Long: `Call a function and print its answer as it came. A version's number, $LATEST or an alias may follow the name. If the
function itself fails, its error object is printed and the exit code is 1.

With --async the call becomes an event: its request id is printed as soon as the fabric has it stored, and it runs, at least once,
with retries, whatever dies. An event that cannot run (no such function or version) becomes a dead letter.`,
		Example: `  hearth invoke count --payload '{"text": "so much depends upon"}'
  hearth invoke count:live --payload @poem.json --json
  hearth invoke count --payload @poem.json --async --id poem-7
  echo '{"csv": "a,b\n1,2\n"}' | hearth invoke sums --payload - --log`,
		GroupID:           groupFunctions,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeQualified,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case async && (log || a.settings.given("timeout")):
				return usagef("--log and --timeout are of calls whose answer is waited for; leave them out with --async")
			case !async && id != "":
				return usagef("--id is of events; add --async, or leave it out")
			}
			name, qualifier, err := schema.ParseFunctionName(args[0])
			if err != nil {
				return a.noAnswer(cmd, client.Call{Function: args[0], Tenant: tenant}, inFlags(err))
			}
			if tenant != "" {
				if err := schema.ValidateTenant(tenant); err != nil {
					return a.noAnswer(cmd, client.Call{Function: name, Tenant: tenant}, err)
				}
			}
			if timeout < 0 || timeout > schema.MaxTimeout {
				return usagef("--timeout is %v; above 0, at most %v", timeout, schema.MaxTimeout)
			}
			body, err := a.readPayload(payload)
			if err != nil {
				return a.noAnswer(cmd, client.Call{Function: name, Tenant: tenant}, err)
			}
			call := client.Call{
				Function: name, Qualifier: qualifier, Tenant: tenant, Payload: body, Timeout: timeout, Log: log,
				RequestID: uuid.NewString(),
			}
			if async {
				return a.runSend(cmd, call, id)
			}
			return a.runInvoke(cmd, call)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&payload, "payload", "{}", "JSON, @FILE, or - for standard input")
	flags.StringVar(&tenant, "tenant", "", "sub-tenant, for functions with --tenancy per-tenant")
	flags.DurationVar(&timeout, "timeout", 0, "how long to wait (default: as long as the function may take)")
	flags.BoolVar(&log, "log", false, "print the end of the call's log on standard error")
	flags.BoolVar(&async, "async", false, "hand it in as an event and do not wait until it ran")
	flags.StringVar(&id, "id", "", "with --async: sent again under the same id within 2 minutes, it is the same event")
	jsonFlag(cmd)
	return cmd
}

// readPayload takes JSON as it stands, and the bytes of a file or of standard input whatever they are.
func (a *app) readPayload(spec string) ([]byte, error) {
	var in io.Reader
	switch file, named := strings.CutPrefix(spec, "@"); {
	case named:
		f, err := os.Open(file)
		if err != nil {
			return nil, usagef("--payload: %v; JSON, @FILE or - is wanted", err)
		}
		defer f.Close()
		in = f
	case spec == "-":
		in = a.stdin
	default:
		if !json.Valid([]byte(spec)) {
			return nil, usagef("--payload is no JSON: %q; @FILE takes it from a file, - from standard input", clip(spec))
		}
		return []byte(spec), nil
	}
	content, err := io.ReadAll(io.LimitReader(in, schema.MaxPayload+1))
	if err != nil {
		return nil, usagef("--payload: %v; JSON, @FILE or - is wanted", err)
	}
	if len(content) > schema.MaxPayload {
		return nil, schema.Errorf(schema.CodeTooLarge, "--payload has more than %d bytes", schema.MaxPayload)
	}
	return content, nil
}

// invocation is what `invoke --json` prints (CLI, JSON keys).
type invocation struct {
	RequestID   string           `json:"request_id"`
	Function    string           `json:"function"`
	Version     string           `json:"version"`
	Status      string           `json:"status"`
	Payload     json.RawMessage  `json:"payload"`
	Error       *invocationError `json:"error"` // null: none
	Start       string           `json:"start"`
	Arc         string           `json:"arc"`
	Reason      string           `json:"reason"`
	Rank        *int             `json:"rank"`
	Environment string           `json:"environment"`
	Manager     string           `json:"manager"`
	Tenant      string           `json:"tenant"`
	Attempt     int              `json:"attempt"`
	DurationMS  float64          `json:"duration_ms"`
	InitMS      float64          `json:"init_ms"`
}

// invocationError says why there is no answer, or which error the function's is.
type invocationError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Type    string `json:"type"`
}

// The values of status of calls that were not answered; [client.Status] has the others.
const (
	statusRefused     = "refused"
	statusThrottled   = "throttled"
	statusUnavailable = "unavailable"
)

func (a *app) runInvoke(cmd *cobra.Command, call client.Call) error {
	c, err := a.connect(cmd)
	if err != nil {
		return a.noAnswer(cmd, call, err)
	}
	defer c.Close()
	stop := a.progress("waiting for " + call.Function)
	answer, err := c.Invoke(cmd.Context(), call)
	stop()
	if err != nil && errors.Is(context.Cause(cmd.Context()), errInterrupted) {
		a.complain("interrupted; the call of %s goes on as request %s", call.Function, call.RequestID)
		return &toldError{exitInterrupted}
	}
	if err != nil {
		return a.noAnswer(cmd, call, namedQualified(cmd.Context(), c.Client, call.Function, call.Qualifier, err))
	}
	if call.Log {
		a.printLog(answer.Log)
	}
	if asJSON(cmd) {
		err = a.printJSON(told(call, answer))
	} else {
		err = a.printAnswer(answer.Payload)
	}
	if err != nil || answer.FunctionError == nil {
		return err
	}
	a.complain("%s failed: %s: %s (request %s)%s", call.Function, answer.FunctionError.Type, answer.FunctionError.Message,
		answer.RequestID, adviceFor(answer.FunctionError, call.Log))
	return &toldError{schema.CodeExecutionLost.Row().Exit}
}

// noAnswer tells a refusal: as JSON too, if that was asked for.
func (a *app) noAnswer(cmd *cobra.Command, call client.Call, err error) error {
	if !asJSON(cmd) || errors.Is(context.Cause(cmd.Context()), errInterrupted) || errors.As(err, new(*usageError)) {
		return err
	}
	code, _ := verdict(err)
	status := map[int]string{exitUsage: statusRefused, schema.CodeThrottled.Row().Exit: statusThrottled}[code]
	if status == "" {
		status = statusUnavailable
	}
	shown := schema.CodeOf(err)
	var coded *schema.Error
	if !errors.As(err, &coded) && code == exitUnreachable {
		shown = schema.CodeUnavailable
	}
	if printErr := a.printJSON(invocation{
		RequestID: call.RequestID, Function: call.Function, Status: status, Tenant: call.Tenant,
		Error: &invocationError{
			Code: string(shown), Message: strings.TrimPrefix(err.Error(), string(shown)+": ") + throttle(err), Type: shown.Row().LambdaTypeName(),
		},
	}); printErr != nil {
		return printErr
	}
	return err
}

// told is an answer with all that is known of its call.
func told(call client.Call, answer *client.Answer) invocation {
	rank := answer.Rank
	out := invocation{
		RequestID: answer.RequestID, Function: call.Function, Version: answer.Version, Status: string(answer.Status()), Payload: asJSONValue(answer.Payload),
		Start: string(answer.Start), Arc: answer.Arc, Reason: string(answer.Reason), Rank: &rank, Environment: answer.Environment,
		Manager: answer.Manager, Tenant: answer.Tenant, Attempt: answer.Attempt,
		DurationMS: float64(answer.Duration) / float64(time.Millisecond), InitMS: float64(answer.Init) / float64(time.Millisecond),
	}
	if fe := answer.FunctionError; fe != nil {
		out.Error = &invocationError{Code: fe.Type, Message: fe.Message, Type: fe.Type}
	}
	return out
}

// asJSONValue is a payload as a JSON value: itself if it is JSON, a string if it is text, else base64.
func asJSONValue(payload []byte) json.RawMessage {
	if json.Valid(payload) {
		return payload
	}
	text := string(payload)
	if !utf8.Valid(payload) {
		text = base64.StdEncoding.EncodeToString(payload)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage("null")
	}
	return quoted
}

// printAnswer writes the answer as it came; on a terminal a last line gets its end.
func (a *app) printAnswer(payload []byte) error {
	if _, err := a.stdout.Write(payload); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if isTerminal(a.stdout) && len(payload) > 0 && payload[len(payload)-1] != '\n' {
		fmt.Fprintln(a.stdout)
	}
	return nil
}

// printLog writes lines of a function to stderr; a terminal is not made to obey what they hold.
func (a *app) printLog(log []byte) {
	for line := range strings.Lines(string(log)) {
		fmt.Fprintln(a.stderr, harmless(strings.TrimRight(line, "\r\n")))
	}
}

// harmless keeps tabs, which REPORT lines have, and replaces other control characters.
func harmless(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}

// adviceFor is what to do about an error that a function answered with. What it calls its own errors brings no advice of ours.
func adviceFor(failure *schema.FunctionError, logShown bool) string {
	switch code := failure.PlatformCode(); {
	case code != "":
		return "; " + code.Row().Advice
	case logShown:
		return ""
	}
	return "; --log shows what it wrote"
}

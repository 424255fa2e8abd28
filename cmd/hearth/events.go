package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) events() *cobra.Command {
	most := 50
	cmd := &cobra.Command{
		Use:   "events NAME",
		Short: "Show the events of a function that wait or run",
		Long: `Count the events of a function: those that wait to be run for the first time, that run now, that wait for another try, and
its dead letters. All but the dead letters are listed, the oldest first. With --json it is one object.`,
		Example:           "  hearth events count\n  hearth events count --json | jq .retrying",
		GroupID:           groupFunctions,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if most < 0 {
				return usagef("--limit is %d; 0 or more", most)
			}
			return a.runEvents(cmd, args[0], most)
		},
	}
	cmd.Flags().IntVar(&most, "limit", most, "how many events are listed at most; all are counted")
	jsonFlag(cmd)
	return cmd
}

func (a *app) runEvents(cmd *cobra.Command, name string, most int) error {
	if err := schema.ValidateFunctionName(name); err != nil {
		return inFlags(err)
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := a.progress("counting the events of " + name)
	out, err := c.Events(cmd.Context(), name, "")
	for marker := ""; err == nil; {
		if marker = out.NextMarker; marker == "" || len(out.Events) >= most {
			break
		}
		var page *schema.EventsOutput
		if page, err = c.Events(cmd.Context(), name, marker); err == nil {
			out.Events, out.NextMarker = append(out.Events, page.Events...), page.NextMarker
		}
	}
	stop()
	if err != nil {
		return named(cmd.Context(), c.Client, name, err)
	}
	out.Events, out.NextMarker = out.Events[:min(len(out.Events), most)], ""
	if asJSON(cmd) {
		return a.printJSON(out)
	}
	fmt.Fprintf(a.stdout, "%s: %d waiting, %d running, %d waiting for another try, %s\n", name, out.Waiting, out.Running,
		out.Retrying, plural(int(out.DeadLetters), "dead letter", "dead letters"))
	if len(out.Events) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	t := a.table("STATE", "SEQUENCE", "REQUEST", "SUB-TENANT", "ACCEPTED", "BYTES", "TRIES", "DUE", "LAST ERROR")
	for _, e := range out.Events {
		due, last := "", ""
		if e.Due != nil {
			due = localTime(*e.Due)
		}
		if e.LastError != nil {
			last = e.LastError.Code
		}
		t.row(e.State, e.Sequence, e.RequestID, cmp.Or(e.Tenant, "-"), localTime(e.Accepted), e.Bytes, e.Attempts, due, last)
	}
	return t.flush()
}

// eventFlags are what `deploy` may say of the events of a function.
type eventFlags struct {
	retries              int
	maxAge, retryDelay   time.Duration
	onSuccess, onFailure string
}

func (f *eventFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.retries, "retries", schema.MaxEventRetries, "of an event that failed, 0 to 2")
	flags.DurationVar(&f.maxAge, "max-age", schema.MaxEventAge, "after which an event is not tried again, 1m to 6h")
	flags.DurationVar(&f.retryDelay, "retry-delay", schema.DefaultRetryDelay, "before the first retry, 1s to 15m; the second waits twice as long")
	flags.StringVar(&f.onFailure, "on-failure", "", "function that gets a record of events that failed for good, in place of a dead letter")
	flags.StringVar(&f.onSuccess, "on-success", "", "function that gets a record of events that are done")
}

// input is the request for what was given; nil if nothing was.
func (f *eventFlags) input(function string, given func(string) bool) (in *schema.EventConfigInput, bad []schema.FieldError) {
	out := schema.EventConfigInput{FunctionName: function}
	any := false
	seconds := func(flag string, d, least, most time.Duration) *int {
		any = true
		if d%time.Second != 0 || d < least || d > most {
			bad = append(bad, schema.FieldError{
				Field: "--" + flag, Got: d.String(), Allowed: fmt.Sprintf("whole seconds, %s to %s", short(least), short(most)),
			})
			return nil // as it is; the fabric would speak of it in seconds
		}
		n := int(d / time.Second)
		return &n
	}
	if given("retries") {
		any, out.MaximumRetryAttempts = true, &f.retries
	}
	if given("max-age") {
		out.MaximumEventAgeInSeconds = seconds("max-age", f.maxAge, schema.MinEventAge, schema.MaxEventAge)
	}
	if given("retry-delay") {
		out.Hearth = &schema.HearthEventConfig{RetryDelaySeconds: seconds("retry-delay", f.retryDelay, schema.MinRetryDelay, schema.MaxRetryDelay)}
	}
	if given("on-failure") || given("on-success") {
		any, out.DestinationConfig = true, &schema.DestinationConfig{}
		if given("on-failure") {
			out.DestinationConfig.OnFailure = &schema.Destination{Destination: f.onFailure}
		}
		if given("on-success") {
			out.DestinationConfig.OnSuccess = &schema.Destination{Destination: f.onSuccess}
		}
	}
	if !any {
		return nil, nil
	}
	return &out, bad
}

// short is a duration as people write it: 6h, not 6h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// eventsLine is what `describe --json` says of the events of a function; what is not set is left out.
type eventsLine struct {
	Retries     *int   `json:"retries,omitempty"`
	MaxAgeS     *int   `json:"max_age_s,omitempty"`
	RetryDelayS *int   `json:"retry_delay_s,omitempty"`
	OnSuccess   string `json:"on_success,omitempty"` // name of a function
	OnFailure   string `json:"on_failure,omitempty"`
}

func eventsLineOf(c *schema.EventConfigOutput) *eventsLine {
	out := &eventsLine{Retries: c.MaximumRetryAttempts, MaxAgeS: c.MaximumEventAgeInSeconds}
	if c.Hearth != nil {
		out.RetryDelayS = c.Hearth.RetryDelaySeconds
	}
	if c.DestinationConfig == nil {
		return out
	}
	for d, name := range map[*schema.Destination]*string{c.DestinationConfig.OnSuccess: &out.OnSuccess, c.DestinationConfig.OnFailure: &out.OnFailure} {
		if d != nil && d.Destination != "" {
			*name, _, _ = schema.ParseFunctionName(d.Destination)
		}
	}
	return out
}

// rows are what people see of it.
func (e *eventsLine) rows() [][2]string {
	var rows [][2]string
	if e == nil {
		return nil
	}
	if e.Retries != nil {
		rows = append(rows, [2]string{"retries", fmt.Sprint(*e.Retries)})
	}
	if e.MaxAgeS != nil {
		rows = append(rows, [2]string{"max age", seconds(*e.MaxAgeS)})
	}
	if e.RetryDelayS != nil {
		rows = append(rows, [2]string{"retry delay", seconds(*e.RetryDelayS)})
	}
	return append(rows, [2]string{"on success", e.OnSuccess}, [2]string{"on failure", e.OnFailure})
}

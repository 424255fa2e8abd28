package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// usualSince is how far back `logs` looks.
const usualSince = 10 * time.Minute

func (a *app) logs() *cobra.Command {
	var tenant, request string
	var follow bool
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "logs NAME[:VERSION]",
		Short: "Show what a function wrote",
		Long: `Show what a function wrote to its standard output and error, and what the platform says of its calls, each line with its
time, its request id and its text. Lines of the init and between calls have the id of their environment. Lines stay for some
days, within a bound of size.`,
		Example: `  hearth logs count
  hearth logs count:3 --since 2h
  hearth logs count --follow --tenant acme
  hearth logs count --request 8476a536-e9f4-4e89-9739-2dfe598c3fcd --json`,
		GroupID:           groupSee,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeQualified,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, qualifier, err := schema.ParseFunctionName(args[0])
			if err != nil {
				return inFlags(err)
			}
			if tenant != "" {
				if err := schema.ValidateTenant(tenant); err != nil {
					return err
				}
			}
			if since < 0 {
				return usagef("--since is %v; a duration such as 10m or 24h, 0 for everything that there is", since)
			}
			in := schema.LogsInput{FunctionName: name, Qualifier: qualifier, TenantID: tenant, RequestID: request}
			if since > 0 {
				from := time.Now().Add(-since)
				in.Since = &from
			}
			return a.runLogs(cmd, in, follow, since)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&follow, "follow", "f", false, "go on with lines that come, until Ctrl-C")
	flags.DurationVar(&since, "since", usualSince, "how far to look back; 0 shows everything that there is")
	flags.StringVar(&tenant, "tenant", "", "only lines of this sub-tenant")
	flags.StringVar(&request, "request", "", "only lines of the call with this request id")
	jsonFlag(cmd)
	return cmd
}

func (a *app) runLogs(cmd *cobra.Command, in schema.LogsInput, follow bool, since time.Duration) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	show := a.printLine
	if asJSON(cmd) {
		show = func(l *schema.LogLineItem) error { return a.printJSON(l) }
	}
	if follow {
		return a.followLogs(cmd.Context(), c.Client, in, show)
	}
	some := false
	for l, err := range c.Logs(cmd.Context(), in) {
		if err != nil {
			return named(cmd.Context(), c.Client, in.FunctionName, err)
		}
		some = true
		if err := show(&l); err != nil {
			return err
		}
	}
	switch {
	case some:
	case since > 0:
		a.note("no line of %s in the last %v; --since 0 shows all that there are, --follow waits for some", in.FunctionName, since)
	default:
		a.note("no line of %s yet; --follow waits for some", in.FunctionName)
	}
	return nil
}

func (a *app) followLogs(ctx context.Context, c *client.Client, in schema.LogsInput, show func(*schema.LogLineItem) error) error {
	some := false
	for ev, err := range c.FollowLogs(ctx, in) {
		if err != nil {
			return named(ctx, c, in.FunctionName, err)
		}
		switch ev.Kind {
		case client.LogsReached:
			if !some {
				a.note("no line of %s yet; waiting for some, Ctrl-C ends it", in.FunctionName)
			}
		case client.LogsBehind:
			a.note("lines are missing here: they were gone before they could be shown")
		case client.LogsWaiting:
			a.note("nobody answers (%v); still waiting", ev.Reason)
		case client.LogsLine:
			some = true
			if err := show(&ev.Line); err != nil {
				return err
			}
		}
	}
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return &toldError{exitInterrupted}
	}
	return context.Cause(ctx)
}

// note says how something stands, on standard error, in one harmless line.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.stderr, oneLine(fmt.Sprintf(format, args...)))
}

// printLine shows a line to people: its time here, the first part of its call's id or of its environment's, its text. No
// terminal obeys what a function wrote.
func (a *app) printLine(l *schema.LogLineItem) error {
	const short = 8
	id := cmp.Or(l.RequestID, l.Environment)
	text := harmless(l.Text)
	line := fmt.Sprintf("%s  %-*s  ", l.Time.Local().Format("2006-01-02 15:04:05.000"), short, harmless(id[:min(len(id), short)]))
	if l.Platform {
		line = a.paint(a.stdout, styleFaint, line+text)
	} else {
		line = a.paint(a.stdout, styleFaint, line) + text
	}
	if _, err := fmt.Fprintln(a.stdout, line); err != nil {
		return fmt.Errorf("print a line: %w", err)
	}
	return nil
}

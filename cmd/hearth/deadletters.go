package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

func (a *app) deadletters() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deadletters",
		Short: "See, redrive and remove the events that failed for good",
		Long: `A dead letter is an event that will not be tried again: it failed as often as it may, grew too old, or cannot run as it is. It
keeps its payload and why, also when its function is gone, until it is redriven or removed. Without a subcommand: ls.`,
		Example: "  hearth deadletters\n  hearth deadletters show 17\n  hearth deadletters redrive 17",
		GroupID: groupFunctions,
		Args:    a.noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listLetters(cmd, "") },
	}
	jsonFlag(cmd)
	cmd.AddCommand(a.lettersLs(), a.lettersShow(),
		a.lettersTake("redrive", "Run dead letters again, as new events", "Redrive", "redriven", false, (*client.Client).RedriveDeadLetters),
		a.lettersTake("rm", "Remove dead letters", "Remove", "removed", true, (*client.Client).DeleteDeadLetters))
	return cmd
}

func (a *app) lettersLs() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "ls [NAME]",
		Short:             "List dead letters, the oldest first",
		Example:           "  hearth deadletters ls\n  hearth deadletters ls count --json | jq -r .id",
		Args:              between(0, "NAME"),
		ValidArgsFunction: a.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.listLetters(cmd, strings.Join(args, ""))
		},
	}
	jsonFlag(cmd)
	return cmd
}

func (a *app) listLetters(cmd *cobra.Command, name string) error {
	if name != "" {
		if err := schema.ValidateFunctionName(name); err != nil {
			return inFlags(err)
		}
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	t := a.table("ID", "FUNCTION", "SUB-TENANT", "DIED", "REASON", "TRIES", "BYTES", "ERROR")
	t.empty = "no dead letters"
	for item, err := range c.DeadLetters(cmd.Context(), name) {
		if err != nil {
			return named(cmd.Context(), c.Client, name, err)
		}
		if asJSON(cmd) {
			if err := a.printJSON(item); err != nil {
				return err
			}
			continue
		}
		t.row(item.ID, item.Function, cmp.Or(item.Tenant, "-"), localTime(item.Died), item.Reason, item.Attempts, item.Bytes, errorText(item.Error, errorInCell))
	}
	if asJSON(cmd) {
		return nil
	}
	return t.flush()
}

// errorText is an error on one line, and no longer than most.
func errorText(e *schema.EventError, most int) string {
	if e == nil {
		return ""
	}
	text := strings.TrimSuffix(e.Code+": "+e.Message, ": ")
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most]) + "..."
	}
	return text
}

// How much of an error is shown in a list, and of one dead letter.
const (
	errorInCell = 60
	errorShown  = 2000
)

func (a *app) lettersShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one dead letter with its payload",
		Example: "  hearth deadletters show 17\n  hearth deadletters show 17 --json | jq .payload",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			item, err := c.DeadLetter(cmd.Context(), args[0])
			if err != nil {
				return inFlags(err)
			}
			if asJSON(cmd) {
				return a.printJSON(item)
			}
			t := a.table("dead letter "+item.ID, "")
			for _, row := range [][2]string{
				{"function", item.Function}, {"qualifier", item.Qualifier}, {"tenant", item.Tenant}, {"request", item.RequestID},
				{"reason", string(item.Reason)}, {"error", errorText(item.Error, errorShown)}, {"tries", fmt.Sprint(item.Attempts)},
				{"accepted", localTime(item.Accepted)}, {"died", localTime(item.Died)}, {"payload", payloadText(item)},
			} {
				if row[1] != "" {
					t.row(row[0], row[1])
				}
			}
			return t.flush()
		},
	}
	jsonFlag(cmd)
	return cmd
}

// payloadText is a payload on one line, and how much of it there is where that is not all.
func payloadText(item *schema.DeadLetterItem) string {
	const most = 2000
	text := string(item.Payload)
	switch {
	case text == "null" && item.Bytes > 4: // "null" has 4
		return fmt.Sprintf("%d bytes, more than an answer holds", item.Bytes)
	case item.Base64:
		text = fmt.Sprintf("%d bytes, base64: %s", item.Bytes, strings.Trim(text, `"`))
	}
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most]) + fmt.Sprintf("... (%d bytes; --json has all)", item.Bytes)
	}
	return text
}

// lettersMethod is one of the two methods of the client.
type lettersMethod func(*client.Client, context.Context, schema.DeadLettersInput) (*schema.DeadLettersDone, error)

func (a *app) lettersTake(verb, short, Verb, done string, asks bool, take lettersMethod) *cobra.Command {
	var in schema.DeadLettersInput
	cmd := &cobra.Command{
		Use:     verb + " [ID...]",
		Short:   short,
		Example: fmt.Sprintf("  hearth deadletters %[1]s 17 18\n  hearth deadletters %[1]s --function count\n  hearth deadletters %[1]s --all --yes", verb),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Ids = args
			said := 0
			for _, yes := range []bool{len(in.Ids) > 0, in.FunctionName != "", in.All} {
				if yes {
					said++
				}
			}
			if said != 1 {
				return usagef("%s wants ids of dead letters, or --function, or --all: one of them; `hearth deadletters ls` lists what there is", cmd.CommandPath())
			}
			if asks || in.All {
				if err := a.confirm(cmd, fmt.Sprintf("%s %s?", Verb, which(in))); err != nil {
					return err
				}
			}
			return a.runTake(cmd, in, verb, done, take)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&in.FunctionName, "function", "", "all of this function")
	flags.BoolVar(&in.All, "all", false, "all that there are")
	_ = cmd.RegisterFlagCompletionFunc("function", func(cmd *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
		return a.completeFunction(cmd, nil, part)
	})
	yesFlag(cmd)
	jsonFlag(cmd)
	return cmd
}

// which dead letters are meant, for people.
func which(in schema.DeadLettersInput) string {
	switch {
	case in.All:
		return "all dead letters"
	case in.FunctionName != "":
		return "all dead letters of " + in.FunctionName
	}
	return plural(len(in.Ids), "dead letter", "dead letters")
}

func (a *app) runTake(cmd *cobra.Command, in schema.DeadLettersInput, verb, done string, take lettersMethod) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := a.progress(verb + " " + which(in))
	out, err := take(c.Client, cmd.Context(), in)
	stop()
	if err != nil {
		if out != nil && out.Done > 0 {
			err = fmt.Errorf("%w; %d were %s before that", err, out.Done, done)
		}
		return inFlags(named(cmd.Context(), c.Client, in.FunctionName, err))
	}
	if asJSON(cmd) {
		err = a.printJSON(struct {
			Done    int      `json:"done"`
			Missing []string `json:"missing"`
			Failed  []string `json:"failed"`
		}{out.Done, orNone(out.Missing), orNone(out.Failed)})
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s %s\n", done, plural(out.Done, "dead letter", "dead letters"))
	}
	switch {
	case err != nil:
		return err
	case len(out.Missing) > 0:
		a.complain("not there: %s; `hearth deadletters ls` lists what there is", strings.Join(out.Missing, ", "))
	case len(out.Failed) > 0:
		a.complain("cannot be %s, for their subject named no function: %s; `hearth deadletters rm` removes them", done, strings.Join(out.Failed, ", "))
	default:
		return nil
	}
	return &toldError{exitUsage}
}

func orNone(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

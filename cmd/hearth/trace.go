package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) trace() *cobra.Command {
	var in schema.StoryInput
	cmd := &cobra.Command{
		Use:   "trace REQUEST-ID",
		Short: "Tell the story of one call: every decision on its way, and why",
		Long: `Tell the story of one call: what each frontend and manager that had it in hands decided and did, when, and why. Answers carry
the id (` + "`hearth invoke --json`, the header Hearth-Request-Id, x-amzn-RequestId over HTTP" + `), and so do log lines; all tries of an event have
the same one.

A caller may use one id for several calls: then it is the last one's, and --function and --tenant name another.

Every node keeps its last 10,000 calls in memory, until it ends. Times are the nodes' own: AFTER counts from the first step by the same
clock, and the order between hosts is that of causes, never of clocks.`,
		Example: `  hearth trace 8476a536-e9f4-4e89-9739-2dfe598c3fcd
  hearth trace 8476a536-e9f4-4e89-9739-2dfe598c3fcd --json
  hearth trace 8476a536-e9f4-4e89-9739-2dfe598c3fcd --function resize --tenant acme
  hearth trace $(hearth invoke count --json | jq -r .request_id)`,
		GroupID:           groupSee,
		Args:              exactly("REQUEST-ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := strings.ToLower(args[0])
			if uuid.Validate(id) != nil || len(id) != len(uuid.Nil.String()) {
				return usagef("REQUEST-ID is %q; a UUID such as %s: answers and log lines of calls have it", clip(args[0]), uuid.Nil)
			}
			in.RequestID = id
			if err := checkStory(&in); err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			story, err := c.TraceOf(cmd.Context(), in)
			if refused := (*schema.Error)(nil); errors.As(err, &refused) && refused.Code == schema.CodeNotFound {
				return &schema.Error{Code: refused.Code, Cause: err, Message: refused.Message + "; what the function wrote stays longer: `hearth logs NAME --request " + id + " --since 0`"}
			}
			switch {
			case err != nil:
				return err
			case asJSON(cmd):
				return a.printJSON(story)
			}
			return a.printStory(story)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&in.FunctionName, "function", "", "of the call of this function, where one id is of several")
	flags.StringVar(&in.TenantID, "tenant", "", "of the call of this sub-tenant, the same")
	_ = cmd.RegisterFlagCompletionFunc("function", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.completeFunction(cmd, nil, begun)
	})
	jsonFlag(cmd)
	return cmd
}

// checkStory checks which call is asked for, by flag.
func checkStory(in *schema.StoryInput) error {
	for _, c := range []struct {
		flag, value string
		check       func(string) error
	}{{"--function", in.FunctionName, schema.ValidateFunctionName}, {"--tenant", in.TenantID, schema.ValidateTenant}} {
		var refused *schema.Error
		if c.value == "" || !errors.As(c.check(c.value), &refused) {
			continue
		}
		allowed := refused.Error()
		if len(refused.Fields) > 0 {
			allowed = refused.Fields[0].Allowed
		}
		return usagef("%s is %q; %s", c.flag, clip(c.value), allowed)
	}
	return nil
}

// printStory tells a story to people: who it is about and how it ended, then a line a step.
func (a *app) printStory(s *schema.Story) error {
	a.println(a.paint(a.stdout, styleBold, harmless(storyTitle(s))))
	a.println(fmt.Sprintf("began %s by the clock of %s %s", s.Began.Local().Format("2006-01-02 15:04:05.000"), s.Node.Kind, harmless(s.Node.ID)))
	a.println("")
	clocks := storyClocks(s)
	heading := []string{"AFTER", "NODE", "STEP", "WHAT HAPPENED"}
	if len(clocks) > 1 {
		heading = append([]string{"CLOCK"}, heading...)
	}
	t := a.table(heading...)
	first := make(map[string]time.Time)
	for _, step := range s.Steps {
		if first[step.Node.Clock].IsZero() {
			first[step.Node.Clock] = step.At
		}
		after := float64(step.At.Sub(first[step.Node.Clock])) / float64(time.Millisecond)
		row := []any{fmt.Sprintf("%+.3f ms", after), step.Node.Kind + " " + step.Node.ID, strings.ReplaceAll(step.What, "_", " "), step.Text}
		if len(clocks) > 1 {
			row = append([]any{clockName(slices.Index(clocks, step.Node.Clock))}, row...)
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, line := range storyNotes(s, len(clocks)) {
		a.note("%s", line)
	}
	return nil
}

// storyTitle is one line: which call, and how it stands.
func storyTitle(s *schema.Story) string {
	name := s.Function
	if s.Version != "" {
		name += ":" + s.Version
	}
	if s.Tenant != "" {
		name += " for sub-tenant " + s.Tenant
	}
	title := fmt.Sprintf("%s  %s  %s", s.RequestID, name, strings.ReplaceAll(string(s.Status), "-", " "))
	if !s.Ended.IsZero() {
		title += fmt.Sprintf(" after %v", s.Ended.Sub(s.Began).Round(time.Microsecond))
	}
	if s.Tries > 1 {
		title += ", " + plural(s.Tries, "publication", "publications")
	}
	return title
}

// storyClocks are the clocks of a story in the order of their first steps.
func storyClocks(s *schema.Story) (clocks []string) {
	for _, step := range s.Steps {
		if !slices.Contains(clocks, step.Node.Clock) {
			clocks = append(clocks, step.Node.Clock)
		}
	}
	return clocks
}

// clockName is A, B, C, and so on.
func clockName(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return fmt.Sprint(i + 1)
}

// storyNotes are what is to be known of a story beside it.
func storyNotes(s *schema.Story, clocks int) (notes []string) {
	if clocks > 1 {
		notes = append(notes, "each letter is a host's own clock: times of different letters cannot be compared, and lines stand in the order of causes")
	}
	if s.Left > 0 {
		notes = append(notes, plural(s.Left, "more delivery step is", "more delivery steps are")+" left out: a node keeps a few dozen of one call")
	}
	if len(s.Silent) > 0 {
		notes = append(notes, "not heard in time, so their part may be missing: "+strings.Join(s.Silent, ", "))
	}
	if len(s.Others) > 0 {
		names := make([]string, len(s.Others))
		for i, o := range s.Others {
			names[i] = harmless(o.String())
		}
		notes = append(notes, "the same request id was used for other calls, too (--function and --tenant tell of one): "+strings.Join(names, ", "))
	}
	if s.Status == schema.StoryIsUnknown {
		notes = append(notes, "who ran it does not tell how it ended: that node has ended since, or has seen 10,000 other calls")
	}
	return notes
}

package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// setting is one line of `hearth config`.
type setting struct {
	Command string `json:"command"` // "" for flags of every command
	Flag    string `json:"flag"`
	Value   string `json:"value"`
	Source  string `json:"source"`
}

func (a *app) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config [COMMAND]",
		Short: "Show the values of all flags and where each comes from",
		Long: `Show the value that each flag has when its command line leaves it out, and where that value comes from: the
environment, the config file or the default. Where a fabric of this user runs, client commands take from it what nobody set.`,
		Example: `  hearth config up
  HEARTH_MANAGERS=3 hearth config up --json
  hearth config --config fabric.yaml`,
		GroupID: groupSee,
		Args:    between(0, "COMMAND"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return configurable(cmd.Root()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			commands := configurable(cmd.Root())
			if len(args) == 1 && !slices.Contains(commands, args[0]) {
				return usagef("there is no command %q with flags%s; they are %s", args[0], didYouMean(args[0], commands),
					strings.Join(commands, ", "))
			}
			return a.printConfig(cmd, args)
		},
	}
	jsonFlag(cmd)
	return cmd
}

// configurable are the paths, without the first word, of the commands that have flags of their own besides --json.
func configurable(root *cobra.Command) []string {
	var paths []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "completion" || sub.Name() == "help" {
				continue
			}
			if sub.Runnable() {
				paths = append(paths, path(sub))
			}
			walk(sub)
		}
	}
	walk(root)
	slices.Sort(paths)
	return paths
}

func path(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "hearth ") }

// fromNote puts in what client commands take from the fabric of this user that runs, where nobody says otherwise.
func fromNote(rows []setting, t target) {
	noted := map[string]string{"server": t.url, "prefix": t.names.Prefix(), "creds": t.creds}
	for i, r := range rows {
		if value, ok := noted[r.Flag]; ok && value != r.Value {
			rows[i].Value, rows[i].Source = value, "running fabric, process "+strconv.Itoa(t.note.PID)
		}
	}
}

func (a *app) printConfig(cmd *cobra.Command, args []string) error {
	var rows []setting
	add := func(command string, s *settings) func(f *pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			value := f.Value.String()
			if f.Name == "env" && value != "[]" {
				value = "***" // variables of functions may be secrets
			}
			rows = append(rows, setting{command, f.Name, value, s.source[f.Name]})
		}
	}
	cmd.InheritedFlags().VisitAll(add("", &a.settings))
	if t, err := a.target(cmd); err == nil && t.note != nil { // else a client command would not find one either
		fromNote(rows, t)
	}
	// Each command anew: a value that is bad for one of them must not hide the others.
	for _, name := range configurable(cmd.Root()) {
		if len(args) == 1 && name != args[0] {
			continue
		}
		sub, _, err := cmd.Root().Find(strings.Fields(name))
		if err != nil {
			return err
		}
		s := settings{}
		if sub != cmd {
			if err := s.resolve(sub, a.lookup); err != nil {
				return err
			}
		} else {
			s = a.settings
		}
		sub.LocalNonPersistentFlags().VisitAll(add(name, &s))
	}
	if asJSON(cmd) {
		for _, r := range rows {
			if err := a.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.table("COMMAND", "FLAG", "VALUE", "FROM")
	for _, r := range rows {
		command := r.Command
		if command == "" {
			command = "(all)"
		}
		t.row(command, "--"+r.Flag, r.Value, r.Source)
	}
	return t.flush()
}

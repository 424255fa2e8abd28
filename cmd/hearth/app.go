package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run of the command: its streams and what it knows of its surroundings.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(name string) (string, bool) // of an environment variable
	configDir      func() (string, error)           // of this user

	settings settings
	lines    *slog.Logger // of a role that logs JSON: what is said beside its log is a line of it, too; nil: plain text
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hearth",
		Short: "Functions on NATS: run them, call them, see where they ran",
		Long: `Hearth runs functions on NATS. ` + "`hearth up`" + ` is a whole fabric in one process; the other commands speak to one that runs.

Every flag is also an environment variable (--http is HEARTH_HTTP) and a key of the --config file, in this order: flag,
environment, file, default. Exit codes: 0 done, 1 the function returned an error, 2 bad usage or refused input,
3 throttled or full, 4 nobody reachable or timed out, 5 anything else, 130 interrupted.`,
		Example: `  hearth demo                                   # everything once, in under a minute
  hearth up &                                   # a fabric, data in ./hearth-data
  hearth deploy count examples/nodejs --runtime nodejs
  hearth invoke count --payload '{"text": "so much depends upon"}'`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableSuggestions:         true, // ours, in one line
		SuggestionsMinimumDistance: 2,
		Args:                       a.noSuchCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.settings.resolve(cmd, a.lookup) },
	}
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.String("server", defaultServer, "URL of the NATS server")
	flags.String("context", "", "NATS context, as the nats CLI keeps them")
	flags.String("creds", "", "credential: a .creds file or an nkey seed (default: that of this user's running fabric)")
	flags.String("prefix", "hearth", "first token of the fabric's subjects and streams")
	flags.String("config", "", "YAML file with values of flags")
	root.AddGroup(&cobra.Group{ID: groupFabric, Title: "A fabric"}, &cobra.Group{ID: groupFunctions, Title: "Functions"},
		&cobra.Group{ID: groupSee, Title: "Looking and measuring"})
	root.AddCommand(a.demo(), a.up(), a.manager(), a.worker(), a.frontend(), a.credential(), a.drain(), a.fabric(), a.deploy(), a.invoke(), a.events(), a.deadletters(), a.ls(), a.describe(), a.rm(), a.reserve(), a.limit(), a.reservations(), a.ring(), a.logs(), a.usage(), a.trace(), a.loglevel(), a.token(), a.doctor(), a.bench(), a.sim(),
		a.version(), a.config())
	root.AddCommand(a.benchParts()...)
	root.SetOut(a.stdout) // which the scripts of completion are written to, whatever it is later
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" || cmd.Name() == "help" {
			cmd.Example = examplesOfCobra[cmd.Name()]
		}
		if cmd.Name() == "completion" { // cobra's prints its help for a shell that it does not know, and exits with 0
			cmd.Args = a.noSuchCommand
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return root
}

var examplesOfCobra = map[string]string{
	"completion": "  source <(hearth completion bash)",
	"help":       "  hearth help deploy",
}

// The groups under which --help lists the commands.
const (
	groupFabric    = "fabric"
	groupFunctions = "functions"
	groupSee       = "see"
)

// noSuchCommand refuses arguments of a command that only has subcommands.
func (a *app) noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usagef("there is no command %q of %s%s; `%s --help` lists them", args[0], cmd.CommandPath(),
		didYouMean(args[0], names), cmd.CommandPath())
}

// exactly is cobra.ExactArgs that says what is missing, or what is too much.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// between wants at least the first n of the named arguments.
func between(n int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usagef("%s misses %s; use: %s", cmd.CommandPath(), strings.Join(names[len(args):n], " and "), cmd.UseLine())
		case len(args) > len(names):
			return usagef("%s does not take %q; use: %s", cmd.CommandPath(), args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// flagError is what stands in place of pflag's own errors, which fill a page.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())
	unknown, ok := err.(*pflag.NotExistError)
	switch {
	case !ok:
		return usagef("%v; %s", err, hint)
	case unknown.GetSpecifiedShortnames() == "":
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, "--"+f.Name)
			}
		})
		slices.Sort(names)
		name := "--" + unknown.GetSpecifiedName()
		return usagef("there is no flag %s of %s%s; %s", name, cmd.CommandPath(), didYouMean(name, names), hint)
	case strings.Trim(unknown.GetSpecifiedShortnames()[:1], "0123456789") == "": // `limit count -1`
		return usagef("-%s is below 0, which %s does not take; use: %s", unknown.GetSpecifiedShortnames(), cmd.CommandPath(), cmd.UseLine())
	}
	return usagef("%v; %s", err, hint)
}

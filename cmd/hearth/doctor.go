package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/doctor"
	"github.com/hearth-run/hearth/schema"
)

// doctorSummary is the last line of `doctor --json`.
type doctorSummary struct {
	Summary struct {
		OK       bool `json:"ok"`      // nothing that was asked for is missing
		Native   bool `json:"native"`  // a sandbox was built here and proven; false with --only fabric
		Missing  int  `json:"missing"` // findings of each state
		Warnings int  `json:"warnings"`
		Unknown  int  `json:"unknown"`
	} `json:"summary"`
}

func (a *app) doctor() *cobra.Command {
	var driver, data, role, id, only string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this host and this NATS server can do, what is missing, how to get it",
		Long: `Look at this host: what driver native, the sandbox, takes of it (one is built to see), which runtimes it has, memory and disk.
Then at the NATS server, if one answers: its version, JetStream and its limits, payloads, clock, the managers that are there, and
whether the credential may do what its role needs, and no more. Each thing that is missing comes with how to get it.

With --driver native what only the sandbox takes counts as missing; with any other driver it is worth a warning. --role and --id say
whose credential --creds is (` + "`hearth credential ROLE ID --print`" + ` prints what that may do). Exit codes: 0 where nothing is missing, 4 where
the server that was named does not answer, else 5.`,
		Example: `  hearth doctor
  hearth doctor --driver native              # exit code 5 where no sandbox can be built
  sudo hearth doctor --data /var/lib/hearth
  hearth doctor --server nats://nats:4222 --creds m7.nk --role manager --id m7
  hearth doctor --json | jq -c 'select(.state == "missing")'`,
		GroupID: groupSee,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDriver(driver); err != nil {
				return err
			}
			switch admin := role == deploy.RoleAdmin; {
			case !slices.Contains(credentialRoles, role):
				return usagef("--role is %q%s; %s", role, didYouMean(role, credentialRoles), strings.Join(credentialRoles, ", "))
			case admin && id != "":
				return usagef("an admin has no name; leave --id out")
			case !admin && !deploy.ValidID(id):
				return usagef("--id is %q; %s", id, deploy.AnID)
			case only != "" && !slices.Contains(doctorParts, only):
				return usagef("--only is %q%s; %s", only, didYouMean(only, doctorParts), strings.Join(doctorParts, " or "))
			}
			var all []doctor.Finding
			native, unreachable := false, false
			if only != onlyFabric {
				found, sandbox, err := a.lookAtHost(cmd, data, driver)
				if err != nil {
					return err
				}
				all, native = found, sandbox
			}
			if only != onlyHost {
				found, gone, err := a.lookAtFabric(cmd, role, id)
				if err != nil {
					return err
				}
				all, unreachable = append(all, found...), gone
			}
			err := a.printFindings(cmd, all, native)
			if unreachable {
				return &toldError{code: exitUnreachable}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&driver, "driver", "", "driver that this host is wanted for: native, process, null or none (default: that of up)")
	flags.StringVar(&data, "data", deploy.DefaultDataDir, "folder where data would go")
	flags.StringVar(&role, "role", deploy.RoleAdmin, "whose credential it is: admin, manager, frontend, worker or client")
	flags.StringVar(&id, "id", "", "the id of that role, the name of a client")
	flags.StringVar(&only, "only", "", "look at one of them alone: host or fabric")
	jsonFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(doctorParts, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(credentialRoles, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	return cmd
}

// The values of doctor --only.
const (
	onlyHost   = "host"
	onlyFabric = "fabric"
)

var doctorParts = []string{onlyHost, onlyFabric}

// lookAtHost finds what there is to say of this host, and whether a sandbox was built.
func (a *app) lookAtHost(cmd *cobra.Command, data, driver string) (all []doctor.Finding, native bool, err error) {
	stop := a.progress("looking at this host")
	defer stop()
	path, _ := a.lookup("PATH")
	host, err := doctor.LookAtHost(cmd.Context(), doctor.HostConfig{Folder: data, Path: path})
	if err != nil {
		return nil, false, fmt.Errorf("look at this host: %w", err)
	}
	return host.Findings(cmp.Or(driver, deploy.DefaultDriver())), host.Proven && host.Sandbox == nil, nil
}

// lookAtFabric finds what there is to say of the fabric that is meant. One that was named and does not answer is unreachable.
func (a *app) lookAtFabric(cmd *cobra.Command, role, id string) (all []doctor.Finding, unreachable bool, err error) {
	t, err := a.target(cmd)
	given := func(flag string) bool { return a.settings.given(flag) }
	switch {
	case err != nil && !given("server") && !given("context") && !given("prefix"): // several run here
		return []doctor.Finding{{Area: doctor.AreaFabric, Check: "server", State: doctor.Unknown, Found: err.Error(), Fix: "--server URL looks at one of them"}}, false, nil
	case err != nil:
		return nil, false, err
	}
	stop := a.progress("looking at the fabric")
	defer stop()
	var options []nats.Option
	if inbox := doctor.Inbox(role, id); inbox != "" {
		options = append(options, nats.CustomInboxPrefix(inbox))
	}
	where, named := cmp.Or(t.url, "NATS context "+t.context.Name), a.settings.given("server") || t.context.Name != ""
	c, err := t.connect(cmd.Context(), options...)
	if unconnected := (*connectError)(nil); errors.As(err, &unconnected) && cmd.Context().Err() == nil {
		return []doctor.Finding{doctor.Unreachable(where, named, err)}, named && schema.CodeOf(err) == schema.CodeUnavailable, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer c.Close()
	cfg := doctor.FabricConfig{URL: where, Role: role, ID: id}
	if t.note != nil {
		cfg.Data, cfg.Openings = doctor.DataOf(t.note.Creds), t.note.AllowLocal
	}
	f, err := doctor.LookAtFabric(cmd.Context(), c.Client, cfg)
	if err != nil {
		return nil, false, fmt.Errorf("look at the fabric at %s: %w", where, err)
	}
	publish, subscribe, err := deploy.Rights(t.names, role, id)
	if err != nil {
		return nil, false, err
	}
	return f.Findings(publish, subscribe), false, nil
}

// doctorAreas are the headings of what a doctor finds.
var doctorAreas = map[string]string{
	doctor.AreaHost: "This host", doctor.AreaSandbox: "Driver native (the sandbox)", doctor.AreaRuntimes: "Runtimes", doctor.AreaFabric: "The fabric",
}

func (a *app) printFindings(cmd *cobra.Command, all []doctor.Finding, native bool) error {
	var sum doctorSummary
	sum.Summary.Native = native
	for _, f := range all {
		switch f.State {
		case doctor.Missing:
			sum.Summary.Missing++
		case doctor.Warning:
			sum.Summary.Warnings++
		case doctor.Unknown:
			sum.Summary.Unknown++
		}
	}
	sum.Summary.OK = sum.Summary.Missing == 0
	if asJSON(cmd) {
		for _, f := range all {
			if err := a.printJSON(f); err != nil {
				return err
			}
		}
		if err := a.printJSON(sum); err != nil {
			return err
		}
	} else {
		a.tellFindings(all)
		a.println("")
		a.println(doctorVerdict(sum))
	}
	if !sum.Summary.OK {
		return &toldError{code: exitMissing}
	}
	return nil
}

// exitMissing is "anything else" of the exit codes.
const exitMissing = 5

func doctorVerdict(sum doctorSummary) string {
	s := sum.Summary
	switch {
	case s.Missing > 0:
		return plural(s.Missing, "thing is missing", "things are missing") + "; what to do stands below each."
	case s.Warnings > 0:
		return "Nothing is missing; " + plural(s.Warnings, "thing is", "things are") + " worth a look."
	}
	return "Nothing is missing."
}

func (a *app) tellFindings(all []doctor.Finding) {
	wide := 0
	for _, f := range all {
		wide = max(wide, len(f.Check))
	}
	area := ""
	for _, f := range all {
		if f.Area != area {
			if area != "" {
				a.println("")
			}
			area = f.Area
			a.println(a.paint(a.stdout, styleBold, doctorAreas[area]))
		}
		style := map[doctor.State]string{doctor.OK: styleGreen, doctor.Missing: styleRed, doctor.Warning: styleBold, doctor.Unknown: styleFaint}[f.State]
		a.println(fmt.Sprintf("  %s  %-*s  %s", a.paint(a.stdout, style, fmt.Sprintf("%-7s", f.State)), wide, f.Check, oneLine(f.Found)))
		if f.Fix != "" {
			a.println(fmt.Sprintf("  %7s  %-*s  %s", "", wide, "", a.paint(a.stdout, styleFaint, "-> "+oneLine(f.Fix))))
		}
	}
}

package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/doctor"
)

// doctorSummary is the last line of `doctor --json`.
type doctorSummary struct {
	Summary struct {
		OK       bool `json:"ok"`      // nothing that was asked for is missing
		Native   bool `json:"native"`  // a sandbox was built here and proven
		Missing  int  `json:"missing"` // findings of each state
		Warnings int  `json:"warnings"`
		Unknown  int  `json:"unknown"`
	} `json:"summary"`
}

func (a *app) doctor() *cobra.Command {
	var driver, data string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this host can do, what is missing, how to get it",
		Long: `Look at this host: what driver native, the sandbox, takes of it (one is built to see), which runtimes it has, memory and disk.
Each thing that is missing comes with how to get it.

With --driver native what only the sandbox takes counts as missing; with any other driver it is worth a warning. The exit code is 0
where nothing is missing, else 5.`,
		Example: `  hearth doctor
  hearth doctor --driver native              # exit code 5 where no sandbox can be built
  sudo hearth doctor --data /var/lib/hearth
  hearth doctor --json | jq -c 'select(.state == "missing")'`,
		GroupID: groupSee,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDriver(driver); err != nil {
				return err
			}
			stop := a.progress("looking at this host")
			path, _ := a.lookup("PATH")
			host, err := doctor.LookAtHost(cmd.Context(), doctor.HostConfig{Folder: data, Path: path})
			stop()
			if err != nil {
				return fmt.Errorf("look at this host: %w", err)
			}
			return a.printFindings(cmd, host.Findings(cmp.Or(driver, deploy.DefaultDriver())), host.Proven && host.Sandbox == nil)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&driver, "driver", "", "driver that this host is wanted for: native, process, null or none (default: that of up)")
	flags.StringVar(&data, "data", deploy.DefaultDataDir, "folder where data would go")
	jsonFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	return cmd
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

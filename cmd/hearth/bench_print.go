package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) printBench(cmd *cobra.Command, r *benchResult) error {
	if r.Function.Calls == 0 || r.Core.Calls == 0 {
		return fmt.Errorf("no call succeeded, %d failed, the first: %s", r.Errors, r.FirstError)
	}
	if asJSON(cmd) {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if err := a.printBenchTable(r); err != nil {
		return err
	}
	if r.Errors > 0 {
		return fmt.Errorf("%d of %d calls failed, the first: %s", r.Errors, r.Errors+r.Function.Calls+r.Core.Calls, r.FirstError)
	}
	return nil
}

func (a *app) printBenchTable(r *benchResult) error {
	t := a.table("", "P50", "P99", "CALLS/S", "FABRIC CPU", "FUNCTIONS' CPU")
	us := func(v float64) string { return fmt.Sprintf("%.0f us", v) }
	cpu := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf("%.0f us a call", *v)
	}
	t.row("function", us(r.Function.P50), us(r.Function.P99), fmt.Sprintf("%.0f", r.Function.Rate), cpu(r.Function.CPU), cpu(r.Function.FunctionsCPU))
	t.row("core NATS", us(r.Core.P50), us(r.Core.P99), fmt.Sprintf("%.0f", r.Core.Rate), cpu(r.Core.CPU), "-")
	if r.Hop != nil {
		t.row("bare hop", us(r.Hop.P50), us(r.Hop.P99), fmt.Sprintf("%.0f", r.Hop.Rate), "-", "-")
	}
	t.row("ratio", fmt.Sprintf("%.2f", r.RatioP50), fmt.Sprintf("%.2f", ratio(r.Function.P99, r.Core.P99)), fmt.Sprintf("%.2f", r.RatioRate), "-", "-")
	if r.Hop != nil {
		t.row("ratio to core + hop", fmt.Sprintf("%.2f", *r.RatioSum), "-", "-", "-", "-")
		t.row("ratio to the hop", "-", "-", fmt.Sprintf("%.2f", *r.RatioHop), "-", "-")
	}
	if err := t.flush(); err != nil {
		return err
	}
	what := []string{fmt.Sprintf("%d in flight", r.Concurrency), plural(r.Rounds, "round", "rounds"), plural(r.Errors, "error", "errors")}
	if r.Loop != "" {
		what = append([]string{"echo by " + r.Loop}, what...)
	}
	if r.Driver != "" {
		what = append([]string{"driver " + r.Driver}, what...)
	}
	_, err := fmt.Fprintln(a.stdout, strings.Join(what, ", "))
	return err
}

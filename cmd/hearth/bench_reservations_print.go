package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) printReservationsResult(cmd *cobra.Command, r *reservationsResult) error {
	var err error
	if asJSON(cmd) {
		err = a.printJSON(r)
	} else {
		err = a.printReservationsTables(r)
	}
	failed, first := r.Errors, r.FirstError
	for _, c := range []*ringChange{r.Join, r.Leave} {
		if c != nil && c.Errors > 0 {
			failed, first = failed+c.Errors, c.FirstError
		}
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%s, the last: %s", plural(failed, "call failed", "calls failed"), first)
	}
	return err
}

func (a *app) printReservationsTables(r *reservationsResult) error {
	known := func(v *float64, format string) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf(format, *v)
	}
	t := a.table("RESERVATIONS", "BUSY", "ON SHARDS", "READY IN", "CALLS/S", "P50", "FABRIC CPU", "IDLE CPU", "MEMORY", "HEAP", "GOROUTINES")
	for _, f := range r.Fabrics {
		t.row(f.Reservations, f.Called, f.Shards, fmt.Sprintf("%.1f s", f.Opened), fmt.Sprintf("%.0f", f.Load.Rate), fmt.Sprintf("%.0f us", f.Load.P50),
			known(f.Load.CPU, "%.0f us a call"), known(f.IdleCPU, "%.1f %%"), known(f.Memory, "%.0f MiB"), fmt.Sprintf("%.0f MiB", f.Heap), f.Goroutines)
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.println("")
	us := func(v float64) string { return fmt.Sprintf("%.0f us", v) }
	t = a.table("", "RESERVED", "TWIN", "RATIO", "AIM")
	last := len(r.Fabrics) - 1
	t.row(fmt.Sprintf("calls a second, %d reservations beside one", r.Reservations), fmt.Sprintf("%.0f", r.Fabrics[last].Load.Rate),
		fmt.Sprintf("%.0f", r.Fabrics[0].Load.Rate), fmt.Sprintf("%.2f", r.RatioRate), "at least 0.8")
	t.row(fmt.Sprintf("the same of a NATS server alone, %d consumers beside one", r.Reservations), fmt.Sprintf("%.0f", r.Twin.Rate),
		fmt.Sprintf("%.0f", r.TwinOne.Rate), fmt.Sprintf("%.2f", r.RatioTwin), "-")
	t.row("p50 beside a warm call without a reservation", us(r.Reserved.P50), us(r.Unreserved.P50), fmt.Sprintf("%.2f", r.RatioP50), "at most 1.1")
	t.row("p50 beside core NATS", us(r.Reserved.P50), us(r.Core.P50), fmt.Sprintf("%.2f", r.RatioCore), "-")
	if err := t.flush(); err != nil {
		return err
	}
	a.println("")
	t = a.table("RING OF "+fmt.Sprint(r.Managers), "RESERVATIONS", "MOVED", "RING SAYS SO", "SHARES HELD", "SETTLED", "CALLS", "COLD", "ELSEWHERE", "P50", "MAX")
	for _, c := range []struct {
		what string
		*ringChange
	}{{"a manager joins", r.Join}, {"it leaves", r.Leave}} {
		if c.ringChange != nil {
			seconds := func(v float64) string { return fmt.Sprintf("%.2f s", v) }
			t.row(c.what, c.Reservations, c.Moved, seconds(c.Asked), seconds(c.Held), seconds(c.Settled), c.Calls, c.Cold, c.Elsewhere, us(c.P50), us(c.Most))
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "driver null, one process for each fabric, reclaim %v, %s, %s, %d beside the reserved environments\n", benchReclaim, plural(r.Rounds, "round", "rounds"),
		plural(r.Errors, "error", "errors"), r.Elsewhere)
	return err
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy/sim"
)

func (a *app) printSim(cmd *cobra.Command, r *sim.Report) error {
	if asJSON(cmd) {
		return a.printJSON(r)
	}
	for _, print := range []func(*sim.Report) error{a.printSimCalls, a.printSimEnvironments, a.printSimManagers} {
		if err := print(r); err != nil {
			return err
		}
		a.println("")
	}
	a.println(knowingText(r))
	return nil
}

func (a *app) printSimCalls(r *sim.Report) error {
	part := func(n int) string { return shareOf(n, r.Calls.Total) }
	t := a.table("CALLS", "", "")
	t.row("in "+lasting(r.Seconds), r.Calls.Total, "")
	t.row("cold", r.Starts.Cold, part(r.Starts.Cold))
	t.row("specialised", r.Starts.Specialised, part(r.Starts.Specialised))
	t.row("warm", r.Starts.Warm, part(r.Starts.Warm))
	t.row("refused", r.Calls.Refused, part(r.Calls.Refused))
	for _, x := range []struct {
		reason string
		n      int
	}{
		{"reserved", r.Reasons.Reserved}, {"spillover", r.Reasons.Spillover}, {"scale", r.Reasons.Scale}, {"overflow", r.Reasons.Overflow},
		{"unreserved", r.Reasons.Unreserved},
	} {
		t.row("by reason "+x.reason, x.n, part(x.n))
	}
	for _, x := range []struct {
		why string
		n   int
	}{
		{"no manager had room", r.Refusals.Full}, {"max-environments", r.Refusals.Cap}, {"growth", r.Refusals.Growth},
		{"start-by", r.Refusals.StartBy}, {"1,000 calls lay on the subject", r.Refusals.Queue}, {"limit of the sub-tenant", r.Refusals.Throttle},
	} {
		if x.n > 0 {
			t.row("refused: "+x.why, x.n, part(x.n))
		}
	}
	t.row("wait p50", millis(r.Wait.P50), "")
	t.row("wait p99", millis(r.Wait.P99), "")
	t.row("wait max", millis(r.Wait.Max), "")
	return t.flush()
}

func (a *app) printSimEnvironments(r *sim.Report) error {
	e := r.Environments
	t := a.table("ENVIRONMENTS", "")
	t.row("made", e.Made)
	t.row("for reservations", e.Members)
	t.row("evicted", e.Evicted)
	t.row("ended by keep-alive", e.Expired)
	t.row("ended above the limit", e.Reclaimed)
	t.row("at once", e.Most)
	t.row("time added up", lasting(e.Seconds))
	t.row("busy of that time", percentText(r.Utilisation.Environments))
	t.row("busy of all places", percentText(r.Utilisation.Capacity))
	t.row("arcs grown, shrunk", fmt.Sprintf("%d, %d", r.Arcs.Grown, r.Arcs.Shrunk))
	t.row("handed to another manager", r.HandedOver)
	t.row("caught", r.Caught)
	for _, res := range r.Reservations {
		t.row("reserved "+res.Function, fmt.Sprintf("%d ready of %d", res.Size, res.Limit))
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.println("")
	t = a.table("MESSAGES", "", "A CALL")
	kinds := make([]string, 0, len(r.Messages))
	all := 0
	for kind, n := range r.Messages {
		kinds = append(kinds, kind)
		all += n
	}
	slices.SortFunc(kinds, func(x, y string) int {
		if d := r.Messages[y] - r.Messages[x]; d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	for _, kind := range kinds {
		if n := r.Messages[kind]; n > 0 {
			t.row(strings.ReplaceAll(kind, "_", " "), n, fmt.Sprintf("%.2f", float64(n)/float64(r.Calls.Total)))
		}
	}
	t.row("all", all, fmt.Sprintf("%.2f", r.MessagesPerCall))
	return t.flush()
}

// manyManagers is up to how many each is a line.
const manyManagers = 16

func (a *app) printSimManagers(r *sim.Report) error {
	t := a.table("MANAGER", "CALLS", "COLD", "MADE", "MOST PLACES", "BUSY")
	row := func(id string, m sim.ManagerReport) {
		t.row(id, m.Calls, m.Cold, m.Made, m.MostPlaces, percentText(m.Utilisation))
	}
	if len(r.PerManager) <= manyManagers {
		for _, m := range r.PerManager {
			row(m.ID, m)
		}
		return t.flush()
	}
	order := slices.Clone(r.PerManager)
	slices.SortStableFunc(order, func(x, y sim.ManagerReport) int { return y.Calls - x.Calls })
	row("busiest", order[0])
	row("median", order[len(order)/2])
	row("idlest", order[len(order)-1])
	return t.flush()
}

// knowingText is the figure at the end.
func knowingText(r *sim.Report) string {
	k := r.Knowing
	sight := ""
	if !k.Exact {
		sight = " that sees 65,536 calls ahead"
	}
	return fmt.Sprintf("all-knowing scheduler%s: %s made, here %d (%.2f times); %s of environment time, here %s (%.2f times); "+
		"wait p99 %s, here %s; refused %d, here %d",
		sight, plural(k.Made, "environment", "environments"), r.Environments.Made, k.MadeRatio,
		lasting(k.Seconds), lasting(r.Environments.Seconds), k.SecondsRatio, millis(k.WaitP99), millis(r.Wait.P99), k.Refused, r.Calls.Refused)
}

func shareOf(n, of int) string { return percentText(float64(n) / float64(max(1, of))) }

func percentText(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }

func millis(ms float64) string { return fmt.Sprintf("%.2f ms", ms) }

// lasting is a time in the unit that people would use.
func lasting(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Minute:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

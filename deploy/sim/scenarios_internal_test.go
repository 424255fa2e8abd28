package sim

import (
	"io"
	"slices"
	"testing"
	"time"

	fe "github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/schema"
)

// Scenarios that routing alone decides, each with its mechanism and without it.

// calls is a source of calls that are written down.
type calls []Call

func (c *calls) Next() (Call, error) {
	if len(*c) == 0 {
		return Call{}, io.EOF
	}
	next := (*c)[0]
	*c = (*c)[1:]
	return next, nil
}

func (c *calls) add(at time.Duration, function string, run time.Duration) {
	*c = append(*c, Call{At: at, Function: function, Run: run})
}

const milli = time.Millisecond

var product = rules{route: fe.Route, pick: (*arc).best}

// Mechanisms that are switched off.
var (
	noReserved  = rules{route: func(fe.Load) fe.Decision { return fe.Decision{Reason: schema.ReasonUnreserved} }, pick: (*arc).best}
	noSpillover = rules{route: func(l fe.Load) fe.Decision { l.Theta = 0; return fe.Route(l) }, pick: (*arc).best}
	noTheta     = rules{route: func(l fe.Load) fe.Decision { l.Theta = 1; return fe.Route(l) }, pick: (*arc).best}
	noCatcher   = rules{route: fe.Route, pick: func(a *arc) *generation {
		kept := a.pulls[9]
		a.pulls[9] = nil
		g := a.best()
		a.pulls[9] = kept
		return g
	}}
	noClasses = rules{route: fe.Route, pick: func(a *arc) *generation { // whoever has waited for longest, whatever the class
		oldest, at := (*open)(nil), 0
		for class := range a.pulls[:9] {
			a.pulls[class] = slices.DeleteFunc(a.pulls[class], func(p *open) bool { return p.gen.drained })
			if len(a.pulls[class]) > 0 && (oldest == nil || a.pulls[class][0].number < oldest.number) {
				oldest, at = a.pulls[class][0], class
			}
		}
		if oldest == nil {
			return a.best()
		}
		a.pulls[at] = a.pulls[at][1:]
		if oldest.n--; oldest.n > 0 {
			a.requeue(at, oldest)
		}
		return oldest.gen
	}}
)

// simulate runs calls on the fabric of SCENARIOS: eight managers of 40, two frontends, T = 5, a reclaim time of 2 s.
func simulate(t *testing.T, with rules, from calls, change func(*Config)) *Report {
	t.Helper()
	cfg := Config{Fabric: schema.DefaultFabric()}
	cfg.Fabric.T, cfg.Fabric.Reclaim = 5, 2*time.Second
	if change != nil {
		change(&cfg)
	}
	n := len(from)
	r, err := run(t.Context(), cfg, &from, with)
	if err != nil {
		t.Fatal(err)
	}
	conserved(t, r, n)
	return r
}

// conserved fails where a call ended not at all or twice, or a manager held more than it can.
func conserved(t *testing.T, r *Report, n int) {
	t.Helper()
	reasons, starts, refusals := &r.Reasons, &r.Starts, &r.Refusals
	if r.Calls.Total != n || r.Calls.Ran+r.Calls.Refused != n ||
		reasons.Reserved+reasons.Spillover+reasons.Scale+reasons.Overflow+reasons.Unreserved+reasons.Refused != n ||
		starts.Cold+starts.Specialised+starts.Warm != r.Calls.Ran ||
		refusals.Full+refusals.Cap+refusals.Growth+refusals.StartBy+refusals.Queue+refusals.Throttle != r.Calls.Refused {
		t.Errorf("of %d calls: %+v %+v %+v %+v", n, r.Calls, r.Starts, r.Reasons, r.Refusals)
	}
	ran := 0
	for _, m := range r.PerManager {
		if m.MostPlaces > r.Capacity {
			t.Errorf("%s held %d places of %d", m.ID, m.MostPlaces, r.Capacity)
		}
		ran += m.Calls
	}
	if ran != r.Calls.Ran {
		t.Errorf("managers started %d calls of %d", ran, r.Calls.Ran)
	}
	if u := r.Utilisation; u.Environments > 1 || u.Capacity > 1 {
		t.Errorf("utilisation %+v", u)
	}
}

func reserve(function string, limit int) func(*Config) {
	return func(c *Config) { c.Reserve = append(c.Reserve, Reservation{Function: function, Limit: limit}) }
}

// S01: a call of a reservation that is ready is not cold, and runs in its arc.
func TestS01(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		with           rules
		reserved, cold int
	}{{product, 1, 0}, {noReserved, 0, 1}} {
		var from calls
		from.add(0, "f", 10*milli)
		r := simulate(t, c.with, from, reserve("f", 10))
		if r.Reasons.Reserved != c.reserved || r.Starts.Cold != c.cold || r.Environments.Members != 10 {
			t.Errorf("%+v %+v %+v; %d reserved, %d cold of 10 members", r.Reasons, r.Starts, r.Environments, c.reserved, c.cold)
		}
	}
}

// S06: 60 calls one after the other use one manager, and only the first is cold. Without classes room elsewhere takes some, and
// hands them on at best.
func TestS06(t *testing.T) {
	t.Parallel()
	var from calls
	for i := range 60 {
		from.add(time.Duration(i)*1013*milli, "g", 10*milli)
	}
	used := func(r *Report) (n int) {
		for _, m := range r.PerManager {
			if m.Calls > 0 {
				n++
			}
		}
		return n
	}
	if r := simulate(t, product, from, nil); used(r) != 1 || r.Starts.Cold != 1 || r.Environments.Made != 1 || r.HandedOver != 0 {
		t.Errorf("%d managers, %+v, %+v, %d handed over", used(r), r.Starts, r.Environments, r.HandedOver)
	}
	if r := simulate(t, noClasses, from, nil); used(r) == 1 && r.HandedOver == 0 {
		t.Error("one manager without classes, too, and by itself")
	}
}

// S20: fifteen calls, ten of them reserved; when those have ended nine more find members, from C > L on as spillover.
func TestS20(t *testing.T) {
	t.Parallel()
	var from calls
	for i := range 15 {
		run := time.Second
		if i >= 10 {
			run = time.Minute
		}
		from.add(time.Duration(i)*60*milli, "f", run)
	}
	for i := range 9 {
		from.add(3*time.Second+time.Duration(i)*60*milli, "f", 10*time.Second)
	}
	r := simulate(t, product, from, reserve("f", 10))
	if r.Reasons.Reserved != 15 || r.Reasons.Spillover != 4 || r.Reasons.Scale != 5 || r.Starts.Cold != 5 {
		t.Errorf("%+v %+v", r.Reasons, r.Starts)
	}
	r = simulate(t, noSpillover, from, reserve("f", 10))
	if r.Reasons.Spillover != 0 || r.Starts.Cold <= 5 {
		t.Errorf("without spillover: %+v %+v", r.Reasons, r.Starts)
	}
}

// S21: with theta 0.9 a call beyond L goes to the members while 8 of 10 are busy, and not while 9 are.
func TestS21(t *testing.T) {
	t.Parallel()
	var from calls
	for i := range 12 {
		run := time.Minute
		switch i {
		case 0:
			run = 2 * time.Second
		case 1:
			run = 4 * time.Second
		}
		from.add(time.Duration(i)*50*milli, "f", run)
	}
	from.add(3*time.Second, "f", time.Minute)
	from.add(5*time.Second, "f", time.Minute)
	theta := func(c *Config) {
		reserve("f", 10)(c)
		c.Fabric.Theta = 0.9
	}
	r := simulate(t, product, from, theta)
	if r.Reasons.Reserved != 10 || r.Reasons.Scale != 3 || r.Reasons.Spillover != 1 {
		t.Errorf("%+v", r.Reasons)
	}
	if r = simulate(t, noTheta, from, theta); r.Reasons.Spillover != 2 {
		t.Errorf("without theta: %+v", r.Reasons)
	}
}

// S22: a frontend whose view is behind sends calls to a set of which nobody is idle; the catcher moves them, and they run once.
func TestS22(t *testing.T) {
	t.Parallel()
	var from calls
	for i := range 14 {
		from.add(time.Duration(i)*50*milli, "f", time.Minute)
	}
	lag := func(c *Config) {
		reserve("f", 10)(c)
		c.Lag = 10 * time.Second
	}
	r := simulate(t, product, from, lag)
	if r.Reasons.Reserved != 10 || r.Reasons.Overflow != 2 || r.Reasons.Scale != 2 || r.Calls.Ran != 14 {
		t.Errorf("%+v %+v", r.Reasons, r.Calls)
	}
	if r = simulate(t, product, from, reserve("f", 10)); r.Reasons.Overflow != 0 || r.Reasons.Scale != 4 {
		t.Errorf("with a view that is not behind: %+v", r.Reasons)
	}
	if r = simulate(t, noCatcher, from, lag); r.Refusals.StartBy != 2 {
		t.Errorf("without a catcher: %+v", r.Refusals)
	}
}

// steady adds calls of f at a concurrency, for a time.
func (c *calls) steady(from, for_ time.Duration, concurrency int) {
	const run = 90 * milli
	for at := time.Duration(0); at < for_; at += 100 * milli {
		for k := range concurrency {
			c.add(from+at+time.Duration(k)*milli, "f", run)
		}
	}
}

// S30: a limit that falls from 10 to 4 under eight calls in flight costs no cold start, for 30 reclaim times. S32: when two are left in
// flight the set falls to exactly 4.
func TestS30S32(t *testing.T) {
	t.Parallel()
	shrink := func(c *Config) {
		reserve("f", 10)(c)
		c.Reserve = append(c.Reserve, Reservation{Function: "f", Limit: 4, At: 5 * time.Second})
	}
	var from calls
	from.steady(0, 65*time.Second, 8)
	r := simulate(t, product, from, shrink)
	if r.Starts.Cold != 0 || r.Calls.Refused != 0 || r.Reservations[0].Size < 8 || r.Reasons.Spillover == 0 {
		t.Errorf("S30: %+v %+v %+v %+v", r.Starts, r.Calls, r.Reservations, r.Reasons)
	}
	if r = simulate(t, noSpillover, from, shrink); r.Starts.Cold == 0 {
		t.Errorf("S30 without spillover: %+v", r.Starts)
	}
	from.steady(65*time.Second, 20*time.Second, 2)
	r = simulate(t, product, from, shrink)
	if r.Reservations[0].Size != 4 || r.Starts.Cold != 0 || r.Environments.Reclaimed != 6 {
		t.Errorf("S32: %+v %+v %+v", r.Reservations, r.Starts, r.Environments)
	}
	r = simulate(t, product, from, func(c *Config) {
		shrink(c)
		c.Fabric.Reclaim = time.Hour
	})
	if r.Reservations[0].Size != 10 {
		t.Errorf("S32 without reclaim: %+v", r.Reservations)
	}
}

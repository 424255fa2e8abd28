package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// reservedFabric is the set-up of SCENARIOS: eight managers of 40 places, T = 5, theta 1, two seconds until what is idle goes.
func reservedFabric(t *testing.T, flags ...string) *fabric.Fabric {
	t.Helper()
	return reclaiming(t, "2s", flags...)
}

// reclaiming is reservedFabric with another time until what is idle goes.
func reclaiming(t *testing.T, after string, flags ...string) *fabric.Fabric {
	t.Helper()
	return fabric.Start(t, fabric.Options{Managers: 8, Capacity: 320, Flags: append([]string{"--set", "t=5", "--set", "reclaim=" + after, "--set", "start-by=60s"}, flags...)})
}

// deploys is a fabric in one process, or one that is spread over several, as functions are deployed and reserved on it.
type deploys interface {
	DeployFn(name string, flags ...string)
	MustCLI(args ...string) string
	Admin() *client.Client
}

// reserved is one reservation of a function's version 1.
type reserved struct {
	t    *testing.T
	f    deploys
	c    *client.Client
	name string
}

// reserve deploys the function under a name, publishes version 1 and reserves n environments of it.
func reserve(t *testing.T, f deploys, name string, n int) *reserved {
	t.Helper()
	f.DeployFn(name, "--timeout", "60s", "--publish")
	r := &reserved{t: t, f: f, c: f.Admin(), name: name}
	if n > 0 {
		r.limit(n, "--wait")
	}
	return r
}

func (r *reserved) limit(n int, flags ...string) {
	r.t.Helper()
	r.f.MustCLI(append([]string{"reserve", r.name + ":1", fmt.Sprint(n)}, flags...)...)
}

// look is what `hearth reservations` shows of it; nil where it shows nothing. A command for each look would be most of what the
// machine does.
func (r *reserved) look() *schema.ReservationOutput {
	r.t.Helper()
	all, err := r.c.Reservations(withDeadline(r.t), r.name)
	if err != nil {
		r.t.Fatalf("look at the reservation of %s: %v", r.name, err)
	}
	if len(all) == 0 {
		return nil
	}
	return &all[0]
}

// becomes waits until the reservation stands so.
func (r *reserved) becomes(what string, so func(*schema.ReservationOutput) bool) {
	r.t.Helper()
	var last *schema.ReservationOutput
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s: %+v", what, last)
		}
	}()
	eventually(r.t, what, func() bool {
		last = r.look()
		return last != nil && so(last)
	})
}

// members are the managers of the arc by rank.
func (r *reserved) members() (ids []string) {
	for _, m := range r.look().Arc {
		if m.Rank >= 0 {
			ids = append(ids, m.Manager)
		}
	}
	return ids
}

func (r *reserved) call(payload string) *client.Answer {
	r.t.Helper()
	a, err := r.c.Invoke(withDeadline(r.t), client.Call{Function: r.name, Qualifier: "1", Payload: []byte(payload)})
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// environments are those that run n calls at once: all of a reservation that has so many.
func (r *reserved) environments(n int) map[string]bool {
	r.t.Helper()
	g := newGate(r.t)
	fl := r.send(n, g.payload())
	g.wait(r.t, n)
	g.open()
	all := environmentsOf(fl.wait())
	if len(all) != n {
		r.t.Errorf("%d environments ran %d calls at once", len(all), n)
	}
	return all
}

// environmentsOf are the environments that ran these calls.
func environmentsOf(answers []*client.Answer) map[string]bool {
	all := make(map[string]bool)
	for _, a := range answers {
		all[a.Environment] = true
	}
	return all
}

// flight is calls that are out.
type flight struct {
	t       *testing.T
	wg      sync.WaitGroup
	mu      sync.Mutex
	answers []*client.Answer
	errs    []error
}

// send makes n calls at once, which are held where the payload says so.
func (r *reserved) send(n int, payload string) *flight { return r.sendTo("1", n, payload) }

func (fl *flight) add(a *client.Answer, err error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if err != nil {
		fl.errs = append(fl.errs, err)
	} else {
		fl.answers = append(fl.answers, a)
	}
}

// wait gives the answers once all are here; a refusal fails the test.
func (fl *flight) wait() []*client.Answer {
	fl.t.Helper()
	fl.wg.Wait()
	for _, err := range fl.errs {
		fl.t.Errorf("a call was refused: %v", err)
	}
	return fl.answers
}

// count counts answers by reason and by start.
func count(answers []*client.Answer) (reasons map[schema.Reason]int, starts map[schema.Start]int) {
	reasons, starts = make(map[schema.Reason]int), make(map[schema.Start]int)
	for _, a := range answers {
		reasons[a.Reason]++
		starts[a.Start]++
	}
	return reasons, starts
}

func release(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// TestReserved are the scenarios of one reservation in a fabric that is otherwise quiet.
func TestReserved(t *testing.T) {
	t.Parallel()
	f := reservedFabric(t)
	t.Run("S01", func(t *testing.T) {
		r := reserve(t, f, "s01", 10)
		a := r.call("")
		if a.Reason != schema.ReasonReserved || a.Start != schema.StartWarm || !strings.HasPrefix(a.Arc, "r.") {
			t.Errorf("%s on %s, %s", a.Reason, a.Arc, a.Start)
		}
		found := false
		for _, id := range r.members() {
			found = found || id == a.Manager
		}
		if !found {
			t.Errorf("it ran at %s, the arc is %v", a.Manager, r.members())
		}
		var printed schema.ReservationOutput
		if out := f.MustCLI("reservations", "s01", "--json"); json.Unmarshal([]byte(out), &printed) != nil || printed.Size != 10 ||
			printed.State != schema.ReservationActive || len(printed.Arc) != 2 {
			t.Errorf("reservations --json prints %s", out)
		}
	})
	t.Run("S03 S37", func(t *testing.T) {
		r := reserve(t, f, "s03", 10)
		before := r.members()
		if len(before) != 2 {
			t.Fatalf("the arc of ten is %v", before)
		}
		r.limit(20)
		// No call is promised what is not ready: whatever its reason, none waits for a member that is being made.
		for range 20 {
			if a := r.call(""); a.Start != schema.StartWarm {
				t.Errorf("while it grows: a call of reason %s is %s", a.Reason, a.Start)
			}
		}
		r.becomes("twenty are ready", func(v *schema.ReservationOutput) bool { return v.Status == schema.ReservationReady && v.Size == 20 })
		after := r.members()
		if len(after) != 4 || after[0] != before[0] || after[1] != before[1] {
			t.Errorf("the arc was %v and is %v", before, after)
		}
		r.send(60, `"nap 5"`).wait()
		if now := r.members(); fmt.Sprint(now) != fmt.Sprint(after) {
			t.Errorf("load made the arc %v", now)
		}
	})
	t.Run("S10 S20 S23", func(t *testing.T) {
		r, g := reserve(t, f, "s20", 10), newGate(t)
		ten := r.send(10, g.payload())
		first := g.wait(t, 10)
		r.becomes("the frontend knows that ten are busy", func(v *schema.ReservationOutput) bool { return v.Busy == 10 })
		more := r.send(5, g.payload())
		five := g.wait(t, 5)
		release(first)
		reasons, starts := count(ten.wait())
		if reasons[schema.ReasonReserved] != 10 || starts[schema.StartWarm] != 10 {
			t.Errorf("ten: %v %v", reasons, starts)
		}
		r.becomes("the ten are idle", func(v *schema.ReservationOutput) bool { return v.Size == 10 && v.Busy == 0 })
		nine := r.send(9, g.payload())
		held := g.wait(t, 9)
		release(held)
		reasons, starts = count(nine.wait())
		// Five are held beyond: the first five of the nine are within C <= L, the others go beyond it.
		if starts[schema.StartWarm] != 9 || reasons[schema.ReasonReserved]+reasons[schema.ReasonSpillover] != 9 || reasons[schema.ReasonSpillover] == 0 {
			t.Errorf("nine more: %v %v", reasons, starts)
		}
		release(five)
		reasons, _ = count(more.wait())
		if reasons[schema.ReasonScale] != 5 {
			t.Errorf("five beyond: %v", reasons)
		}
	})
	t.Run("S11", func(t *testing.T) {
		r, g := reserve(t, f, "s11", 10), newGate(t)
		arc := fmt.Sprint(r.members())
		all := r.send(200, g.payload())
		release(g.wait(t, 200))
		reasons, _ := count(all.wait())
		// Statuses are behind by 20 ms: calls beyond what is reserved may be sent there all the same, and are moved.
		if members := reasons[schema.ReasonReserved] + reasons[schema.ReasonSpillover]; members != 10 ||
			members+reasons[schema.ReasonScale]+reasons[schema.ReasonOverflow] != 200 {
			t.Errorf("reasons %v", reasons)
		}
		if now := fmt.Sprint(r.members()); now != arc {
			t.Errorf("the reserved arc was %s and is %s", arc, now)
		}
	})
	t.Run("S59", func(t *testing.T) { closedLoop(t, f) })
	t.Run("S33", func(t *testing.T) {
		r, g := reserve(t, f, "s33", 10), newGate(t)
		ten := r.send(10, g.payload())
		held := g.wait(t, 10)
		if out := r.f.MustCLI("reserve", "s33:1", "--delete"); out != "s33:1: 10 left, each goes when it is idle\n" {
			t.Errorf("it says %q", out)
		}
		r.becomes("it drains with ten that are held", func(v *schema.ReservationOutput) bool {
			return v.State == schema.ReservationDraining && v.Size == 10 && v.Busy == 10
		})
		release(held)
		if reasons, starts := count(ten.wait()); reasons[schema.ReasonReserved] != 10 || starts[schema.StartWarm] != 10 {
			t.Errorf("%v %v", reasons, starts)
		}
		r.f.MustCLI("reservations", "s33", "--wait")
		if v := r.look(); v != nil {
			t.Errorf("left: %+v", v)
		}
	})
	t.Run("S36", func(t *testing.T) {
		r := reserve(t, f, "s36", 10)
		before := r.environments(10)
		g := newGate(t)
		eight := r.send(8, g.payload())
		held := g.wait(t, 8)
		r.limit(4)
		r.becomes("two go, eight are in use", func(v *schema.ReservationOutput) bool { return v.Size == 8 && v.Surplus == 4 })
		r.limit(10, "--wait")
		release(held)
		kept := environmentsOf(eight.wait())
		r.becomes("ten are ready", func(v *schema.ReservationOutput) bool { return v.Size == 10 && v.Busy == 0 })
		after := r.environments(10)
		made := 0
		for id := range after {
			if !before[id] {
				made++
			}
		}
		for id := range kept {
			if !before[id] || !after[id] {
				t.Errorf("environment %s was in use, and is not one of the ten", id)
			}
		}
		if len(kept) != 8 || made != 2 {
			t.Errorf("%d were in use, and %d were made: before %v, after %v", len(kept), made, before, after)
		}
		r.limit(4)
		r.becomes("four stay", func(v *schema.ReservationOutput) bool { return v.Size == 4 && v.Surplus == 0 })
	})
}

// TestShrink is S30, S32 and S34: what was reserved serves on for as long as it is in use. On a machine that has much else to do callers
// stand still for seconds, and what they use is idle for as long: it goes after eight.
func TestShrink(t *testing.T) {
	t.Parallel()
	f := reclaiming(t, "8s")
	t.Run("S30 S32", func(t *testing.T) {
		r := reserve(t, f, "s30", 10)
		load := r.load(8)
		load.more(t, 200)
		r.limit(4)
		// A reclaim time passes: the surplus of a reservation that nobody calls goes by it. How many of the ten the eight calls keep in
		// use is chance: each manager may have had all of its five busy at some moment.
		idle := reserve(t, f, "s30-idle", 2)
		idle.limit(1)
		idle.becomes("one is left", func(v *schema.ReservationOutput) bool { return v.Size == 1 })
		load.more(t, 400)
		if v := r.look(); v.Limit != 4 || v.Size <= 4 || v.Surplus != v.Size-4 {
			t.Errorf("under eight calls at once it is %+v", v)
		}
		load.stop()
		load.servedOn(t)
		if load.failed() != "" {
			t.Error(load.failed())
		}
		r.becomes("four are left", func(v *schema.ReservationOutput) bool { return v.Size == 4 && v.Surplus == 0 })
		// They stay, the same ones, with no load at all, while a reclaim time passes: another reservation's surplus goes by it.
		four := r.environments(4)
		other := reserve(t, f, "s32", 2)
		other.limit(1)
		other.becomes("one is left", func(v *schema.ReservationOutput) bool { return v.Size == 1 })
		if now := r.environments(4); !maps.Equal(now, four) {
			t.Errorf("the four were %v and are %v", four, now)
		}
	})
	t.Run("S34", func(t *testing.T) {
		r := reserve(t, f, "s34", 5)
		load := r.load(5)
		load.more(t, 100)
		r.f.MustCLI("reserve", "s34:1", "--delete")
		load.more(t, 100)
		load.servedOn(t)
		load.stop()
		r.f.MustCLI("reservations", "s34", "--wait")
		if a := r.call(""); a.Reason != schema.ReasonUnreserved {
			t.Errorf("afterwards a call has reason %s", a.Reason)
		}
		if load.failed() != "" {
			t.Error(load.failed())
		}
		for _, a := range f.Ring("s34").Arcs {
			if strings.Contains(a.Subject, ".arc.r.") {
				t.Errorf("arc %s is left", a.Subject)
			}
		}
	})
	quiet(t, f)
}

// callers is a load of calls of a reservation, and what became of them.
type callers struct {
	*load
	many many
}

// load has n callers call, each for a few milliseconds.
func (r *reserved) load(n int) *callers {
	l := new(callers)
	l.load = loaded(n, func(ctx context.Context) {
		// A call that is out ends, whenever the load does.
		a, err := r.c.Invoke(context.WithoutCancel(ctx), client.Call{Function: r.name, Qualifier: "1", Payload: []byte(`"nap 5"`), Timeout: patience})
		if err == nil && a.FunctionError != nil {
			err = fmt.Errorf("%s: %s", a.FunctionError.Type, a.FunctionError.Message)
		}
		l.many.count(a, err)
	})
	r.t.Cleanup(l.stop)
	return l
}

// servedOn checks that no call was cold because a member that was in use had gone. A call that comes to an arc in the moment before
// the next member is offered is moved, and may be cold where it goes to (S59); managers that let go what is idle at a moment had a
// fifth of the calls moved.
func (l *callers) servedOn(t *testing.T) {
	t.Helper()
	l.many.mu.Lock()
	defer l.many.mu.Unlock()
	if l.many.cold > 0 || l.many.moved > l.many.calls/100+1 {
		t.Errorf("of %d calls %d were cold, and %d moved", l.many.calls, l.many.cold, l.many.moved)
	}
}

// failed is the first failure of a call, "" if there was none.
func (l *callers) failed() string {
	l.many.mu.Lock()
	defer l.many.mu.Unlock()
	if l.many.failed == nil {
		return ""
	}
	return l.many.failed.Error()
}

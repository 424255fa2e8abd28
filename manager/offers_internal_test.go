package manager

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// offered is a manager with so many idle environments on one arc, all of them offered, as its loop sees it at begin.
type offered struct {
	m     *Manager
	arc   *arc
	home  pool.Home
	begin time.Time
}

func offer(t *testing.T, environments int) *offered {
	t.Helper()
	m := &Manager{offers: newOffers("_HM.m1.i.", "g"), pool: pool.New[*claim]("e", environments), ends: newEnds(), offering: true}
	o := &offered{
		m: m, arc: &arc{name: "u.3", number: 3, length: 1}, begin: time.Now(),
		home: pool.Home{Key: schema.Key{FunctionID: "f", Version: "1"}},
	}
	m.offers.arcs[o.arc.name] = o.arc
	for range environments {
		d := m.pool.Claim(o.begin, o.home, &pool.Spec{Arc: o.arc.name}, &claim{})
		if d.Make == nil {
			t.Fatalf("%+v", d)
		}
		if turn := m.pool.Parked(o.begin, d.Make[0].Environment, 0); !turn.Run {
			t.Fatalf("%+v", turn)
		}
		defer o.end(d.Make[0].Environment)
	}
	return o
}

// end ends an environment's call and has it wait for the next; it gives how many pulls go out before the answer.
func (o *offered) end(environment string) int {
	within, above := o.m.offers.top(o.m, o.m.pool.Finished(o.begin, environment, true))
	o.m.pool.Parked(o.begin, environment, 0)
	return within.n + above.n
}

// take gives an environment to a claim that came by a pull of this generation.
func (o *offered) take(t *testing.T, g *generation) (environment string) {
	t.Helper()
	g.took()
	d := o.m.pool.Warm(o.begin, o.home, &claim{})
	if d.Action != pool.Run {
		t.Fatalf("%+v", d)
	}
	o.arc.tookOtherwise(g, o.begin)
	return d.Environment
}

func (o *offered) idle() *generation { return o.arc.sides[idle].gen }

// look is the loop's, so long after the beginning; it reports whether the generation was replaced.
func (o *offered) look(after time.Duration) (anew bool) {
	p := pass{now: o.begin.Add(after)}
	o.m.offers.settle(o.m, o.arc, idle, &p)
	return len(p.old) > 0
}

// A pull that is too many because a claim which came otherwise took an environment is left for the next that comes free.
// Where none does it is taken back.
func TestAstray(t *testing.T) {
	t.Parallel()
	for name, claimed := range map[string]func(*offered) *generation{
		"by the catcher's pull":      func(o *offered) *generation { return &generation{arc: o.arc, kind: caught, open: 1} },
		"by a pull of room":          func(o *offered) *generation { return &generation{arc: o.arc, kind: room, open: 1} },
		"by a pull that went before": func(o *offered) *generation { return &generation{arc: o.arc, kind: idle, retire: true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := offer(t, 6)
			o.look(0)
			was := o.idle()
			e := o.take(t, claimed(o))
			if o.look(time.Millisecond) || o.idle() != was {
				t.Error("the pull was taken back at once")
			}
			if n := o.end(e); n != 0 || o.idle().open != 6 {
				t.Errorf("%d pulls were sent for the environment that came free, %d are open of 6", n, o.idle().open)
			}
			o.take(t, claimed(o))
			if !o.look(astrayFor) || o.idle().open != 5 {
				t.Errorf("%d pulls are left open for 5 environments", o.idle().open)
			}
			o.m.pool.Tick(o.begin.Add(time.Hour), time.Minute, time.Minute) // what goes of itself is taken back at once
			if !o.look(astrayFor+time.Millisecond) || o.idle() != nil {
				t.Error("pulls are left open for environments that ended")
			}
		})
	}
}

// Environments that come free where many are offered wait for others, and no longer than until ends are told; where few
// are offered, each is offered before its call is answered.
func TestOfferedTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ environments, busy, want int }{
		{environments: 1, busy: 1, want: 1},
		{environments: 8, busy: 4, want: 4},
		{environments: 8, busy: 8, want: 8},
		{environments: 64, busy: 60, want: 54}, // only those from the eighth on may wait
		{environments: 128, busy: 16, want: 2},
	} {
		o := offer(t, c.environments)
		o.look(0)
		var busy []string
		for range c.busy {
			busy = append(busy, o.take(t, o.idle()))
		}
		requests := 0
		for _, e := range busy {
			n := o.end(e)
			if n > 0 {
				requests++
			}
			open, waits := o.idle().open, o.m.pool.Offered(o.arc.name)-o.idle().open
			if waits > open/manyOffered {
				t.Errorf("%+v: %d wait, %d are open", c, waits, open)
			}
		}
		if requests > c.want {
			t.Errorf("%+v: %d requests", c, requests)
		}
		waits := c.environments - o.idle().open
		select {
		case <-o.m.ends.wake:
		default:
			if waits > 0 {
				t.Errorf("%+v: %d wait and nobody was told", c, waits)
			}
		}
		for _, a := range o.m.offers.waiting {
			if p := o.m.offers.topSide(o.m, a, idle, false); p.n != waits {
				t.Errorf("%+v: %d pulls are sent for %d that wait", c, p.n, waits)
			}
		}
		if o.idle().open != c.environments {
			t.Errorf("%+v: %d are open", c, o.idle().open)
		}
	}
}

// shrunk is a manager with members of a reservation, so many of them above its share, all of them offered.
func shrunk(t *testing.T, members, share int) *offered {
	t.Helper()
	o := offer(t, 0)
	opening := &opening{epoch: 7}
	o.arc = &arc{name: "r.0.a.f.1.7", of: opening, opening: opening, class: 1, after: 5}
	o.m.offers.arcs[o.arc.name] = o.arc
	o.home.Reservation = 7
	o.m.pool = pool.New[*claim]("e", members)
	spec := pool.Spec{Arc: o.arc.name}
	for _, mk := range o.m.pool.SetShare(o.begin, o.home, spec, pool.Share{Members: members}).Make {
		o.m.pool.Parked(o.begin, mk.Environment, 0)
	}
	o.m.pool.SetShare(o.begin, o.home, spec, pool.Share{Members: share})
	o.pass(0)
	return o
}

// pass is the loop's look at all sides, so long after the beginning.
func (o *offered) pass(after time.Duration) {
	o.turn(after, false)
}

// turn is pass when the arc's turn may have come.
func (o *offered) turn(after time.Duration, due bool) {
	p := pass{now: o.begin.Add(after), due: due}
	o.m.offers.look(o.m, o.arc, &p)
}

func (o *offered) open() (within, above int) {
	if g := o.arc.sides[idle].gen; g != nil {
		within = g.open
	}
	if g := o.arc.sides[surplus].gen; g != nil {
		above = g.open
	}
	return within, above
}

// A member that a call took by a pull of the other class is offered nowhere: the pull that stands for it too much is left for the next
// that comes free, and where none does the two sides are put right together.
func TestSurplusTakenOutOfTurn(t *testing.T) {
	t.Parallel()
	o := shrunk(t, 4, 2)
	want := func(when string, within, above int) {
		t.Helper()
		if w, a := o.open(); w != within || a != above {
			t.Errorf("%s: %d and %d pulls are open, want %d and %d", when, w, a, within, above)
		}
	}
	took := func(g *generation) string {
		e := o.take(t, g)
		o.m.offers.tops(o.m, g)
		return e
	}
	want("at first", 2, 2)
	e := took(o.arc.sides[surplus].gen)
	want("a call came by surplus before its turn", 2, 1)
	o.pass(time.Millisecond)
	want("a moment later", 2, 1)
	if n := o.end(e); n != 1 {
		t.Errorf("%d pulls for the one that came free", n)
	}
	want("it came free", 2, 2)
	took(o.arc.sides[surplus].gen)
	o.pass(astrayFor)
	want("nothing came free for a while", 1, 2)
	took(&generation{arc: o.arc, kind: caught})
	o.pass(astrayFor + astrayFor)
	want("a call came by the catcher", 0, 2)
	o.m.pool.SetShare(o.begin, o.home, pool.Spec{}, pool.Share{Members: 4})
	o.pass(3 * astrayFor)
	want("the share rose", 2, 0)

	o = shrunk(t, 4, 2)
	took(o.idle())
	e = took(o.idle())
	took(&generation{arc: o.arc, kind: caught})
	o.pass(time.Millisecond)
	want("a call came by the catcher when all shares were taken", 0, 2)
	o.m.pool.SetShare(o.begin, o.home, pool.Spec{}, pool.Share{Members: 3})
	if n := o.end(e); n != 0 {
		t.Errorf("%d pulls for the one that came free", n)
	}
	want("surplus has the pull of one within the share", 0, 2)
	o.turn(time.Millisecond, true)
	want("surplus is renewed", 1, 1)
}

// Whatever a call comes by, no more members are offered than are idle, but for what is left astray for a moment; and after that every
// idle one is, in its class.
func TestSurplusOfferedExactly(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	const members = 12
	o := shrunk(t, members, 5)
	var busy []string
	at := time.Duration(0)
	for step := range 5000 {
		within, above := o.open()
		switch n := random.IntN(10); {
		case n < 4 && o.m.pool.Offered(o.arc.name) > 0:
			g := &generation{arc: o.arc, kind: idle, retire: true}
			switch k := kind(random.IntN(3)); {
			case k == idle && within > 0, k == surplus && above > 0:
				g = o.arc.sides[k].gen
			}
			busy = append(busy, o.take(t, g))
			o.m.offers.tops(o.m, g)
		case n < 8 && len(busy) > 0:
			k := random.IntN(len(busy))
			o.end(busy[k])
			busy[k] = busy[len(busy)-1]
			busy = busy[:len(busy)-1]
		case n == 8:
			o.m.pool.SetShare(o.begin, o.home, pool.Spec{}, pool.Share{Members: random.IntN(members + 1), Hold: true})
			o.m.offers.lookAt(o.arc)
		default:
			at += time.Duration(random.IntN(int(2 * astrayFor)))
			o.pass(at)
		}
		offered := o.m.pool.Offered(o.arc.name)
		if within, above = o.open(); within+above < offered-1 { // one of a few may wait for others
			t.Fatalf("seed %d step %d: %d and %d pulls for %d idle members", seed, step, within, above, offered)
		}
		kicked := len(o.m.offers.kicked) > 0 // the loop looks in 2 ms
		if astray := o.arc.sides[idle].astray + o.arc.sides[surplus].astray; within+above > offered+astray && !kicked {
			t.Fatalf("seed %d step %d: %d and %d pulls for %d idle members, %d astray", seed, step, within, above, offered, astray)
		}
		if kicked && random.IntN(2) == 0 {
			<-o.m.offers.kicked
			o.pass(at)
		}
		if random.IntN(20) == 0 {
			at += 2 * astrayFor
			o.begin = o.begin.Add(at)
			at = 0
			o.pass(0)
			within, above = o.open()
			if want := o.m.pool.Surplus(o.arc.name); above != want || within != offered-want {
				t.Fatalf("seed %d step %d: %d and %d pulls for %d idle members, %d of them surplus", seed, step, within, above, offered, want)
			}
		}
	}
}

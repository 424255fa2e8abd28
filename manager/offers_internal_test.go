package manager

import (
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
		if turn := m.pool.Parked(o.begin, d.Make.Environment, 0); !turn.Run {
			t.Fatalf("%+v", turn)
		}
		defer o.end(d.Make.Environment)
	}
	return o
}

// end ends an environment's call and has it wait for the next; it gives how many pulls go out before the answer.
func (o *offered) end(environment string) int {
	p := o.m.offers.top(o.m, o.m.pool.Finished(o.begin, environment, true))
	o.m.pool.Parked(o.begin, environment, 0)
	return p.n
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

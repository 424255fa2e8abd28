package manager

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// After the first round in vain the others are asked again at the next look; only where it stays in vain are the pauses longer. Rounds
// beside one another count once, and what was is forgotten once it has been quiet.
func TestPausesOfSeeking(t *testing.T) {
	t.Parallel()
	var s seeking
	at := time.Hour // any: a manager that lives for long has no other pauses
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 50, 50} {
		s.sought(at, false)
		s.sought(at-1, false)
		s.sought(at+evictEvery/2, false) // these were under way beside it
		if last := at + evictEvery/2; s.vain != last || s.pause != want*evictEvery || !s.rests(last+s.pause-1) || s.rests(last+s.pause) {
			t.Fatalf("%+v after a round at %v, want a pause of %v", s, at, want*evictEvery)
		}
		at = s.vain + s.pause
	}
	if s.sought(s.vain+s.pause+seekMost, false); s.pause != evictEvery {
		t.Errorf("%+v after quiet", s)
	}
	if s.sought(s.vain+1, true); s.rests(s.vain + 1) {
		t.Errorf("%+v after one has made way", s)
	}
}

// waysOf is a manager whose account has a cap, without a connection.
func waysOf(t *testing.T) *Manager {
	m := &Manager{pool: pool.New[*claim]("e", 10), life: t.Context()}
	m.view.Store(&view{fabric: schema.Fabric{MaxEnvironments: 1}})
	m.permits = newPermits(m)
	return m
}

// What an unreserved environment is for goes where it is idle. A member of a reservation is asked for beside those that others have.
func TestMembersNameNobody(t *testing.T) {
	t.Parallel()
	m, now := waysOf(t), time.Now()
	home := pool.Home{Key: schema.Key{FunctionID: "f", Version: "1"}}
	spec := pool.Spec{Account: subjects.DefaultAccount, Function: "f", Arc: "u.1"}
	mk := m.pool.Claim(now, home, &spec, &claim{}).Make[0]
	if ask := m.wayAsk(pool.Scope{}, &mk, nil); ask == nil || ask.For == nil || homeOf(ask.For) != home {
		t.Errorf("%+v, want it for %+v", ask, home)
	}
	home.Reservation = 7
	spec.Arc = "r.1"
	mk = m.pool.SetShare(now, home, spec, pool.Share{Members: 1}).Make[0]
	if d := m.pool.Warm(now, home, &claim{}); d.Action != pool.Wait {
		t.Fatalf("%+v, want a claim that waits for the member", d)
	}
	if ask := m.wayAsk(pool.Scope{}, &mk, nil); ask == nil || ask.For != nil {
		t.Errorf("%+v, want it for nobody by name", ask)
	}
}

// What is idle at a manager that offers nothing is warm for nobody: no claim would find it.
func TestWarmsWhatIsOffered(t *testing.T) {
	t.Parallel()
	m, now := waysOf(t), time.Now()
	home := pool.Home{Key: schema.Key{FunctionID: "f", Version: "1"}}
	id := m.pool.Claim(now, home, &pool.Spec{Account: subjects.DefaultAccount, Function: "f", Arc: "u.1"}, &claim{}).Make[0].Environment
	m.pool.Parked(now, id, 0)
	m.pool.Finished(now, id, true)
	m.pool.Parked(now, id, 0)
	kind := kindOf(home)
	ask := &schema.WayAsk{Account: subjects.DefaultAccount, Idle: time.Hour, For: &kind}
	for _, offers := range []bool{true, false} {
		m.offering = offers
		if way := m.permits.yield(ask); way.Warm != offers || way.Ended {
			t.Errorf("offering %v: %+v", offers, way)
		}
	}
}

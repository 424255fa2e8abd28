package e2e_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/subjects"
)

// TestClusterLosesAServer is S54: of three NATS servers the one is killed that has the calls. Calls that ran are answered, others are
// taken again, and no event that was accepted is lost. HEARTH_LONG=more does it six times.
func TestClusterLosesAServer(t *testing.T) {
	t.Parallel()
	kills := 1
	switch os.Getenv("HEARTH_LONG") {
	case "":
		t.Skip("with HEARTH_LONG=1: the servers take their time to choose leaders")
	case "more":
		kills = 6
	}
	t.Run("S54", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Servers: 3, Frontends: 2, Capacity: 8})
		f.DeployFn("fn", "--timeout", "60s")
		names, err := subjects.NewNames("")
		if err != nil {
			t.Fatal(err)
		}
		for range kills {
			victim := f.ServerNamed(homeOf(t, f, names.CallsOf(subjects.UnreservedArc(subjects.DefaultAccount, "fn", "", subjects.DefaultArcs))))
			survivor := f.Servers[0]
			if survivor == victim {
				survivor = f.Servers[1]
			}
			l := newLedger(t, &fabric.Door{NATS: survivor.URL}, newRecord(t))
			work := loaded(2, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 3") })
			defer work.stop()
			l.accepts(t, 20)
			g := newGate(t)
			running := l.beginAll(t, 2, "fn", g.words())
			g.wait(t, len(running))

			victim.Kill()
			killed := time.Now()
			eventually(t, "a call is answered", func() bool { return l.call("fn", "", 2*time.Second) == fine })
			t.Logf("a call was answered %v after %s was killed", time.Since(killed), victim.ID)
			js, err := jetstream.New(survivor.Connect())
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "every stream of calls is there again", func() bool {
				for number := range subjects.UnreservedStreams {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					_, err := js.Stream(ctx, names.CallsU(number))
					cancel()
					if err != nil {
						return false
					}
				}
				return true
			})
			g.open()
			for _, e := range running {
				if got := l.await(withDeadline(t), e); got != fine {
					t.Errorf("call %s ran when the server was killed: %s", e.tag, got)
				}
			}
			for i := range 20 {
				if e := l.call("fn", "", patience); e != fine {
					t.Errorf("call %d after the first: %s", i, e)
				}
			}
			l.accepts(t, 20)
			victim.Start()
			work.stop()
			drained(t, l)
			quiet(t, f)
			if dead := deadLetters(t, l); len(dead) > 0 {
				t.Errorf("%d dead letters: %+v", len(dead), dead[0])
			}
			l.settle(t)
		}
	})
}

// TestClusterServerComesBack restarts the server of a cluster that has the calls, so soon that nobody misses it: its streams in memory are
// empty then, and no sequence of them comes again, which would make a start-by or a lock of a call of before take one of now (DESIGN 9).
func TestClusterServerComesBack(t *testing.T) {
	t.Parallel()
	if os.Getenv("HEARTH_LONG") == "" {
		t.Skip("with HEARTH_LONG=1: the servers take their time to choose leaders")
	}
	f := fabric.StartSpread(t, fabric.SpreadOptions{Servers: 3, Frontends: 1, Capacity: 8})
	f.DeployFn("fn", "--timeout", "60s")
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	stream := names.CallsOf(subjects.UnreservedArc(subjects.DefaultAccount, "fn", "", subjects.DefaultArcs))
	victim := f.ServerNamed(homeOf(t, f, stream))
	survivor := f.Servers[0]
	if survivor == victim {
		survivor = f.Servers[1]
	}
	l := newLedger(t, &fabric.Door{NATS: survivor.URL}, newRecord(t))
	eventually(t, "a call is answered", func() bool { return l.call("fn", "", 2*time.Second) == fine })
	g := newGate(t)
	running := l.beginAll(t, 12, "fn", g.words()) // more than one manager holds: either may be the controller afterwards, and has seen some
	g.wait(t, len(running))
	g.open()
	for _, e := range running {
		if got := l.await(withDeadline(t), e); got != fine {
			t.Errorf("call %s: %s", e.tag, got)
		}
	}
	js, err := jetstream.New(survivor.Connect())
	if err != nil {
		t.Fatal(err)
	}
	state := func() (jetstream.StreamState, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return jetstream.StreamState{}, err
		}
		return s.CachedInfo().State, nil
	}
	before, err := state()
	if err != nil {
		t.Fatal(err)
	}
	victim.Kill()
	victim.Start()
	eventually(t, "its sequences are new ones", func() bool {
		now, err := state()
		return err == nil && now.FirstSeq > before.LastSeq
	})
	eventually(t, "a call is answered again", func() bool { return l.call("fn", "", 2*time.Second) == fine })
	for i := range 20 {
		if e := l.call("fn", "", patience); e != fine {
			t.Errorf("call %d after the first: %s", i, e)
		}
	}
	quiet(t, f)
	l.settle(t)
}

// homeOf is the server on which a stream of one replica lies.
func homeOf(t testing.TB, f *fabric.Spread, stream string) string {
	t.Helper()
	js, err := jetstream.New(f.Servers[0].Connect())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(withDeadline(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Cluster; c != nil {
		return c.Leader
	}
	t.Fatalf("stream %s is on no cluster", stream)
	return ""
}

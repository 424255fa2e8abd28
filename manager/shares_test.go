package manager_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Members are made as shares say, by the managers that the record and the ring name, before any call; what a higher limit adds
// moves nobody (S01, S03, S37).
func TestProvisioning(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	all := []string{"m1", "m2", "m3", "m4"}
	b.rule(all...)
	b.version1("resize")
	nodes := make(map[string]*node)
	for _, id := range all {
		nodes[id] = b.start(f, id, quickly)
	}
	ring := subjects.NewRing(0, all)
	for _, limit := range []int{5, 10, 20, 3} {
		arc := b.write("resize", limit, schema.ReservationProvisioning)
		places := ring.Places(nil, subjects.DefaultAccount, "resize", "1", limit, 5, nil)
		natstest.Eventually(t, patience, func() bool {
			for _, p := range places {
				if a := b.told(p.Manager, arc); a.Share != p.Share || a.Ready != p.Share || a.Idle != p.Share {
					return false
				}
			}
			return b.sum(arc) == limit
		}, fmt.Sprintf("%d members are ready, and no more", limit))
	}
	made := int64(0)
	for _, n := range nodes {
		made += n.Counters().Made
	}
	if made != 20 {
		t.Errorf("%d members were made, want the 20 of the highest limit", made)
	}
	b.write("resize", 8, schema.ReservationProvisioning, func(rec *schema.ReservationRecord) {
		rec.Skip = []string{ring.Places(nil, subjects.DefaultAccount, "resize", "1", 8, 5, nil)[0].Manager}
	})
	arc := arcOf("resize", 5)
	skipped := ring.Places(nil, subjects.DefaultAccount, "resize", "1", 8, 5, nil)[0].Manager
	natstest.Eventually(t, patience, func() bool { return b.told(skipped, arc).Ready == 0 && b.sum(arc) == 8 }, "who cannot hold its share has none")
}

// Under steady load a lower limit costs no call its member, and takes those that nobody uses (S30); a limit that rises again makes
// exactly what lacks (S36); without load as many stay as the limit says (S32).
func TestShrinkAndGrow(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	key := b.version1("resize")
	steady := &barrier{n: 8}
	defer steady.release()
	n := b.start(f, "m1", quickly, func(_ *manager.Config, w *echoWorker) { w.run = steady.pass })
	arc := b.write("resize", 10, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 10 }, "ten are ready")
	stop := make(chan struct{})
	var refused atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if err := b.loop(n, "resize", key, stop, &refused); err != nil {
				t.Error(err)
			}
		})
	}
	natstest.Eventually(t, patience, func() bool { return steady.rounds.Load() > 0 }, "eight run at once")
	b.write("resize", 4, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Share == 4 }, "its share is four")
	began := time.Now()
	natstest.Eventually(t, patience, func() bool { return time.Since(began) > 6*400*time.Millisecond }, "several reclaim times")
	if a := b.told("m1", arc); refused.Load() > 0 || a.Ready != 8 {
		t.Errorf("%d callers found no member, %d are ready, want those that are used", refused.Load(), a.Ready)
	}
	b.write("resize", 10, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Share == 10 && a.Ready == 10 }, "ten again")
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 10 }, "ten live")
	if c := n.Counters(); c.Made != 12 || c.Ended != 2 {
		t.Errorf("%d made and %d ended, want the two replaced that nobody used", c.Made, c.Ended)
	}
	close(stop)
	steady.release()
	callers.Wait()
	b.write("resize", 4, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 4 && a.Share == 4 && n.worker.live() == 4 }, "four are left")
	if s := n.Status(); s.Reserved != 4 || s.Surplus != 0 {
		t.Errorf("%d reserved, %d surplus", s.Reserved, s.Surplus)
	}
}

// Held calls finish when the limit falls: surplus is never stopped busy, and what is left of it is adopted again (S33, S36).
func TestSurplusIsNotStopped(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	key := b.version1("resize")
	g := newGate()
	n := b.start(f, "m1", quickly, func(_ *manager.Config, w *echoWorker) { w.run = g.pass })
	arc := b.write("resize", 10, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 10 }, "ten are ready")
	a := b.hearken()
	for i := range 8 {
		if !b.run(n, "resize", key, a.inbox) {
			t.Fatalf("call %d finds no member", i)
		}
	}
	natstest.Eventually(t, patience, func() bool { return g.held() == 8 }, "eight run")
	b.write("resize", 4, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 8 && a.Share == 4 }, "the idle two go")
	b.write("resize", 10, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 10 }, "ten again")
	if made := n.Counters().Made; made != 12 {
		t.Errorf("%d made, want the two that lacked", made-10)
	}
	b.write("resize", 0, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 8 }, "what is idle goes")
	if s := n.Status(); s.Surplus != 8 {
		t.Errorf("%d surplus, want 8", s.Surplus)
	}
	// Asked for again while it drains: what is left waits for what the controller says.
	b.write("resize", 8, schema.ReservationDraining, func(rec *schema.ReservationRecord) { rec.Marker = 9 })
	close(g.open)
	a.want(8)
	began := time.Now()
	natstest.Eventually(t, patience, func() bool { return time.Since(began) > 500*time.Millisecond }, "longer than draining members stay idle")
	b.write("resize", 8, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 8 && a.Share == 8 }, "eight are adopted")
	if made := n.Counters().Made; made != 12 {
		t.Errorf("%d made in all, want 12", made)
	}
	b.remove("resize")
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 0 && b.told("m1", arc).Ready == 0 }, "without a record all go")
	natstest.Eventually(t, patience, func() bool { return n.Stakes() == 0 }, "nothing is remembered of it")
}

// A function whose inits fail is told so after three, and is not tried again and again; when it works the members are made.
func TestFailingMembers(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	b.version1("broken")
	var inits atomic.Int64
	var works atomic.Bool
	n := b.start(f, "m1", quickly, func(_ *manager.Config, w *echoWorker) {
		w.init = func(*schema.Binding) *schema.FunctionError {
			inits.Add(1)
			if works.Load() {
				return nil
			}
			return &schema.FunctionError{Type: "Runtime.ExitError", Message: "exit status 1"}
		}
	})
	arc := b.write("broken", 4, schema.ReservationProvisioning)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Failed == "Runtime.ExitError: exit status 1" }, "its failure is told")
	if got := inits.Load(); got > 7 {
		t.Errorf("%d inits, want four, two more and one try", got)
	}
	if room := n.Status().Room; room != 40 {
		t.Errorf("room %d, want all of it: what fails keeps nothing", room)
	}
	works.Store(true)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 4 && a.Failed == "" }, "four are ready")
}

// What does not fit is told, and what fits is kept, in place of idle environments without a reservation.
func TestUnableToHold(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	b.version1("resize")
	n := b.start(f, "m1", quickly, capacity(3))
	other := b.deploy("other")
	b.invoke("other", other)
	arc := b.write("resize", 3, schema.ReservationProvisioning)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 3 && !a.Unable && n.worker.live() == 3 }, "three fit")
	b.write("resize", 5, schema.ReservationProvisioning)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 3 && a.Unable && a.Share == 5 }, "five do not")
	b.write("resize", 2, schema.ReservationProvisioning)
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 2 && !a.Unable }, "two do")
	b.invoke("other", other)
}

// A reservation of what does not exist has no members and says why; one whose function is deleted loses them.
func TestReservationOfNothing(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	n := b.start(f, "m1", quickly)
	arc := b.write("resize", 2, schema.ReservationProvisioning)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Failed != "" }, "it says why")
	b.version1("resize")
	natstest.Eventually(t, patience, func() bool { a := b.told("m1", arc); return a.Ready == 2 && a.Failed == "" }, "now there are members")
	kv, err := b.js.KeyValue(t.Context(), b.names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), subjects.DefaultAccount+".resize"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 0 && b.told("m1", arc).Failed != "" }, "they end")
}

// A member that ends by itself is replaced.
func TestMemberIsReplaced(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	key := b.version1("resize")
	n := b.start(f, "m1", quickly, func(_ *manager.Config, w *echoWorker) {
		w.doomed = func(*schema.Run) bool { return true }
	})
	arc := b.write("resize", 2, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 2 }, "two are ready")
	a := b.hearken()
	if !b.run(n, "resize", key, a.inbox) {
		t.Fatal("no member")
	}
	a.want(1)
	natstest.Eventually(t, patience, func() bool { return n.Counters().Made == 3 && n.worker.live() == 2 }, "the one that died is replaced")
}

// A share that moves away with the ring is held until it is ready where it went.
func TestHeldWhileOthersStart(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	b.version1("resize")
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	b.start(f, "m1", quickly)
	arc := b.write("resize", 4, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 4 }, "four are ready")
	b.setRing(2, "m1", "m2")
	b.start(f, "m2", quickly, func(_ *manager.Config, w *echoWorker) {
		w.init = func(*schema.Binding) *schema.FunctionError { <-gate; return nil }
	})
	t.Cleanup(open)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Share == 2 && b.told("m2", arc).Starting == 2 }, "two move")
	began := time.Now()
	natstest.Eventually(t, patience, func() bool { return time.Since(began) > 3*400*time.Millisecond }, "several reclaim times")
	if a := b.told("m1", arc); a.Ready != 4 {
		t.Errorf("%d are left while the others start, want four", a.Ready)
	}
	open()
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 2 && b.told("m2", arc).Ready == 2 }, "then they go")
}

// Who leaves serves until its share is ready elsewhere (S41): by a drain, and by a stop.
func TestLeavesWhenOthersAreReady(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(n *node, ctx context.Context) error{
		"drain": func(n *node, ctx context.Context) error { return n.Drain(ctx) },
		"stop":  func(n *node, ctx context.Context) error { return n.Stop(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t)
			b := newBook(t, f)
			b.rule("m1", "m2", "m3")
			key := b.version1("resize")
			var late atomic.Bool
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			slow := func(_ *manager.Config, w *echoWorker) {
				w.init = func(*schema.Binding) *schema.FunctionError {
					if late.Load() {
						<-gate
					}
					return nil
				}
			}
			nodes := make(map[string]*node)
			for _, id := range []string{"m1", "m2", "m3"} {
				nodes[id] = b.start(f, id, quickly, slow)
			}
			t.Cleanup(open)
			arc := b.write("resize", 6, schema.ReservationActive)
			natstest.Eventually(t, patience, func() bool { return b.sum(arc) == 6 }, "six are ready")
			places := subjects.NewRing(0, []string{"m1", "m2", "m3"}).Places(nil, subjects.DefaultAccount, "resize", "1", 6, 5, nil)
			leaver := nodes[places[0].Manager]
			late.Store(true)
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				done <- leave(leaver, ctx)
			}()
			natstest.Eventually(t, patience, func() bool { return leaver.State() == schema.MemberDraining }, "it leaves")
			var left []string
			for id := range nodes {
				if id != leaver.ID() {
					left = append(left, id)
				}
			}
			b.setRing(2, left...)
			natstest.Eventually(t, patience, func() bool {
				n := 0
				for _, id := range left {
					n += b.told(id, arc).Starting
				}
				return n == 3
			}, "its share is made elsewhere")
			a := b.hearken()
			if !b.run(leaver, "resize", key, a.inbox) {
				t.Error("it does not serve any more")
			}
			a.want(1)
			select {
			case err := <-done:
				t.Fatalf("left before the others were ready: %v", err)
			default:
			}
			if sum := b.sum(arc); sum != 6 {
				t.Errorf("%d ready on the way", sum)
			}
			open()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, patience, func() bool {
				return leaver.worker.live() == 0 && b.told(left[0], arc).Ready+b.told(left[1], arc).Ready == 6
			},
				"all are elsewhere")
		})
	}
}

// That a member went idle is told by itself, before its call is answered, and numbers rise over all statuses.
func TestIdleIsToldBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	b := newBook(t, f)
	b.rule("m1")
	key := b.version1("resize")
	n := b.start(f, "m1", quickly)
	arc := b.write("resize", 3, schema.ReservationActive)
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Ready == 3 }, "three are ready")
	g := newGate()
	n.worker.run = g.pass // no call runs yet
	var mu sync.Mutex
	var busy []int // as told, -1 for an answer
	inbox := b.nc.NewInbox()
	sub, err := b.nc.Subscribe(">", func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		switch msg.Subject {
		case inbox:
			busy = append(busy, -1)
		case b.names.ManagerStatus("m1"):
			var s schema.ManagerStatus
			if err := schema.Unmarshal(msg.Data, &s); err == nil {
				for _, a := range s.Arcs {
					if a.Arc == arc {
						busy = append(busy, a.Busy)
					}
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !b.run(n, "resize", key, inbox) {
			t.Fatal("no member")
		}
	}
	natstest.Eventually(t, patience, func() bool { return b.told("m1", arc).Busy == 2 && g.held() == 2 }, "two are told busy")
	close(g.open)
	var got []int
	natstest.Eventually(t, patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		answers := 0
		for _, n := range busy {
			if n < 0 {
				answers++
			}
		}
		got = busy
		return answers == 2
	}, "both are answered")
	told, answers := 2, 0
	for _, n := range got {
		if n >= 0 {
			told = n
			continue
		}
		if answers++; told > 2-answers {
			t.Errorf("answer %d came while %d were told busy: %v", answers, told, got)
		}
	}
	natstest.Eventually(t, patience, func() bool { // by a subscription of its own
		b.shares.mu.Lock()
		defer b.shares.mu.Unlock()
		return b.shares.part > 0
	}, "a partial status was heard")
	b.shares.mu.Lock()
	defer b.shares.mu.Unlock()
	if len(b.shares.bad) > 0 {
		t.Errorf("out of order: %v", b.shares.bad)
	}
}

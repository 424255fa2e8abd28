package manager_test

import (
	"fmt"
	"slices"
	"strings"
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

// What comes to an inbox that arcs share is known apart: calls run at members of their own arc, and a pull that is refused is the
// arc's whose consumer is gone.
func TestSharedInbox(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 1)
	n, name := r.nodes[0], r.arc().ArcName()
	r.members(2)
	shares := func() bool { return n.Shares(name) && n.Settled() }
	natstest.Eventually(t, patience, shares, "the arc has taken its turn")
	a := r.listen()
	for range 3 {
		r.publishReserved(r.reserved(a.inbox))
		if msg := a.want(1)[0]; start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != name {
			t.Errorf("%v", msg.Header)
		}
	}
	if k := n.Counters(); k.Garbage != 0 || k.Moved != 0 {
		t.Errorf("%d messages belonged to nobody, %d calls were moved", k.Garbage, k.Moved)
	}
	natstest.Eventually(t, patience, shares, "it shares still")
	if err := r.js.DeleteConsumer(t.Context(), r.names.CallsR(0), r.names.ReservedDurable(7)); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return n.Refused(name) > 0 }, "its pulls were refused")
	if k := n.Counters(); k.Garbage != 0 {
		t.Errorf("%d statuses belonged to nobody", k.Garbage)
	}
}

// Calls meet the members of the first rank that has an idle one, warm, and say so (S01).
func TestReservedArc(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := reserve(t, natstest.Start(t), 3, gated(g))
	opened(t, g)
	r.members(2, 2)
	a := r.listen()
	at := make(map[string]int)
	for i := range 4 {
		r.publishReserved(r.reserved(a.inbox))
		natstest.Eventually(t, patience, func() bool { return g.held() == i+1 }, "the call runs")
		if want := r.nodes[i/2]; want.Status().Busy != i%2+1 {
			t.Errorf("call %d does not run at %s, the first with an idle member", i, want.ID())
		}
	}
	close(g.open)
	for _, msg := range a.want(4) {
		at[msg.Header.Get(schema.HeaderManager)+" "+msg.Header.Get(schema.HeaderRank)]++
		if start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != "r.0.default.resize.1.7" ||
			msg.Header.Get(schema.HeaderReason) != string(schema.ReasonReserved) {
			t.Errorf("%v", msg.Header)
		}
	}
	if at[r.nodes[0].ID()+" 0"] != 2 || at[r.nodes[1].ID()+" 1"] != 2 {
		t.Errorf("ran at %v", at)
	}
	if n := r.sum(moved); n != 0 {
		t.Errorf("%d calls were moved", n)
	}
	natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call is left")
}

// Classes count the managers that hold members, also outside of the arc, in ring order; one off the ring serves on behind all.
func TestReservedClasses(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 4)
	name := r.arc().ArcName()
	r.members(0, 1, 0, 1) // classes 0 and 2 of two holders; offered checks them
	r.nodes[0].MakeMembers(r.arc(), r.key, 1)
	r.offered(1, 1, 0, 1)
	if got := []int{r.nodes[0].Class(name), r.nodes[1].Class(name), r.nodes[3].Class(name)}; !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("classes %v", got)
	}
	// The first leaves the ring, with its member.
	stranger := r.nodes[0]
	r.writeRing(2, r.order(ids(4))[1:]...)
	natstest.Eventually(t, patience, func() bool {
		return stranger.Class(name) == subjects.ClassReservedStranger && r.nodes[1].Class(name) == 0 && r.nodes[3].Class(name) == 2 &&
			stranger.Settled() && r.nodes[1].Settled() && r.nodes[3].Settled()
	}, "the classes are those of the ring without it")
	r.processed()
	g := newGate()
	opened(t, g)
	for _, n := range r.nodes {
		n.worker.hold(g)
	}
	a := r.listen()
	for i, want := range []*node{r.nodes[1], r.nodes[3], stranger} {
		r.publishReserved(r.reserved(a.inbox))
		natstest.Eventually(t, patience, func() bool { return g.held() == i+1 }, "the call runs")
		if want.Status().Busy != 1 {
			t.Errorf("call %d does not run at %s", i, want.ID())
		}
	}
	close(g.open)
	for _, msg := range a.want(3) {
		if rank := msg.Header.Get(schema.HeaderRank); start(msg) != schema.StartWarm ||
			(rank == fmt.Sprint(subjects.OffArc)) != (msg.Header.Get(schema.HeaderManager) == stranger.ID()) {
			t.Errorf("%v", msg.Header)
		}
	}
	// It catches no more, and rank 1 of the new ring does, which has no member that could take a call. Rank 0 has one.
	natstest.Eventually(t, patience, func() bool {
		return stranger.Offers(name) == 1 && r.nodes[1].Offers(name) == 1 && r.nodes[2].Offers(name) == 1 && r.nodes[3].Offers(name) == 1
	}, "idle pulls of three and the catcher of rank 1 are what is open")
}

// The shares of all managers are taken before the surplus of any: after the limit fell, what is idle is what may go, at the last
// manager first, and not the share of the last one.
func TestSurplusAfterShares(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := reserve(t, natstest.Start(t), 3, gated(g))
	opened(t, g)
	name := r.arc().ArcName()
	r.members(2, 2)
	settled := func(classes ...int) {
		t.Helper()
		natstest.Eventually(t, patience, func() bool {
			for i, n := range r.nodes[:2] {
				if n.Class(name) != classes[2*i] || n.SurplusClass(name) != classes[2*i+1] || !n.Settled() {
					return false
				}
			}
			return true
		}, fmt.Sprintf("classes of shares and surplus %v", classes))
		r.processed()
	}
	for _, n := range r.nodes[:2] {
		n.MakeMembers(r.arc(), r.key, 1)
	}
	settled(0, 4, 2, 6)
	a := r.listen()
	for i, want := range [][2]int{{1, 0}, {1, 1}, {2, 1}, {2, 2}} {
		r.publishReserved(r.reserved(a.inbox))
		natstest.Eventually(t, patience, func() bool { return g.held() == i+1 }, "the call runs")
		if got := [2]int{r.nodes[0].Status().Busy, r.nodes[1].Status().Busy}; got != want {
			t.Errorf("after call %d %v are busy, want %v", i+1, got, want)
		}
	}
	close(g.open)
	for _, msg := range a.want(4) {
		if start(msg) != schema.StartWarm {
			t.Errorf("%v", msg.Header)
		}
	}
	settled(0, 4, 2, 6)
	for _, n := range r.nodes[:2] { // the limit rises again: what was surplus is taken back
		n.MakeMembers(r.arc(), r.key, 2)
	}
	settled(0, 10, 2, 10)
	if n := r.sum(moved); n != 0 {
		t.Errorf("%d calls were moved", n)
	}
}

// What finds no idle member moves to the unreserved arc, once, as the same call (S22).
func TestCatcherMovesOnce(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]bool{"payload inside": false, "payload held by the frontend": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate()
			r := reserve(t, natstest.Start(t), 2, gated(g))
			opened(t, g)
			r.members(1, 1)
			acked := r.hearAcks()
			a := r.listen()
			for i := range 2 {
				r.publishReserved(r.reserved(a.inbox))
				natstest.Eventually(t, patience, func() bool { return g.held() == i+1 }, "both members are busy")
			}
			copies, err := r.nc.SubscribeSync(r.names.Prefix() + ".arc.u.>")
			if err != nil {
				t.Fatal(err)
			}
			call := r.reserved(a.inbox)
			body := call.Payload
			if held {
				call.Held, call.Payload = len(body), nil
				_, err := r.nc.Subscribe(subjects.FrontendInbox("f1", fmt.Sprintf("f.%016x", call.Token)), func(msg *nats.Msg) {
					_ = msg.Respond(body)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			r.publishReserved(call)
			natstest.Eventually(t, patience, func() bool { return g.held() == 3 }, "the third call runs elsewhere")
			msg, err := copies.NextMsg(patience)
			if err != nil {
				t.Fatal(err)
			}
			var got schema.Call
			if err := schema.DecodeCall(msg.Data, &got); err != nil {
				t.Fatal(err)
			}
			if msg.Subject != r.subject(call) {
				t.Errorf("published to %s, want %s", msg.Subject, r.subject(call))
			}
			ttl, err := time.ParseDuration(msg.Header.Get(nats.MsgTTLHdr))
			if err != nil || ttl < got.StartBy+2*time.Second || ttl >= got.StartBy+3*time.Second {
				t.Errorf("time to live %v for a start-by of %v (%v)", ttl, got.StartBy, err)
			}
			if got.StartBy >= call.StartBy || got.StartBy < call.StartBy-2*patience {
				t.Errorf("start-by %v of %v", got.StartBy, call.StartBy)
			}
			want := *call
			want.Reason, want.StartBy = schema.ReasonOverflow, got.StartBy
			if string(schema.EncodeCall(nil, &got)) != string(schema.EncodeCall(nil, &want)) {
				t.Errorf("the copy is %+v, the call was %+v", got, call)
			}
			arc := subjects.UnreservedArc(call.Account, call.Function, "", natstest.Arcs)
			natstest.Eventually(t, patience, func() bool {
				return slices.Equal(acked.of(call), []string{r.names.CallsR(0), r.names.CallsOf(arc)})
			}, "the frontend hears where the call lies, and where it lies now")
			close(g.open)
			for _, msg := range a.want(3) {
				overflow := msg.Header.Get(schema.HeaderReason) == string(schema.ReasonOverflow)
				if mine := msg.Header.Get(schema.HeaderRequestID) == call.RequestID; mine != overflow ||
					mine != strings.HasPrefix(msg.Header.Get(schema.HeaderArc), "u.") {
					t.Errorf("%v", msg.Header)
				}
			}
			natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call is left")
			if n, err := a.sub.NextMsg(50 * time.Millisecond); err == nil {
				t.Errorf("answered twice: %v", n.Header)
			}
			if n := r.sum(moved); n != 1 {
				t.Errorf("%d moves", n)
			}
			tells := ""
			for _, n := range r.nodes {
				words, _ := r.story(n.ID(), call.RequestID)
				tells += words + " "
			}
			if !strings.Contains(tells, "moved") || strings.Count(tells, "started") != 1 || strings.Count(tells, "finished") != 1 {
				t.Errorf("told as %s", tells)
			}
		})
	}
}

// Of two catchers that have the same call, one moves it.
func TestTwoCatchersRace(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 2, set("catch", "1us"))
	th := r.reservedThief()
	acked := r.hearAcks()
	a := r.listen()
	const rounds = 50
	var calls []*schema.Call
	for range rounds {
		call := r.reserved(a.inbox)
		calls = append(calls, call)
		r.publishReserved(call)
		second := again(r.steal(th))
		var wg sync.WaitGroup
		for _, n := range r.nodes {
			wg.Go(func() { n.DeliverCaught(r.arc().ArcName(), second) })
		}
		wg.Wait()
	}
	natstest.Eventually(t, patience, func() bool {
		return r.sum(moved) >= rounds && r.sum(func(n *node) int64 { return n.Counters().LocksLost }) >= rounds && r.waits() == 0
	}, "every delivery has ended")
	for _, call := range calls {
		if got := acked.of(call); len(got) != 2 {
			t.Errorf("call %s lay in %v", call.RequestID, got)
		}
		for _, n := range r.nodes {
			if n, ok := n.worker.starts.Load(call.RequestID); ok && n.(*atomic.Int64).Load() > 1 {
				t.Errorf("call %s ran twice", call.RequestID)
			}
		}
	}
	if n := r.sum(moved); n != rounds {
		t.Errorf("%d moves of %d calls", n, rounds)
	}
}

// A call whose second delivery comes to a catcher with an idle member runs there, by the lock.
func TestCatcherGivesToMember(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := reserve(t, natstest.Start(t), 1, gated(g))
	opened(t, g)
	r.members(1)
	a := r.listen()
	r.publishReserved(r.reserved(a.inbox))
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the only member is busy")
	th := r.reservedThief()
	r.publishReserved(r.reserved(a.inbox))
	n, name := r.nodes[0], r.arc().ArcName()
	n.DeliverCaught(name, r.steal(th))
	back := r.steal(th) // after its grace
	close(g.open)
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 1 }, "the member came free")
	won := n.Counters().LocksWon
	n.DeliverCaught(name, back)
	for _, msg := range a.want(2) {
		if start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != name {
			t.Errorf("%v", msg.Header)
		}
	}
	if k := n.Counters(); k.Moved != 0 || k.LocksWon != won+1 {
		t.Errorf("%d moves, %d locks", k.Moved, k.LocksWon-won)
	}
	natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call is left")
}

// A claim that meets no idle member by an idle pull goes back at once. Nothing is made for it, and nothing ended.
func TestIdlePullThatLostItsMember(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 1, capacity(1))
	r.invoke("resize", r.key) // the only place: idle, unreserved, of the same function
	natstest.Eventually(t, patience, func() bool { return r.nodes[0].Status().Idle == 1 }, "its environment is idle")
	th := r.reservedThief()
	a := r.listen()
	r.publishReserved(r.reserved(a.inbox))
	n, name := r.nodes[0], r.arc().ArcName()
	before := n.Counters()
	n.Deliver(name, r.steal(th))
	n.Deliver(name, r.steal(th)) // the second time, it waits
	third := r.steal(th)
	if k := n.Counters(); k.Nacks != before.Nacks+2 || k.Made != before.Made || k.Ended != before.Ended || k.Moved != 0 {
		t.Errorf("given back %d, made %d, ended %d, moved %d", k.Nacks-before.Nacks, k.Made-before.Made, k.Ended-before.Ended, k.Moved)
	}
	n.DeliverCaught(name, third)
	if msg := a.want(1)[0]; start(msg) != schema.StartWarm || !strings.HasPrefix(msg.Header.Get(schema.HeaderArc), "u.") {
		t.Errorf("%v", msg.Header)
	}
}

// Members serve their own opening alone; that of one gone by takes calls as long as it stands.
func TestMembersOfTheirOwnEpoch(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 2)
	r.members(1, 1)
	old := r.arc().ArcName()
	r.rec.Closing = []schema.ClosingArc{{Epoch: r.rec.Epoch, Shard: r.rec.Shard, Marker: r.rec.Marker}}
	r.open(9)
	a := r.listen()
	r.publishReserved(r.reserved(a.inbox)) // of the new one, which has no members yet
	if msg := a.want(1)[0]; msg.Header.Get(schema.HeaderReason) != string(schema.ReasonOverflow) {
		t.Errorf("%v", msg.Header)
	}
	r.rec.Epoch = 7
	r.publishReserved(r.reserved(a.inbox))
	if msg := a.want(1)[0]; start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != old {
		t.Errorf("%v", msg.Header)
	}
}

// A call does not wait for a member that still starts: its init may take long, and elsewhere it need not.
func TestMembersThatStartTakeNothing(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := reserve(t, natstest.Start(t), 1, func(_ *manager.Config, w *echoWorker) {
		w.init = func(*schema.Binding) *schema.FunctionError {
			if w.live() == 1 { // the member, made first
				g.pass(nil)
			}
			return nil
		}
	})
	opened(t, g)
	r.nodes[0].MakeMembers(r.arc(), r.key, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "the member starts")
	a := r.listen()
	r.publishReserved(r.reserved(a.inbox))
	if msg := a.want(1)[0]; msg.Header.Get(schema.HeaderReason) != string(schema.ReasonOverflow) {
		t.Errorf("%v", msg.Header)
	}
	close(g.open)
	r.offered(1)
	r.publishReserved(r.reserved(a.inbox))
	if msg := a.want(1)[0]; start(msg) != schema.StartWarm || msg.Header.Get(schema.HeaderArc) != r.arc().ArcName() {
		t.Errorf("%v", msg.Header)
	}
}

// An arc that was retired is left: its consumer goes first, quietly, and nothing is sent there any more.
func TestRetiredArcIsLeft(t *testing.T) {
	t.Parallel()
	r := reserve(t, natstest.Start(t), 2)
	r.members(1, 1)
	name := r.arc().ArcName()
	if err := r.js.DeleteConsumer(r.t.Context(), r.names.CallsR(0), r.names.ReservedDurable(7)); err != nil {
		t.Fatal(err)
	}
	// Made again, as a sweeper does that finds calls: offers come back by themselves.
	natstest.Eventually(t, patience, func() bool { return r.nodes[0].Refused(name) > 1 }, "pulls were refused")
	rec := &r.rec
	if err := topology.EnsureReservedArc(t.Context(), r.js, r.names, 0, rec.Account, rec.Function, rec.Version, rec.Epoch); err != nil {
		t.Fatal(err)
	}
	a := r.listen()
	r.publishReserved(r.reserved(a.inbox))
	if msg := a.want(1)[0]; msg.Header.Get(schema.HeaderArc) != name {
		t.Errorf("%v", msg.Header)
	}
	for _, n := range r.nodes {
		n.TakeIn(r.rec, true)
	}
	natstest.Eventually(t, patience, func() bool { return r.nodes[0].Offers(name)+r.nodes[1].Offers(name) == 0 }, "nothing is offered")
	natstest.Eventually(t, patience, func() bool {
		c, err := r.js.Consumer(t.Context(), r.names.CallsR(0), r.names.ReservedDurable(7))
		return err == nil && c.CachedInfo().NumWaiting == 0
	}, "no pull is open")
}

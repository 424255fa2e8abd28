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

// places gives names whose calls come to a manager first while nothing of theirs is warm, each on an arc of its own.
type places struct {
	ring  *subjects.Ring
	taken map[int]bool // arcs
	next  int
}

func newPlaces(ids ...string) *places {
	return &places{ring: subjects.NewRing(0, ids), taken: make(map[int]bool)}
}

// at is the next name that arc places at a manager.
func (p *places) at(id string, arc func(name string) int) string {
	for {
		p.next++
		name := fmt.Sprint("f", p.next)
		nn := arc(name)
		if order := p.ring.Unreserved(nil, nn, 0); !p.taken[nn] && p.ring.Managers()[order[0]] == id {
			p.taken[nn] = true
			return name
		}
	}
}

func (p *places) function(id string) string {
	return p.at(id, func(name string) int {
		return subjects.UnreservedArc(subjects.DefaultAccount, name, "", natstest.Arcs)
	})
}

func (p *places) tenant(id, function string) string {
	return p.at(id, func(tenant string) int {
		return subjects.UnreservedArc(subjects.DefaultAccount, function, tenant, natstest.Arcs)
	})
}

// two starts two managers that have heard of one another.
func two(t *testing.T, f *natstest.Fabric, settings ...setting) ([]*node, *caller, *places) {
	t.Helper()
	var nodes []*node
	for _, id := range []string{"m0", "m1"} {
		nodes = append(nodes, startNode(t, f, f.Connect(t), id, settings...))
	}
	c := newCaller(t, f, "f1")
	told(t, nodes)
	settled(t, c, nodes)
	for i, n := range nodes {
		natstest.Eventually(t, patience, func() bool { return n.Hears(nodes[1-i].ID()) }, "each has heard of the other")
	}
	return nodes, c, newPlaces("m0", "m1")
}

// coldAt has a call made cold at a manager. It is made again where it is refused: on a machine that is busy with other things, whoever
// has told nothing for two seconds is asked for nothing, and who could not renew its lease for as long has no permit.
func (c *caller) coldAt(id, name string, key schema.Key) {
	c.t.Helper()
	msg := c.invoke(name, key)
	for deadline := time.Now().Add(patience); unsure(refused(msg)) && time.Now().Before(deadline); {
		msg = c.invoke(name, key)
	}
	if at := msg.Header.Get(schema.HeaderManager); refused(msg) != nil || start(msg) != schema.StartCold || at != id {
		c.t.Fatalf("a call of %s: %v, %s at %q, want cold at %s", name, refused(msg), start(msg), at, id)
	}
}

// unsure reports whether a refusal may be that of a manager that the machine let stand still.
func unsure(err error) bool {
	code := schema.CodeOf(err)
	return code == schema.CodeThrottled || code == schema.CodeUnavailable
}

// S13: at the account's cap an idle environment of another manager makes way, and the cap is kept.
func TestIdleElsewhereMakesWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, at := two(t, f, set("max-environments", "3"))
	for range 3 {
		name := at.function("m0")
		c.coldAt("m0", name, c.deploy(name))
	}
	for i := range 3 {
		name := at.function("m1")
		c.coldAt("m1", name, c.deploy(name))
		want := map[string]int{"m0": 2 - i, "m1": 1 + i}
		natstest.Eventually(t, patience, func() bool {
			held := c.holdings("a.default").Held
			return held["m0"].N == want["m0"] && held["m1"].N == want["m1"]
		}, fmt.Sprintf("held is %v", want))
		if live := nodes[0].worker.live() + nodes[1].worker.live(); live != 3 {
			t.Errorf("%d environments with a cap of three", live)
		}
	}
	if evicted := nodes[0].Counters().Evicted; evicted != 3 {
		t.Errorf("%d made way at m0, want three", evicted)
	}
}

// The cap of a function, whose sub-tenants are called at different managers; what another function has idle there stays.
func TestIdleTenantElsewhereMakesWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, at := two(t, f)
	other := at.function("m0")
	otherKey := c.deploy(other)
	c.coldAt("m0", other, otherKey)
	key := c.deploy("resize", perTenant, limited(1))
	for i := range 4 {
		key.Tenant = at.tenant(fmt.Sprint("m", i%2), "resize")
		c.coldAt(fmt.Sprint("m", i%2), "resize", key)
	}
	if got := start(c.invoke(other, otherKey)); got != schema.StartWarm {
		t.Errorf("a call of the other function is %s", got)
	}
	if a, b := nodes[0].Counters().Evicted, nodes[1].Counters().Evicted; a != 2 || b != 1 {
		t.Errorf("%d made way at m0 and %d at m1, want two and one", a, b)
	}
}

// Members of reservations make way for nobody, and neither does what runs: the call is throttled, and nobody's environment ends.
func TestMembersMakeNoWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	nodes, c, at := two(t, f, set("max-environments", "3"), func(_ *manager.Config, w *echoWorker) {
		w.run = func(run *schema.Run) {
			if run.Call.Function == "held" {
				g.pass(run)
			}
		}
	})
	opened(t, g)
	held := c.send("held", c.deploy("held"), 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "one runs")
	reserved := c.deployReserved("resize")
	nodes[0].MakeMembers(subjects.ArcCall{Reserved: true, Account: subjects.DefaultAccount, Function: "resize", Version: "1", Epoch: 7}, reserved, 2)
	natstest.Eventually(t, patience, func() bool { return nodes[1].Knows("m0", "resize") && nodes[0].Status().Idle == 2 }, "two members are idle")
	name := at.function("m1")
	if ran, refusals := c.send(name, c.deploy(name), 1).throttled(1, schema.ThrottleConcurrency); ran != 0 || refusals != 1 {
		t.Errorf("%d ran and %d were throttled, want none and one", ran, refusals)
	}
	for _, n := range nodes {
		if n.Counters().Evicted != 0 {
			t.Errorf("%d made way at %s", n.Counters().Evicted, n.ID())
		}
	}
	close(g.open)
	held.want(1)
}

// While managers take the permits of one another's idle environments all the time the cap is never exceeded, and every call comes to run.
func TestCapHoldsWhileAllMakeWay(t *testing.T) {
	t.Parallel()
	const most, callers = 6, 4
	rounds := 25
	if natstest.Raced {
		rounds = 5
	}
	f := natstest.Start(t)
	var mu sync.Mutex
	var nodes []*node
	count := func() (live int) {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range nodes {
			live += n.worker.live()
		}
		return live
	}
	for i := range 3 {
		n := startNode(t, f, f.Connect(t), fmt.Sprint("m", i), set("max-environments", fmt.Sprint(most)), func(_ *manager.Config, w *echoWorker) {
			w.init = func(*schema.Binding) *schema.FunctionError {
				if live := count(); live > most {
					t.Errorf("%d environments with a cap of %d", live, most)
				}
				return nil
			}
		})
		mu.Lock()
		nodes = append(nodes, n)
		mu.Unlock()
	}
	c := newCaller(t, f, "f1")
	told(t, nodes)
	settled(t, c, nodes)
	var names []string
	var keys []schema.Key
	for i := range 12 {
		names = append(names, fmt.Sprint("f", i))
		keys = append(keys, c.deploy(names[i]))
	}
	var again atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range rounds {
				at := (n*5 + i*3) % len(names)
				for deadline := time.Now().Add(patience); ; again.Add(1) {
					err := c.tryInvoke(names[at], keys[at])
					if err == nil {
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("a call of %s: %v", names[at], err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	if held := c.holdings("a.default").Others(""); held > most {
		t.Errorf("%d are held", held)
	}
	evicted := int64(0)
	for _, n := range nodes {
		evicted += n.Counters().Evicted
	}
	if evicted == 0 {
		t.Error("nothing made way: the test shows nothing")
	}
	t.Logf("%d made way, %d calls came again", evicted, again.Load())
}

// Where another manager has an idle environment of the same kind, none is made, and none ends for it: the claim goes there.
func TestNoWayForWhatIsWarmElsewhere(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, _ := two(t, f)
	key := c.deploy("resize", limited(1))
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", natstest.Arcs)
	ranks := subjects.NewRing(0, []string{"m0", "m1"}).Unreserved(nil, nn, 0)
	first, second := nodes[ranks[0]], nodes[ranks[1]]
	onlyWarmAt(t, c, first, second, nodes, key)
	made := first.Counters().Made
	for deadline := time.Now().Add(patience); ; {
		a := c.listen()
		call := c.call("resize", key, a.inbox)
		msg := c.steal(nn, call, a)
		if msg != nil { // nil: the idle one's pull had it before the server saw ours
			first.DeliverHanded(subjects.UnreservedName(nn), msg)
		}
		if got := a.want(1)[0]; refused(got) != nil || start(got) != schema.StartWarm || got.Header.Get(schema.HeaderManager) != second.ID() {
			t.Fatalf("%v, %s at %s, want warm at %s", refused(got), start(got), got.Header.Get(schema.HeaderManager), second.ID())
		}
		if msg != nil || time.Now().After(deadline) {
			break
		}
	}
	if n, m := second.Counters().Evicted, first.Counters().Made-made; n != 0 || m != 0 {
		t.Errorf("%d made way and %d were made", n, m)
	}
	if first.Counters().Nacks == 0 {
		t.Error("no claim went back: the test shows nothing")
	}
}

// For an environment that no claim needs any more nobody's ends: it gets no permit.
func TestNoWayForNobody(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, at := two(t, f, set("max-environments", "1"))
	name := at.function("m0")
	key := c.deploy(name)
	c.coldAt("m0", name, key)
	other := at.function("m1")
	otherKey := c.deploy(other)
	natstest.Eventually(t, patience, func() bool {
		err := <-nodes[1].TakePermit(other, otherKey)
		if code := schema.CodeOf(err); code != schema.CodeThrottled && code != schema.CodeUnavailable { // without a lease, for a moment
			t.Fatalf("%v, want it throttled", err)
		}
		return schema.CodeOf(err) == schema.CodeThrottled
	}, "it is throttled")
	if got := start(c.invoke(name, key)); got != schema.StartWarm || nodes[0].Counters().Evicted != 0 {
		t.Errorf("a call is %s after that, and %d made way", got, nodes[0].Counters().Evicted)
	}
}

// Who is asked and does not answer may have had one end all the same: the bucket is asked before the next is.
func TestSilentWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", set("max-environments", "3"))
	c := newCaller(t, f, "f1")
	settled(t, c, []*node{n})
	hold := func(m8 int) {
		value, err := schema.Marshal(schema.LimitRecord{V: schema.Version, Held: map[string]schema.Holding{
			"m8": {Incarnation: "m8", N: m8}, "m9": {Incarnation: "m9", N: 1},
		}})
		if err == nil {
			_, err = c.bucket(topology.Limits).Put(context.Background(), "a.default", value)
		}
		if err != nil {
			t.Error(err)
		}
	}
	var one, other atomic.Int64
	for id, asked := range map[string]*atomic.Int64{"m8": &one, "m9": &other} {
		c.life(id, id)
		if _, err := c.nc.Subscribe(c.names.ManagerClaim(id), func(*nats.Msg) {
			if asked.Add(1); id == "m8" {
				hold(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	hold(2)
	c.tells("m8", "m9")
	natstest.Eventually(t, patience, func() bool { return n.Hears("m8") && n.Hears("m9") }, "both are heard of")
	c.coldAt("m1", "resize", c.deploy("resize"))
	if one.Load() != 1 || other.Load() != 0 {
		t.Errorf("who has one end without a word was asked %d times, the next %d times", one.Load(), other.Load())
	}
}

// tells has managers tell, until the test ends, that they are there and nothing else.
func (c *caller) tells(ids ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for number := uint64(1); ; number++ {
			for _, id := range ids {
				status, err := schema.Marshal(schema.ManagerStatus{V: schema.Version, ID: id, Incarnation: id, Number: number, State: schema.MemberDraining, Capacity: 1})
				if err != nil {
					c.t.Error(err)
					return
				}
				_ = c.nc.Publish(c.names.ManagerStatus(id), status) // again in a moment
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	c.t.Cleanup(func() { cancel(); telling.Wait() })
}

// Nobody's word makes an environment end where there is no such cap.
func TestForgedWays(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, at := two(t, f)
	name := at.function("m0")
	key := c.deploy(name)
	c.coldAt("m0", name, key)
	other := at.function("m1")
	c.deploy(other, limited(1))
	ask := func(way *schema.WayAsk) *nats.Msg {
		body, err := schema.Marshal(schema.ManagerClaim{V: schema.Version, Way: way})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := c.nc.Request(c.names.ManagerClaim("m0"), body, patience)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	for _, way := range []*schema.WayAsk{{Account: subjects.DefaultAccount}, {Account: subjects.DefaultAccount, Function: name}, {Account: "x", Function: "*.>"}, {Account: subjects.DefaultAccount, Function: other}} {
		var answer schema.Way
		if err := schema.Unmarshal(ask(way).Data, &answer); err != nil || answer.Ended {
			t.Errorf("%+v: %+v, %v", way, answer, err)
		}
	}
	if got := start(c.invoke(name, key)); got != schema.StartWarm || nodes[0].Counters().Evicted != 0 {
		t.Errorf("a call is %s after that", got)
	}
}

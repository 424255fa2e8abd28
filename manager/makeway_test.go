package manager_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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
		return subjects.UnreservedArc(subjects.DefaultAccount, name, "", subjects.DefaultArcs)
	})
}

func (p *places) tenant(id, function string) string {
	return p.at(id, func(tenant string) int {
		return subjects.UnreservedArc(subjects.DefaultAccount, function, tenant, subjects.DefaultArcs)
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

// coldAt has a call made cold at a manager.
func (c *caller) coldAt(id, name string, key schema.Key) {
	c.t.Helper()
	msg := c.invoke(name, key)
	if at := msg.Header.Get(schema.HeaderManager); refused(msg) != nil || start(msg) != schema.StartCold || at != id {
		c.t.Fatalf("a call of %s: %v, %s at %q, want cold at %s", name, refused(msg), start(msg), at, id)
	}
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

// A function that may not grow drives nobody's environment out.
func TestSpentGrowthEvictsNobody(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nodes, c, at := two(t, f, set("max-environments", "3"), set("growth", "2"))
	noisy := at.function("m1")
	key := c.deploy(noisy, perTenant)
	for range 2 {
		key.Tenant = at.tenant("m1", noisy)
		c.coldAt("m1", noisy, key)
	}
	quiet := at.function("m0")
	quietKey := c.deploy(quiet)
	c.coldAt("m0", quiet, quietKey)
	key.Tenant = at.tenant("m1", noisy) // evicts its own; from then on it is known that it may not grow
	c.send(noisy, key, 1).throttled(1, schema.ThrottleRate)
	natstest.Eventually(t, patience, func() bool { return c.holdings("a.default").Others("") == 2 }, "one has made way")
	more := at.function("m0")
	c.coldAt("m0", more, c.deploy(more))
	before := nodes[0].Counters().Evicted + nodes[1].Counters().Evicted
	for range 3 {
		key.Tenant = at.tenant("m1", noisy)
		if ran, refusals := c.send(noisy, key, 1).throttled(1, schema.ThrottleConcurrency); ran != 0 || refusals != 1 {
			t.Errorf("%d ran and %d were throttled, want none and one", ran, refusals)
		}
	}
	if got := nodes[0].Counters().Evicted + nodes[1].Counters().Evicted; got != before {
		t.Errorf("%d made way for a function that may not grow", got-before)
	}
	if got := start(c.invoke(quiet, quietKey)); got != schema.StartWarm {
		t.Errorf("a call of the quiet function is %s", got)
	}
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
	nn := subjects.UnreservedArc(subjects.DefaultAccount, "resize", "", subjects.DefaultArcs)
	ranks := subjects.NewRing(0, []string{"m0", "m1"}).Unreserved(nil, nn, 0)
	first, second := nodes[ranks[0]], nodes[ranks[1]]
	onlyWarmAt(t, c, first, second, nodes, key)
	made := first.Counters().Made
	for try := 1; ; try++ {
		a := c.listen()
		call := c.call("resize", key, a.inbox)
		msg := c.steal(nn, call, a)
		if msg != nil { // nil: the idle one's pull had it before the server saw ours
			first.DeliverHanded(subjects.UnreservedName(nn), msg)
		}
		if got := a.want(1)[0]; refused(got) != nil || start(got) != schema.StartWarm || got.Header.Get(schema.HeaderManager) != second.ID() {
			t.Fatalf("%v, %s at %s, want warm at %s", refused(got), start(got), got.Header.Get(schema.HeaderManager), second.ID())
		}
		if msg != nil || try == 20 {
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

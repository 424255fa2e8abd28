package manager_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

func limited(n int) func(*schema.FunctionRecord) {
	return func(rec *schema.FunctionRecord) { rec.Concurrency = &n }
}

// holdings is what the managers have written that they hold of a cap.
func (c *caller) holdings(key string) *schema.LimitRecord {
	c.t.Helper()
	kv, err := c.js.KeyValue(c.t.Context(), c.names.Bucket(topology.Limits))
	if err != nil {
		c.t.Fatal(err)
	}
	rec := new(schema.LimitRecord)
	entry, err := kv.Get(c.t.Context(), key)
	if err != nil {
		return rec
	}
	if err := schema.Unmarshal(entry.Value(), rec); err != nil {
		c.t.Fatal(err)
	}
	return rec
}

// throttled counts answers: those that ran, and those throttled for this reason. Any other fails the test.
func (a *answers) throttled(n int, reason string) (ran, refusals int) {
	a.t.Helper()
	for _, msg := range a.want(n) {
		if refused(msg) == nil {
			ran++
			continue
		}
		e := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError))
		if e.Code != schema.CodeThrottled || e.Reason != reason || e.Retry <= 0 {
			a.t.Errorf("refused by %+v, want a throttle for %s", e, reason)
		}
		refusals++
	}
	return ran, refusals
}

// S13: a function has at most as many environments as its limit, over all managers, exactly; other functions do not notice.
func TestFunctionLimit(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), gated(g)))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	settled(t, c, nodes)
	key, other := c.deploy("resize", limited(5)), c.deploy("other")
	a := c.send("resize", key, 12)
	beside := c.send("other", other, 3)
	natstest.Eventually(t, patience, func() bool { return g.held() == 8 }, "five of the one and three of the other run")
	if ran, refusals := a.throttled(7, schema.ThrottleFunctionConcurrency); ran != 0 || refusals != 7 {
		t.Errorf("%d ran and %d were throttled beyond the limit, want 0 and 7", ran, refusals)
	}
	rec := c.holdings("f.default.resize")
	if rec.Others("") != 5 {
		t.Errorf("the managers hold %+v, want five in all", rec.Held)
	}
	close(g.open)
	if ran, _ := a.throttled(5, ""); ran != 5 {
		t.Errorf("%d of five ran", ran)
	}
	if ran, _ := beside.throttled(3, ""); ran != 3 {
		t.Errorf("%d of three of the other ran", ran)
	}
	if got := start(c.invoke("resize", key)); got != schema.StartWarm {
		t.Errorf("a call within the limit is %s", got)
	}
}

// A limit that is set later counts what is there; permits come back when environments go, and those of the dead are void.
func TestLimitOfWhatIsThere(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	opened(t, g)
	key := c.deploy("resize")
	runs := c.send("resize", key, 3)
	natstest.Eventually(t, patience, func() bool { return g.held() == 3 }, "three run")
	c.deploy("resize", limited(3))
	natstest.Eventually(t, patience, func() bool { return c.holdings("f.default.resize").Others("") == 3 }, "what is there is counted")
	if ran, refusals := c.send("resize", key, 2).throttled(2, schema.ThrottleFunctionConcurrency); ran != 0 || refusals != 2 {
		t.Errorf("%d ran and %d were throttled, want 0 and 2", ran, refusals)
	}
	close(g.open)
	runs.want(3)
	c.deploy("resize", limited(3), func(rec *schema.FunctionRecord) { rec.ID = "another" })
	natstest.Eventually(t, patience, func() bool { return c.holdings("f.default.resize").Others("") == 0 }, "all permits came back")
	natstest.Eventually(t, patience, func() bool { return n.Status().Idle == 0 }, "nothing is there")
	kv, err := c.js.KeyValue(t.Context(), c.names.Bucket(topology.Limits))
	if err != nil {
		t.Fatal(err)
	}
	ghosts, err := schema.Marshal(schema.LimitRecord{
		V: schema.Version, Held: map[string]schema.Holding{"gone": {Incarnation: "x", N: 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "f.default.resize", ghosts); err != nil {
		t.Fatal(err)
	}
	key.FunctionID = "another"
	if got := start(c.invoke("resize", key)); got != schema.StartCold {
		t.Errorf("a call beside the permits of the dead is %s", got)
	}
	if rec := c.holdings("f.default.resize"); len(rec.Held) != 1 || rec.Held["m1"].N != 1 {
		t.Errorf("held: %+v", rec.Held)
	}
}

// S12: a function gets at most as many environments in ten seconds as growth allows, whoever makes them; the refusal says when to
// come again.
func TestGrowth(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprint("m", i), set("growth", "6"), gated(g)))
	}
	c := newCaller(t, f, "f1")
	opened(t, g)
	settled(t, c, nodes)
	key := c.deploy("resize")
	a := c.send("resize", key, 10)
	for range 4 {
		msg := a.want(1)[0]
		err := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError))
		if err.Reason != schema.ThrottleRate || err.Retry <= 0 || err.Retry > 10*time.Second {
			t.Errorf("beyond growth: %+v", err)
		}
	}
	natstest.Eventually(t, patience, func() bool { return g.held() == 6 }, "six run")
	if rec := c.holdings("g.default.resize"); rec.Made != 6 {
		t.Errorf("%d made in the window", rec.Made)
	}
	close(g.open)
	a.want(6)
}

// At a cap what is idle makes way for what is called: a new version of the function, another function.
func TestIdleMakesWay(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", set("max-environments", "3"))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize", limited(1))
	c.invoke("resize", key)
	next := c.deploy("resize", limited(1), func(rec *schema.FunctionRecord) {
		old := rec.Latest
		old.Version = "1"
		rec.Versions, rec.Latest.ConfigRevision = []schema.VersionRecord{old}, 2
	})
	one := key
	one.Version = "1"
	for i, k := range []schema.Key{one, next, one} {
		if got := c.invoke("resize", k); start(got) != schema.StartCold {
			t.Errorf("call %d: %v %s", i, refused(got), start(got))
		}
	}
	for i := range 4 {
		name := fmt.Sprint("f", i)
		if got := c.invoke(name, c.deploy(name)); start(got) != schema.StartCold {
			t.Errorf("%s: %v %s", name, refused(got), start(got))
		}
	}
	natstest.Eventually(t, patience, func() bool { return c.holdings("a.default").Others("") == 3 }, "three are held in all")
	if s := n.Status(); s.Idle > 3 {
		t.Errorf("%d idle with a cap of three", s.Idle)
	}
}

// A function that may not grow drives nobody's environment out.
func TestSpentGrowthEvictsNobody(t *testing.T) {
	t.Parallel()
	for try := 1; ; try++ {
		began := time.Now()
		wrong := spentGrowth(t)
		if len(wrong) > 0 && time.Since(began) > 8*time.Second && try < 5 {
			continue // a window of growth is ten seconds: the function may have grown again meanwhile
		}
		for _, what := range wrong {
			t.Error(what)
		}
		return
	}
}

// spentGrowth is what is wrong once a function has grown as far as it may. It looks no further where one of its calls runs.
func spentGrowth(t *testing.T) (wrong []string) {
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
	if ran, _ := c.send(noisy, key, 1).throttled(1, schema.ThrottleRate); ran != 0 {
		return []string{"it grew beyond its growth"}
	}
	natstest.Eventually(t, patience, func() bool { return c.holdings("a.default").Others("") == 2 }, "one has made way")
	more := at.function("m0")
	c.coldAt("m0", more, c.deploy(more))
	before := nodes[0].Counters().Evicted + nodes[1].Counters().Evicted
	for range 3 {
		key.Tenant = at.tenant("m1", noisy)
		if ran, _ := c.send(noisy, key, 1).throttled(1, schema.ThrottleConcurrency); ran != 0 {
			return []string{"a call of it ran at the cap"}
		}
	}
	if got := nodes[0].Counters().Evicted + nodes[1].Counters().Evicted; got != before {
		wrong = append(wrong, fmt.Sprintf("%d made way for a function that may not grow", got-before))
	}
	if got := start(c.invoke(quiet, quietKey)); got != schema.StartWarm {
		wrong = append(wrong, fmt.Sprintf("a call of the quiet function is %s", got))
	}
	return wrong
}

package manager_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A function whose init fails answers each caller with the failure, and costs one init a call.
func TestFailingInit(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	var inits atomic.Int64
	n := startNode(t, f, f.Connect(t), "m1", func(_ *manager.Config, w *echoWorker) {
		w.init = func(*schema.Binding) *schema.FunctionError {
			inits.Add(1)
			return &schema.FunctionError{Type: "Runtime.ExitError", Message: "exit status 1"}
		}
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("broken")
	for _, msg := range c.send("broken", key, 6).want(6) {
		if msg.Header.Get(schema.HeaderFunctionError) == "" || string(msg.Data) != "Runtime.ExitError" {
			t.Errorf("answer %q with headers %v, want the init's failure", msg.Data, msg.Header)
		}
	}
	for range 6 {
		c.end()
	}
	if got := inits.Load(); got > 6 {
		t.Errorf("%d inits for 6 calls", got)
	}
	if c.stored() != 0 || n.Status().Room != 40 {
		t.Errorf("%d calls are left, room %d", c.stored(), n.Status().Room)
	}
}

// With no room the least recently used idle environment of another function goes.
func TestEvictsLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", capacity(3))
	c := newCaller(t, f, "f1")
	keys := make(map[string]schema.Key)
	for _, name := range []string{"a", "b", "c", "d"} {
		keys[name] = c.deploy(name)
	}
	for _, name := range []string{"a", "b", "c", "a"} {
		c.invoke(name, keys[name]) // idle again before it is answered
	}
	if got := start(c.invoke("d", keys["d"])); got != schema.StartCold {
		t.Fatalf("d is %s", got)
	}
	for name, want := range map[string]schema.Start{"a": schema.StartWarm, "c": schema.StartWarm, "d": schema.StartWarm} {
		if got := start(c.invoke(name, keys[name])); got != want {
			t.Errorf("%s is %s, want %s: b was the least recently used", name, got, want)
		}
	}
	if got := start(c.invoke("b", keys["b"])); got != schema.StartCold {
		t.Errorf("b is %s, want cold", got)
	}
	if got := n.worker.live(); got != 3 {
		t.Errorf("%d environments, want 3", got)
	}
}

// Variables are opened for the binding; a manager that cannot open them fails the init with the reason.
func TestVariables(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	var seen atomic.Pointer[schema.Variables]
	startNode(t, f, f.Connect(t), "m1", func(cfg *manager.Config, w *echoWorker) {
		cfg.Open = func(rec schema.SecretRecord) (schema.Variables, error) {
			if string(rec.Sealed) != "sealed" || rec.At == "" {
				return nil, errors.New("sealed to another key")
			}
			return schema.Variables{"COLOUR": "blue"}, nil
		}
		w.init = func(b *schema.Binding) *schema.FunctionError {
			seen.Store(&b.Variables)
			return nil
		}
	})
	c := newCaller(t, f, "f1")
	kv, err := c.js.KeyValue(t.Context(), c.names.Bucket(topology.Secrets))
	if err != nil {
		t.Fatal(err)
	}
	for at, sealed := range map[string]string{"id-good.1": "sealed", "id-bad.1": "other"} {
		b, err := schema.Marshal(schema.SecretRecord{V: schema.Version, KeyID: "k", Sealed: []byte(sealed)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), at, b); err != nil {
			t.Fatal(err)
		}
	}
	secret := func(rec *schema.FunctionRecord) {
		rec.Latest.SecretKey, rec.Latest.VariableNames = rec.ID+".1", []string{"COLOUR"}
	}
	good, bad, missing := c.deploy("good", secret), c.deploy("bad", secret), c.deploy("missing", secret)
	c.invoke("good", good)
	if v := seen.Load(); v == nil || (*v)["COLOUR"] != "blue" {
		t.Errorf("the binding has variables %v", seen.Load())
	}
	for name, key := range map[string]schema.Key{"bad": bad, "missing": missing} {
		if msg := c.invoke(name, key); string(msg.Data) != string(schema.CodeInitError) {
			t.Errorf("%s answered %q, want %s", name, msg.Data, schema.CodeInitError)
		}
	}
}

// A call gets an environment of exactly what its envelope names, also when the function was updated while it waited; the
// idle environments of what was replaced are ended.
func TestUpdateWhileCallsWait(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	old := c.deploy("resize")
	c.invoke("resize", old)
	first := slices.Clone(n.worker.order)
	updated := c.deploy("resize", func(rec *schema.FunctionRecord) { rec.Latest.ConfigRevision = 2 })
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 0 }, "the idle environment of the old code ends")
	if got := start(c.invoke("resize", updated)); got != schema.StartCold {
		t.Errorf("the updated function is %s, want cold", got)
	}
	msg := c.invoke("resize", old)
	if start(msg) != schema.StartCold || slices.Contains(first, msg.Header.Get(schema.HeaderEnvironment)) {
		t.Errorf("a call that names the old code: %v, want a new environment of it", msg.Header)
	}
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 1 }, "that environment ends when it is idle")
}

// A call whose function is gone, or was never of what it names, is refused and told as ended.
func TestFunctionGone(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	other, version := key, key
	other.ConfigRevision = 99
	version.Version = "7"
	for name, want := range map[string]struct {
		function string
		key      schema.Key
		code     schema.Code
	}{
		"never deployed":        {"unknown", schema.Key{FunctionID: "id", Version: schema.Latest}, schema.CodeNotFound},
		"another configuration": {"resize", other, schema.CodeUnavailable},
		"no such version":       {"resize", version, schema.CodeNotFound},
	} {
		msg := c.invoke(want.function, want.key)
		err := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError))
		if schema.CodeOf(err) != want.code {
			t.Errorf("%s: %v, want %s", name, err, want.code)
		}
		c.end()
	}
	if n.worker.live() != 0 || c.stored() != 0 {
		t.Errorf("%d environments, %d calls left", n.worker.live(), c.stored())
	}
	if got := start(c.invoke("resize", key)); got != schema.StartCold {
		t.Errorf("a good call after them is %s", got)
	}
}

// A call that was claimed when its function went, and for which an environment would have had to be made, is refused: as
// it has not run, its caller may hear so.
func TestFunctionGoneWhileAnEnvironmentIsMade(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	g := newGate()
	n := startNode(t, f, f.Connect(t), "m1", gated(g))
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	a := c.send("resize", key, 1)
	natstest.Eventually(t, patience, func() bool { return g.held() == 1 }, "a call runs")
	kv, err := c.js.KeyValue(t.Context(), f.Names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), subjects.Escape(subjects.DefaultAccount)+"."+subjects.Escape("resize")); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return n.Functions() == 0 }, "the manager sees the function go")
	msg := c.invoke("resize", key) // its home is still known here, by the call that runs
	refused := schema.ParseErrorHeaders(msg.Header.Get(schema.HeaderErrorCode), msg.Header.Get(schema.HeaderError))
	if schema.CodeOf(refused) != schema.CodeNotFound {
		t.Errorf("%v, %s; want %s", msg.Header, msg.Data, schema.CodeNotFound)
	}
	close(g.open)
	a.want(1)
	natstest.Eventually(t, patience, func() bool { return n.worker.live() == 0 }, "the environment of what is gone ends")
}

// An environment that dies with its call is not used again.
func TestCrash(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1", func(_ *manager.Config, w *echoWorker) {
		w.doomed = func(run *schema.Run) bool { return run.Start == schema.StartCold }
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	for i := range 5 {
		if got := start(c.invoke("resize", key)); got != schema.StartCold {
			t.Errorf("call %d is %s, want cold: the environment before it died", i, got)
		}
	}
	natstest.Eventually(t, patience, func() bool { return n.Status().Room == 40 }, "all places are free")
}

// A claim that waited for an environment which does not come back is given up whole: the server is not told any longer
// that it is in hands, so that whoever has it next can lose it to another if it hangs.
func TestGivenBackIsForgotten(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	back := make(chan struct{})
	n := startNode(t, f, f.Connect(t), "m1", capacity(1), func(_ *manager.Config, w *echoWorker) {
		w.park = func(string) { <-back }
	})
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	c.invoke("resize", key) // its environment has answered and does not ask for the next call
	a := c.send("resize", key, 1)
	natstest.Eventually(t, patience, func() bool { return n.Counters().Nacks > 0 }, "the second call is given back")
	if waiting := n.Waiting(); waiting != 0 {
		t.Errorf("%d claims are still told to be in hands", waiting)
	}
	close(back)
	a.want(1)
}

package frontend_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// Deploy, then call at once by another connection: never a 404, whether the watch or the read is first.
func TestDeployThenCall(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	for i := range 20 {
		name := "fn" + string(rune('a'+i))
		b.deploy(t, record(name))
		_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: name, Timeout: time.Millisecond})
		if !errors.Is(err, &schema.Error{Code: schema.CodeCapacityExceeded}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.nothingInFlight(t)
}

// Versions, $LATEST and aliases by weight; what a call runs is in its envelope.
func TestQualifiers(t *testing.T) {
	t.Parallel()
	fn := record("many")
	for _, number := range []string{"1", "2"} {
		v := fn.Latest
		v.Version, v.CodeSHA256, v.ConfigRevision = number, number+fn.Latest.CodeSHA256[1:], 7
		fn.Versions = append(fn.Versions, v)
	}
	fn.Aliases = map[string]schema.AliasRecord{
		"one":  {Name: "one", Version: "1"},
		"both": {Name: "both", Version: "1", SecondVersion: "2", SecondWeight: 0.25},
		"gone": {Name: "gone", Version: "9"},
	}
	b := setup(t, settings{functions: []*schema.FunctionRecord{fn}})
	b.serve(t, "many", func(c *schema.Call) ([]byte, nats.Header) {
		return []byte(c.Version + " " + c.CodeSHA256[:1] + " " + c.Qualifier), nil
	})
	call := func(qualifier string) string {
		a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "many", Qualifier: qualifier})
		if err != nil {
			t.Fatalf("%q: %v", qualifier, err)
		}
		return string(a.Payload)
	}
	for qualifier, want := range map[string]string{
		"": "$LATEST a ", "$LATEST": "$LATEST a $LATEST", "1": "1 1 1", "2": "2 2 2", "one": "1 1 one",
	} {
		if got := call(qualifier); got != want {
			t.Errorf("%q runs %q, want %q", qualifier, got, want)
		}
	}
	const n = 400
	second := 0
	for range n {
		switch got := call("both"); got {
		case "2 2 both":
			second++
		case "1 1 both":
		default:
			t.Fatalf("both runs %q", got)
		}
	}
	// 100 are expected; five standard deviations are 43.
	if second < 57 || second > 143 {
		t.Errorf("the second version ran %d of %d times, its weight is a quarter", second, n)
	}
	if _, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "many", Qualifier: "gone"}); !errors.Is(err, &schema.Error{Code: schema.CodeNotFound}) {
		t.Errorf("an alias of a version that is gone: %v", err)
	}
}

// A deleted function is unknown; one of the same name made again has an id of its own.
func TestDeletedFunction(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	kv := b.kv(t, topology.Functions)
	if err := kv.Delete(t.Context(), "default.echo"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { _, _, ok := b.f.Function("default", "echo"); return !ok }, "still there")
	wantRefusal(t, b.request(t, "echo", nil, nil), schema.CodeNotFound, "")
	again := record("echo")
	again.ID = "another"
	b.deploy(t, again)
	natstest.Eventually(t, patience, func() bool { _, _, ok := b.f.Function("default", "echo"); return ok }, "not there again")
	claims := b.claimer(t, "echo")
	b.send(t, "echo", nil)
	c := claims.claim(t).ack(t)
	if c.call.FunctionID != "another" {
		t.Errorf("called function id %q", c.call.FunctionID)
	}
	c.end(t)
}

// Callers that make names up cost a bounded number of reads, and no known function waits behind them.
func TestMissesDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	b.serve(t, "echo", echo)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				m := b.request(t, "x"+string(rune('a'+i%26))+nats.NewInbox()[20:], nil, nil)
				wantRefusal(t, m, schema.CodeNotFound, "Function not found")
			}
		})
	}
	for range 50 {
		if m := b.request(t, "echo", []byte("1"), nil); string(m.Data) != "1" {
			t.Errorf("answer %q with %v", m.Data, m.Header)
		}
	}
	wg.Wait()
	b.nothingInFlight(t)
}

// A change is answered when every live frontend has told its revision.
func TestWaitFunctions(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	other := b.start(t, settings{})
	for range 5 {
		revision := b.deploy(t, record("new"))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		for _, f := range []*frontend.Frontend{b.f, other} {
			if err := f.WaitFunctions(ctx, revision); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		for _, f := range []*frontend.Frontend{b.f, other} {
			if _, got, ok := f.Function("default", "new"); !ok || got < revision {
				t.Errorf("frontend %s serves revision %d, %t, after %d was told", f.ID(), got, ok, revision)
			}
		}
	}
	// A frontend that has not seen a revision that does not exist yet is waited for until the context ends.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.f.WaitFunctions(ctx, 1<<40); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// A frontend that is gone is not waited for.
	gone, cancelStop := context.WithTimeout(t.Context(), patience)
	defer cancelStop()
	if err := other.Stop(gone); err != nil {
		t.Fatal(err)
	}
	revision := b.deploy(t, record("newer"))
	if err := b.f.WaitFunctions(gone, revision); err != nil {
		t.Error(err)
	}
}

// S02: two frontends publish the same call to the same arc, and so does one after a restart.
func TestFrontendsAgreeOnArcs(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	other := b.start(t, settings{})
	for i := range 40 {
		name := "agree" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		b.deploy(t, record(name))
		claims := b.claimer(t, name)
		var first string
		for _, f := range []*frontend.Frontend{b.f, other} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, err := f.Invoke(t.Context(), &schema.Request{Account: "default", Function: name})
				if err != nil {
					t.Error(err)
				}
			}()
			c := claims.claim(t).ack(t)
			if first == "" {
				first = c.msg.Subject
			} else if c.msg.Subject != first {
				t.Errorf("%s: %s and %s", name, first, c.msg.Subject)
			}
			c.answer(t, nil, nil)
			<-done
			c.end(t)
		}
	}
}

// What control and the command see of the fabric.
func TestView(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{fabric: func(f *schema.Fabric) { f.Theta = 0.5 }})
	if got := b.f.Fabric().Theta; got != 0.5 {
		t.Errorf("theta %v", got)
	}
	b.put(t, topology.Ring, schema.RingKey, &schema.RingRecord{V: schema.Version, Epoch: 7, Members: []string{"m1", "m2"}})
	natstest.Eventually(t, patience, func() bool { return b.f.Ring().Epoch == 7 }, "the ring does not change")
	b.put(t, topology.Arcs, "u.17", &schema.ArcRecord{V: schema.Version, Length: 5})
	natstest.Eventually(t, patience, func() bool { return b.f.ArcLength(17) == 5 }, "the length does not change")
	if got := b.f.ArcLength(18); got != 0 {
		t.Errorf("length %d of an arc that has none stored", got)
	}
	b.beStatus(t, "m2")
	natstest.Eventually(t, patience, func() bool { return len(b.f.Managers()) == 2 }, "the manager's status is not seen")
	if m := b.f.Managers(); m[0].ID != "m1" || m[1].ID != "m2" || m[1].Capacity != 4 {
		t.Errorf("managers %+v", m)
	}
	// A status under another's subject, and bytes that are none.
	forged, err := schema.Marshal(&schema.ManagerStatus{V: 1, ID: "m9", Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{forged, {0xdd, 0xff, 0xff, 0xff, 0xff}, nil} {
		for _, subject := range []string{b.Names.ManagerStatus("m1"), b.Names.FrontendStatus("x"), b.Names.Prefix() + ".status.x.y"} {
			if err := b.manager.Publish(subject, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	sub, err := b.caller.SubscribeSync(b.Names.FrontendStatus(b.f.ID()))
	if err != nil {
		t.Fatal(err)
	}
	var s schema.FrontendStatus
	if err := schema.Unmarshal(next(t, sub).Data, &s); err != nil || s.ID != b.f.ID() || s.Functions == 0 || s.Incarnation == "" {
		t.Errorf("status %+v, %v", s, err)
	}
	if m := b.f.Managers(); len(m) != 2 {
		t.Errorf("managers %+v", m)
	}
	b.send(t, "echo", nil)
	natstest.Eventually(t, patience, func() bool {
		var s schema.FrontendStatus
		return schema.Unmarshal(next(t, sub).Data, &s) == nil && s.InFlight["id-echo."+schema.Latest] == 1
	}, "C by version is not told")
}

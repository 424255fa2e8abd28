package manager_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// story is what a manager tells of a call, in one word a step. All nodes answer, so its own part is picked out.
func (c *caller) story(manager, id string) (words string, steps []schema.StoryStep) {
	c.t.Helper()
	ask, err := schema.Marshal(schema.StoryAsk{V: schema.Version, RequestID: id, Account: subjects.DefaultAccount})
	if err != nil {
		c.t.Fatal(err)
	}
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.nc.PublishRequest(c.names.Trace(id), sub.Subject, ask); err != nil {
		c.t.Fatal(err)
	}
	for {
		m, err := sub.NextMsg(patience)
		if err != nil {
			c.t.Fatalf("%s does not tell: %v", manager, err)
		}
		var part schema.StoryPart
		if err := schema.Unmarshal(m.Data, &part); err != nil {
			c.t.Fatal(err)
		}
		if part.Node.ID != manager || part.Node.Kind != schema.StoryManager {
			continue
		}
		for _, call := range part.Calls {
			steps = append(steps, call.Steps...)
		}
		var all []string
		for _, s := range steps {
			all = append(all, strings.ReplaceAll(s.What, "locked", "acked")) // a manager is in doubt of what comes in its first second
		}
		return strings.Join(all, " "), steps
	}
}

// wantStory waits until a manager tells of a call in these words.
func (c *caller) wantStory(manager, id, want string) []schema.StoryStep {
	c.t.Helper()
	var steps []schema.StoryStep
	var got string
	defer func() {
		if got != want {
			c.t.Logf("%s tells of %s: %q", manager, id, got)
		}
	}()
	natstest.Eventually(c.t, patience, func() bool {
		got, steps = c.story(manager, id)
		return got == want
	}, "the story is "+want)
	return steps
}

// What becomes of a claim is told, with the environment that ran it and how it ended; another account hears nothing.
func TestStories(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	key := c.deploy("resize")
	for i, want := range []string{"claimed waits environment acked started finished", "claimed environment acked started finished"} {
		a := c.listen()
		call := c.call("resize", key, a.inbox)
		sequence := c.publish(call)
		answer := a.want(1)[0]
		steps := c.wantStory("m1", call.RequestID, want)
		last := steps[len(steps)-1]
		for key, want := range map[string]string{
			"rank": "0", "deliveries": "1", "attempt": "1", "reason": "unreserved", "arc": answer.Header.Get(schema.HeaderArc),
		} {
			if got := steps[0].Facts[key]; got != want {
				t.Errorf("call %d: %s is %q, want %q", i, key, got, want)
			}
		}
		if got := steps[0].Facts["sequence"]; got == "" || sequence == 0 {
			t.Errorf("sequence %q, want %d", got, sequence)
		}
		run := steps[len(steps)-2].Facts
		if run["environment"] != answer.Header.Get(schema.HeaderEnvironment) || run["start"] != answer.Header.Get(schema.HeaderStart) ||
			last.Facts["outcome"] != string(schema.StoryOK) {
			t.Errorf("call %d: %v, %v; answered %v", i, run, last, answer.Header)
		}
	}
}

// A question whose answer would go where a stranger chose is left aside.
func TestStoriesAreToldToTheFabricAlone(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	n := startNode(t, f, f.Connect(t), "m1")
	c := newCaller(t, f, "f1")
	before := n.Counters().Garbage
	for reply, body := range map[string]string{"$KV.HEARTH_ring.ring": "x", "_INBOX.x": "nonsense"} {
		if err := c.nc.PublishMsg(&nats.Msg{Subject: f.Names.Trace("x"), Reply: reply, Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	c.story("m1", "x") // is answered after them
	if got := n.Counters().Garbage - before; got != 2 {
		t.Errorf("%d were left aside", got)
	}
}

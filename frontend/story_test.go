package frontend_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// story asks, as a frontend that handles GetTrace does, for what this one knows of a call.
func (b *bundle) story(t testing.TB, id string) *schema.StoryPart {
	t.Helper()
	ask, err := schema.Marshal(schema.StoryAsk{V: schema.Version, RequestID: id, Account: subjects.DefaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.manager.Request(b.Names.Trace(id), ask, patience)
	if err != nil {
		t.Fatal(err)
	}
	var part schema.StoryPart
	if err := schema.Unmarshal(m.Data, &part); err != nil {
		t.Fatal(err)
	}
	return &part
}

// wantStory waits until a call is told in these steps.
func (b *bundle) wantStory(t testing.TB, id, want string) []schema.StoryStep {
	t.Helper()
	var told []schema.StoryStep
	var got string
	cond := func() bool {
		part := b.story(t, id)
		if len(part.Calls) != 1 {
			return false
		}
		told = part.Calls[0].Steps
		var steps []string
		for _, s := range told {
			steps = append(steps, s.What)
		}
		got = strings.Join(steps, " ")
		return got == want
	}
	defer func() {
		if got != want {
			t.Logf("call %s is told as %q", id, got)
		}
	}()
	natstest.Eventually(t, patience, cond, "the story is "+want)
	return told
}

// What a frontend decides and hears of a call is told, with the facts behind it, for every door.
func TestStories(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	b.send(t, "echo", nil)
	c := claims.claim(t).ack(t)
	c.beat(t)
	c.end(t)
	told := b.wantStory(t, c.call.RequestID, "admitted decided published stored running ended")
	for i, want := range []map[string]string{
		{"door": "nats", "bytes": "2", "start_by": "10s"},
		{"arc": c.arc.ArcName(), "reason": "unreserved", "L": "0", "S": "0", "B": "0", "C": "1"},
		{"arc": c.arc.ArcName(), "attempt": "1"},
		{"stream": b.streamOf("echo")},
		{"manager": "m1"},
	} {
		for key, value := range want {
			if got := told[i].Facts[key]; got != value {
				t.Errorf("%s: %s is %q, want %q", told[i].What, key, got, value)
			}
		}
	}
	if part := b.story(t, c.call.RequestID); part.Node.Kind != schema.StoryFrontend || part.Node.ID != b.f.ID() || part.Calls[0].Function != "echo" ||
		part.Calls[0].Version != schema.Latest {
		t.Errorf("%+v", part)
	}

	// HTTP, whose answer comes through here, with an error of the function.
	type result struct {
		a   *schema.Answer
		err error
	}
	got := make(chan result, 1)
	claims.pull(t)
	go func() { // ends with the answer
		a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo"})
		got <- result{a, err}
	}()
	c = claims.next(t).ack(t)
	if got, want := string(c.call.Payload), "{}"; got != want { // as on AWS
		t.Errorf("a call without a payload brings %q, want %q", got, want)
	}
	c.answer(t, []byte(`{}`), nats.Header{schema.HeaderFunctionError: {schema.FunctionErrorUnhandled}})
	if r := <-got; r.err != nil {
		t.Fatal(r.err)
	}
	told = b.wantStory(t, c.call.RequestID, "admitted decided published stored answered")
	if told[0].Facts["door"] != "http" || told[4].Facts["outcome"] != string(schema.StoryError) {
		t.Errorf("%v", told)
	}

	// Refused after its publication, and at the door, where its caller has named it.
	const refused, unknown = "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11", "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c12"
	b.request(t, "echo", nil, nats.Header{schema.HeaderTimeout: {"50ms"}, schema.HeaderRequestID: {refused}})
	told = b.wantStory(t, refused, "admitted decided published stored refused")
	if told[4].Facts["code"] != string(schema.CodeCapacityExceeded) || !strings.Contains(told[4].Text, "start-by of 50ms") {
		t.Errorf("%v", told[4])
	}
	b.request(t, "nobody", nil, nats.Header{schema.HeaderRequestID: {unknown}})
	if told = b.wantStory(t, unknown, "refused"); told[0].Facts["code"] != string(schema.CodeNotFound) {
		t.Errorf("%v", told)
	}
	// Callers that named nothing are told the id, by NATS and by HTTP, for a story of the same kind.
	m := b.request(t, "nobody", nil, nil)
	b.wantStory(t, m.Header.Get(schema.HeaderRequestID), "refused")
	a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "nobody"})
	if err == nil {
		t.Fatal("a function that is not there answered")
	}
	b.wantStory(t, a.RequestID, "refused")
	event := &schema.Request{Account: "default", Function: "nobody"}
	if _, err := b.f.Accept(t.Context(), event, ""); err == nil {
		t.Fatal("an event of a function that is not there was accepted")
	}
	b.wantStory(t, event.RequestID, "refused")
	m = b.request(t, "echo", nil, nats.Header{schema.HeaderRequestID: {"mine"}})
	if id := m.Header.Get(schema.HeaderRequestID); len(id) != 36 {
		t.Errorf("a request with a bad id was refused under %q, want an id of the fabric's", id)
	}
	if part := b.story(t, "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c13"); len(part.Calls) != 0 {
		t.Errorf("what is not known is told: %+v", part)
	}
}

// A question with a reply subject of a stranger's choice is not answered (SECURITY 2), nor one that cannot be read.
func TestStoriesAreToldToTheFabricAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	heard, err := b.manager.SubscribeSync("$KV.HEARTH_ring.ring")
	if err != nil {
		t.Fatal(err)
	}
	ask, err := schema.Marshal(schema.StoryAsk{V: schema.Version, RequestID: "x", Account: subjects.DefaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	before := b.f.Counters().Dropped
	for _, q := range []struct {
		reply string
		body  []byte
	}{{heard.Subject, ask}, {"_INBOX.x", []byte("nonsense")}} {
		if err := b.manager.PublishRequest(b.Names.Trace("x"), q.reply, q.body); err != nil {
			t.Fatal(err)
		}
	}
	b.story(t, "x") // is answered after them
	if n := b.f.Counters().Dropped - before; n != 1 {
		t.Errorf("%d dropped", n)
	}
	if m, err := heard.NextMsg(time.Millisecond); err == nil {
		t.Errorf("answered %q", m.Data)
	}
}

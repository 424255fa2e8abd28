package control_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const traced = "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11"

// node answers for a node with what its book holds.
func (b *bundle) node(t *testing.T, book *story.Book) {
	t.Helper()
	nc := b.Connect(t)
	if _, err := nc.Subscribe(b.Names.TraceAll(), func(m *nats.Msg) {
		answer, err := book.Answer(m.Data)
		if err == nil {
			err = m.Respond(answer)
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// tracing is a fabric in which frontend f1 and manager m1 answer, one that is no node answers nonsense, and these nodes are known.
func tracing(t *testing.T, frontends, managers []string) (b *bundle, frontend, manager *story.Book) {
	t.Helper()
	b = bare(t, func(*control.Config) {})
	frontend, manager = story.NewBook(schema.StoryFrontend, "f1"), story.NewBook(schema.StoryManager, "m1")
	b.view.frontends, b.view.managers = frontends, nil
	for _, m := range managers {
		b.view.managers = append(b.view.managers, schema.ManagerStatus{ID: m})
	}
	b.node(t, frontend)
	b.node(t, manager)
	nc := b.Connect(t)
	if _, err := nc.Subscribe(b.Names.TraceAll(), func(m *nats.Msg) { _ = m.Respond([]byte("nonsense")) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return b, frontend, manager
}

// What all nodes tell becomes one story; a node that says nothing is named and waited for no longer than a moment.
func TestGetTrace(t *testing.T) {
	t.Parallel()
	of, p := story.Of{Account: subjects.DefaultAccount, Function: "f", Version: "1"}, story.Publication{Token: 7, Attempt: 1}
	for name, known := range map[string][]string{"": {"m1"}, "manager m2": {"m1", "m2"}} {
		b, frontend, manager := tracing(t, []string{"f1"}, known)
		frontend.Open(traced, of, story.Admitted(p, story.NATS, 2, time.Second, 0), story.Decided(p, schema.ReasonUnreserved, "", 3, 0, 0, 0, 1))
		manager.Open(traced, of, story.Claimed(&story.Claim{Token: 7, Attempt: 1, Arc: "u.3", Delivery: 1}))
		m := b.ask(t, subjects.DefaultAccount, "GetTrace", `{"RequestId":"`+traced+`"}`)
		var got schema.Story
		if err := json.Unmarshal(m.Data, &got); err != nil {
			t.Fatal(err)
		}
		var steps []string
		for _, s := range got.Steps {
			steps = append(steps, s.Node.ID+" "+s.What)
		}
		if text := strings.Join(steps, ", "); text != "f1 admitted, f1 decided, f1 published, m1 claimed" || got.Status != schema.StoryRunning ||
			got.Function != "f" || strings.Join(got.Silent, ",") != name {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// What is no call's id, or that of none, or another account's, is refused with what to do.
func TestGetTraceOfNoCall(t *testing.T) {
	t.Parallel()
	b, frontend, _ := tracing(t, []string{"f1"}, []string{"m1"})
	const theirs = "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c13"
	frontend.Open(theirs, story.Of{Account: "theirs", Function: "f"}, story.Admitted(story.Publication{Token: 7, Attempt: 1}, story.NATS, 2, time.Second, 0))
	for request, want := range map[string][2]string{
		`{"RequestId":"` + traced + `"}`:       {"404", "each keeps its last 10000 calls"},
		`{"RequestId":"` + theirs + `"}`:       {"404", "each keeps its last 10000 calls"},
		`{"RequestId":""}`:                     {"400", "RequestId"},
		`{"RequestId":"hearth.>"}`:             {"400", "RequestId"},
		`{"RequestId":"` + traced + `","X":1}`: {"400", "X"},
	} {
		m := b.ask(t, subjects.DefaultAccount, "GetTrace", request)
		if status, text := m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError); status != want[0] || !strings.Contains(text, want[1]) {
			t.Errorf("%s: %s %q, want %q", request, status, text, want)
		}
	}
}

// A level is told to the nodes that are meant, each by its own way, and who is not there or does not answer is named.
func TestSetLogLevel(t *testing.T) {
	t.Parallel()
	b, _, _ := tracing(t, []string{"f1"}, []string{"m1", "m2"})
	nc := b.Connect(t)
	tells := func(kind, id string, read func(*nats.Msg) *schema.LevelOrder) nats.MsgHandler {
		log, err := telemetry.NewLogger(io.Discard, telemetry.LogText, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		return func(m *nats.Msg) {
			now, err := telemetry.Obey(log, kind, id, read(m))
			if err != nil {
				t.Error(err)
			}
			body, err := schema.Marshal(now)
			if err == nil {
				err = m.Respond(body)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	for subject, handle := range map[string]nats.MsgHandler{
		subjects.FrontendInbox("f1", "l"): tells(schema.StoryFrontend, "f1", func(m *nats.Msg) *schema.LevelOrder {
			var o schema.LevelOrder
			if err := schema.Unmarshal(m.Data, &o); err != nil {
				t.Error(err)
			}
			return &o
		}),
		b.Names.ManagerControl("m1"): tells(schema.StoryManager, "m1", func(m *nats.Msg) *schema.LevelOrder {
			var c schema.Control
			if err := schema.Unmarshal(m.Data, &c); err != nil || c.Op != schema.ControlLevel {
				t.Error(c.Op, err)
			}
			return c.Level
		}),
	} {
		if _, err := nc.Subscribe(subject, handle); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ request, status, want string }{
		{`{"Node":"m1"}`, "", `{"nodes":[{"kind":"manager","node":"m1","level":"info"}]}`},
		{`{"Node":"f1","Level":"debug"}`, "", `{"nodes":[{"kind":"frontend","node":"f1","level":"debug"}]}`},
		{`{"Node":"all","Level":"warn"}`, "", `{"nodes":[{"kind":"frontend","node":"f1","level":"warn"},{"kind":"manager","node":"m1","level":"warn"}],"silent":["manager m2"]}`},
		{`{"Node":"m1","Level":"error","ForSeconds":600}`, "", `"level":"error","until":"20`},
		{`{"Node":"m2"}`, "503", "manager m2"},
		{`{"Node":"m3"}`, "404", "frontend f1 manager m1 manager m2"},
		{`{"Node":"m1","Level":"loud"}`, "400", "Level"},
		{`{"Node":"m1","Level":"info","ForSeconds":-1}`, "400", "ForSeconds"},
		{`{}`, "400", "Node"},
	} {
		m := b.ask(t, subjects.FabricAccount, "SetLogLevel", c.request)
		got := string(m.Data)
		if c.status != "" {
			got = m.Header.Get(schema.HeaderError)
		}
		if status := m.Header.Get(schema.HeaderErrorCode); status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s %s, want %s %s", c.request, status, got, c.status, c.want)
		}
	}
}

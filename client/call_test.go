package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

const patience = 20 * time.Second

// serve answers the calls of a fabric as a frontend and its workers would: the answer's headers and payload come from
// respond. It gives a client of the fabric.
func serve(t testing.TB, respond func(*nats.Msg) *nats.Msg) *client.Client {
	t.Helper()
	f := natstest.Start(t, natstest.Bare())
	nc := f.Connect(t)
	if _, err := nc.Subscribe(f.Names.InvokeAll(), func(m *nats.Msg) {
		if answer := respond(m); answer != nil {
			answer.Subject = m.Reply
			if err := nc.PublishMsg(answer); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return client.New(f.Connect(t), f.Names)
}

// answer is what a worker sends.
func answer(payload string, more ...string) *nats.Msg {
	m := &nats.Msg{Data: []byte(payload), Header: nats.Header{
		schema.HeaderRequestID: {"id-1"}, schema.HeaderExecutedVersion: {"3"}, schema.HeaderStart: {"cold"}, schema.HeaderArc: {"u.17"},
		schema.HeaderReason: {"unreserved"}, schema.HeaderRank: {"1"}, schema.HeaderEnvironment: {"e1"}, schema.HeaderManager: {"m2"},
		schema.HeaderAttempt: {"1"}, schema.HeaderDuration: {"1.5ms"}, schema.HeaderInitDuration: {"20ms"},
		schema.HeaderContentType: {"application/json"},
	}}
	for i := 0; i < len(more); i += 2 {
		m.Header[more[i]] = []string{more[i+1]}
	}
	return m
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	asked := make(chan *nats.Msg, 1)
	c := serve(t, func(m *nats.Msg) *nats.Msg {
		asked <- m
		return answer(`{"n":2}`, schema.HeaderTenant, "a b", schema.HeaderLogResult, base64.StdEncoding.EncodeToString([]byte("START\n")))
	})
	got, err := c.Invoke(t.Context(), client.Call{
		Function: "count", Qualifier: "live", Tenant: "a b", Payload: []byte(`{"text":"a b"}`), Timeout: patience, Log: true,
		ClientContext: []byte("{\n \"custom\": {\"a\": \"ü\"}\n}"), Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	})
	if err != nil {
		t.Fatal(err)
	}
	m := <-asked
	if m.Subject != c.Names().Invoke("default", "count", "a b") || string(m.Data) != `{"text":"a b"}` {
		t.Errorf("asked %s %s", m.Subject, m.Data)
	}
	for name, want := range map[string]string{
		schema.HeaderQualifier: "live", schema.HeaderTimeout: "20s", schema.HeaderLog: "tail", schema.HeaderClientContext: `{"custom":{"a":"ü"}}`,
		schema.HeaderTraceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", schema.HeaderTenant: "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if got.Status() != client.StatusOK || string(got.Payload) != `{"n":2}` || got.RequestID != "id-1" || got.Version != "3" ||
		got.Start != schema.StartCold || got.Arc != "u.17" || got.Reason != schema.ReasonUnreserved || got.Rank != 1 ||
		got.Environment != "e1" || got.Manager != "m2" || got.Tenant != "a b" || got.Attempt != 1 || got.Duration != 1500*time.Microsecond ||
		got.Init != 20*time.Millisecond || got.ContentType != "application/json" || string(got.Log) != "START\n" {
		t.Errorf("answer %+v", got)
	}
}

func TestStatusOfFunctionErrors(t *testing.T) {
	t.Parallel()
	const late, lost = `{"errorType":"Sandbox.Timedout","errorMessage":"boom"}`, `{"errorType":"Hearth.ExecutionLost","errorMessage":"boom"}`
	for name, test := range map[string]struct {
		body  string
		found schema.Code // by the platform
		kind  string
		want  client.Status
	}{
		"its own":           {`{"errorType":"Error","errorMessage":"boom"}`, "", "Error", client.StatusFunctionError},
		"text":              {`boom`, "", "", client.StatusFunctionError},
		"timed out":         {late, schema.CodeTimedOut, "Sandbox.Timedout", client.StatusTimeout},
		"lost":              {lost, schema.CodeExecutionLost, "Hearth.ExecutionLost", client.StatusLost},
		"says it timed out": {late, "", "Sandbox.Timedout", client.StatusFunctionError},
		"says it is lost":   {lost, "", "Hearth.ExecutionLost", client.StatusFunctionError},
		"of a later build":  {late, "Hearth.Melted", "Hearth.Melted", client.StatusFunctionError},
		"exited": {`{"errorType":"Runtime.ExitError","errorMessage":"boom","trace":["a"],"more":{"deep":[]}}`, schema.CodeExitError,
			"Runtime.ExitError", client.StatusFunctionError},
	} {
		body, want := test.body, test.want
		c := serve(t, func(*nats.Msg) *nats.Msg {
			m := answer(body, schema.HeaderFunctionError, schema.FunctionErrorUnhandled)
			if test.found != "" {
				m.Header[schema.HeaderPlatformError] = []string{string(test.found)}
			}
			return m
		})
		got, err := c.Invoke(t.Context(), client.Call{Function: "f"})
		if err != nil || got.Status() != want || got.FunctionError.Message != "boom" || string(got.FunctionError.Body) != body {
			t.Fatalf("%s: %+v, %v; want %s", name, got, err, want)
		}
		if f := got.FunctionError; f.Type != test.kind || f.Posted != (test.found == "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestRefusals: every code that a frontend may refuse with comes back as that code.
func TestRefusals(t *testing.T) {
	t.Parallel()
	refuse := make(chan error, 1)
	c := serve(t, func(*nats.Msg) *nats.Msg {
		status, text := schema.ErrorHeaders(<-refuse)
		return &nats.Msg{Header: nats.Header{
			schema.HeaderErrorCode: {status}, schema.HeaderError: {text}, schema.HeaderRequestID: {"id-1"},
		}}
	})
	for _, row := range schema.Table() {
		if row.Status == 200 || row.Code == schema.CodeNoAnswer {
			continue // never a refusal
		}
		refuse <- schema.Errorf(row.Code, "because of %s", "this")
		_, err := c.Invoke(t.Context(), client.Call{Function: "f"})
		want := "because of this"
		if row.Status >= 429 { // the others are told in full
			want += " (request id-1)"
		}
		var refused *schema.Error
		if !errors.As(err, &refused) || refused.Code != row.Code || !strings.Contains(refused.Message, want) ||
			strings.Contains(refused.Message, "id-1") != (row.Status >= 429) {
			t.Errorf("%s came back as %v", row.Code, err)
		}
		if errors.Is(err, client.ErrNoAnswer) {
			t.Errorf("%s counts as no answer", row.Code)
		}
	}
}

func TestNobodyServes(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	_, err := client.New(f.Connect(t), f.Names).Invoke(t.Context(), client.Call{Function: "f"})
	if schema.CodeOf(err) != schema.CodeUnavailable || errors.Is(err, client.ErrNoAnswer) || !strings.Contains(err.Error(), "hearth up") {
		t.Errorf("%v", err)
	}
}

// TestNoAnswer: the caller's own time ends; nobody may say that the call did not start.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	asked := make(chan *nats.Msg, 8)
	c := serve(t, func(m *nats.Msg) *nats.Msg { asked <- m; return nil })
	_, err := c.Invoke(t.Context(), client.Call{Function: "f", Timeout: time.Millisecond})
	if schema.CodeOf(err) != schema.CodeNoAnswer || !errors.Is(err, client.ErrNoAnswer) || !strings.Contains(err.Error(), "may still be done") {
		t.Errorf("time-out: %v", err)
	}
	if got := (<-asked).Header.Get(schema.HeaderTimeout); got != "1ms" {
		t.Errorf("told a time-out of %q", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err = c.Invoke(ctx, client.Call{Function: "f"}); !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	told, err := time.ParseDuration((<-asked).Header.Get(schema.HeaderTimeout))
	if err != nil || told <= 0 || told >= time.Second {
		t.Errorf("told a time-out of %v, %v", told, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	var other conc.WaitGroup
	other.Go(func() {
		<-asked
		cancel()
	})
	if _, err = c.Invoke(ctx, client.Call{Function: "f"}); !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	other.Wait()
}

func TestInvokeRefusesHere(t *testing.T) {
	t.Parallel()
	c := serve(t, func(*nats.Msg) *nats.Msg { t.Error("it was sent"); return answer("") })
	for name, call := range map[string]struct {
		client.Call
		code schema.Code
	}{
		"no function":   {client.Call{}, schema.CodeInvalidParameter},
		"large payload": {client.Call{Function: "f", Payload: make([]byte, schema.MaxPayload+1)}, schema.CodeTooLarge},
		"context":       {client.Call{Function: "f", ClientContext: []byte("{")}, schema.CodeInvalidParameter},
		"large context": {client.Call{Function: "f", ClientContext: []byte(`"` + strings.Repeat("x", 4000) + `"`)}, schema.CodeInvalidParameter},
	} {
		if _, err := c.Invoke(t.Context(), call.Call); schema.CodeOf(err) != call.code {
			t.Errorf("%s: %v, want %s", name, err, call.code)
		}
	}
}

func TestHostileNamesStayOneToken(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	c := serve(t, func(m *nats.Msg) *nats.Msg { asked <- m.Subject; return answer("") })
	for _, name := range []string{"a.b", ">", "*", "a b", "größe", "_"} {
		if _, err := c.Invoke(t.Context(), client.Call{Function: name, Tenant: name}); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		subject := <-asked
		if target, ok := c.Names().ParseInvoke(subject); !ok || target.Function != name || target.Tenant != name {
			t.Errorf("%q was sent to %s", name, subject)
		}
	}
}

// TestSpoiltHeaders: an answer whose numbers are garbage is still an answer.
func TestSpoiltHeaders(t *testing.T) {
	t.Parallel()
	c := serve(t, func(*nats.Msg) *nats.Msg {
		return answer("1", schema.HeaderRank, "first", schema.HeaderDuration, "long", schema.HeaderLogResult, "%%%", schema.HeaderAttempt, "")
	})
	if got, err := c.Invoke(t.Context(), client.Call{Function: "f"}); err != nil || string(got.Payload) != "1" || got.Rank != 0 || got.Duration != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	other := serve(t, func(*nats.Msg) *nats.Msg { return &nats.Msg{Data: []byte("hello")} })
	if _, err := other.Invoke(t.Context(), client.Call{Function: "f"}); schema.CodeOf(err) != schema.CodeInternal {
		t.Errorf("what is no fabric: %v", err)
	}
}

func BenchmarkInvoke(b *testing.B) {
	c := serve(b, func(*nats.Msg) *nats.Msg { return answer("1") })
	call := client.Call{Function: "f", Payload: []byte("1")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Invoke(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}

// TestConnectionEnds has the server go for good while calls wait, with nats.go's own request as what would wait on: it
// tells a connection's end to a handler alone.
func TestConnectionEnds(t *testing.T) {
	t.Parallel()
	for _, owned := range []bool{true, false} {
		f := natstest.Start(t, natstest.Bare())
		service := f.Connect(t)
		silent, err := service.SubscribeSync("hearth.invoke.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := service.Flush(); err != nil {
			t.Fatal(err)
		}
		told := make(chan struct{})
		options := []nats.Option{nats.MaxReconnects(1), nats.ReconnectWait(time.Millisecond),
			nats.ClosedHandler(func(*nats.Conn) { close(told) })}
		var c *client.Client
		if owned {
			if c, err = client.Connect(t.Context(), client.Options{URL: f.URL, NATS: options}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
		} else {
			nc, err := nats.Connect(f.URL, options...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			c = client.New(nc, f.Names)
			nc.SetClosedHandler(func(nc *nats.Conn) { c.Closed(nc); close(told) })
		}
		ended := make(chan error, 1)
		go func() { // ends with the connection, which the test waits for
			_, err := c.Invoke(context.Background(), client.Call{Function: "f", Payload: []byte("{}")})
			ended <- err
		}()
		if _, err := silent.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		f.Server.Shutdown()
		select {
		case err := <-ended:
			if schema.CodeOf(err) != schema.CodeNoAnswer || !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, nats.ErrConnectionClosed) {
				t.Errorf("owned %v: %v", owned, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("owned %v: the call waits on, though its connection has ended", owned)
		}
		<-told // handlers of the connection's owner are called too
	}
}

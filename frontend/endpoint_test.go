package frontend_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestCallOverNATS(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	sub := b.send(t, "echo", nats.Header{
		schema.HeaderTimeout:       {"2s"},
		schema.HeaderLog:           {"tail"},
		schema.HeaderClientContext: {`{"custom":{"k":"v"}}`},
		schema.HeaderTraceparent:   {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		schema.HeaderTracestate:    {"a=b"},
		"Hearth-Manager":           {"forged"},
		"Other":                    {"x"},
	})
	c := claims.claim(t)
	call := c.call
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(call.RequestID) {
		t.Errorf("request id %q is no UUID of version 4 in lower case", call.RequestID)
	}
	if call.Token == 0 {
		t.Error("no token")
	}
	want := schema.Call{
		Key: schema.VersionKey(record("echo"), &record("echo").Latest, ""), RequestID: call.RequestID, Account: "default",
		Function: "echo", Frontend: b.f.ID(), Token: call.Token, Reply: sub.Subject, Reason: schema.ReasonUnreserved, Attempt: 1,
		StartBy: 2 * time.Second, Timeout: 3 * time.Second, LogTail: true, ClientContext: []byte(`{"custom":{"k":"v"}}`),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Tracestate: "a=b", Payload: []byte(`{}`),
	}
	if got := fmt.Sprintf("%+v", call); got != fmt.Sprintf("%+v", want) {
		t.Errorf("envelope\n%s\nwant\n%+v", got, want)
	}
	if h := c.msg.Header; len(h) != 1 || h.Get(nats.MsgTTLHdr) != "4s" {
		t.Errorf("message has headers %v, want its time to live alone: the start-by and 2 s", h)
	}
	if at := (subjects.ArcCall{
		Number: subjects.UnreservedArc("default", "echo", "", 64), Account: "default", Function: "echo", Version: schema.Latest,
	}); c.arc != at {
		t.Errorf("published to %+v, want %+v", c.arc, at)
	}
	if n := b.f.Counters().InFlight; n != 1 {
		t.Errorf("%d calls in flight, want 1", n)
	}
	c.ack(t).answer(t, []byte(`"pong"`), nil)
	if m := next(t, sub); string(m.Data) != `"pong"` || m.Header.Get(schema.HeaderRequestID) != call.RequestID {
		t.Errorf("answer %q with %v", m.Data, m.Header)
	}
	c.end(t)
	b.nothingInFlight(t)
}

// The budget until the start is the fabric's, or the caller's where that is shorter.
func TestStartBy(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{fabric: func(f *schema.Fabric) { f.StartBy = 5 * time.Second }})
	claims := b.claimer(t, "echo")
	for _, c := range []struct {
		timeout, ttl string
		want         time.Duration
	}{{"", "7s", 5 * time.Second}, {"15m", "7s", 5 * time.Second}, {"1500ms", "4s", 1500 * time.Millisecond}} {
		h := nats.Header{}
		if c.timeout != "" {
			h[schema.HeaderTimeout] = []string{c.timeout}
		}
		b.send(t, "echo", h)
		got := claims.claim(t).ack(t)
		if ttl := got.msg.Header.Get(nats.MsgTTLHdr); got.call.StartBy != c.want || ttl != c.ttl {
			t.Errorf("time-out %q: start-by %v, time to live %s; want %v, %s", c.timeout, got.call.StartBy, ttl, c.want, c.ttl)
		}
		got.end(t)
	}
	b.nothingInFlight(t)
}

// Everything that a caller can get wrong is refused by name, and nothing is published.
func TestRefusals(t *testing.T) {
	t.Parallel()
	tenants := record("tenants")
	tenants.PerTenant = true
	b := setup(t, settings{functions: []*schema.FunctionRecord{tenants}})
	const invalid, unknown = schema.CodeInvalidParameter, schema.CodeNotFound
	one := func(name, value string) nats.Header { return nats.Header{name: {value}} }
	t.Run("each", func(t *testing.T) {
		for _, c := range []struct {
			name, subject string
			header        nats.Header
			payload       []byte
			code          schema.Code
			text          string
		}{
			{"unknown function", "default.nobody", nil, nil, unknown, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody"},
			{"unknown version", "default.echo", one(schema.HeaderQualifier, "7"), nil, unknown, "function:echo:7"},
			{"unknown alias", "default.echo", one(schema.HeaderQualifier, "live"), nil, unknown, "Cannot find alias arn: arn:aws:lambda:us-east-1:000000000000:function:echo:live"},
			{"unknown account", "other.echo", nil, nil, unknown, `account "other"`},
			{"fabric's account", "_.echo", nil, nil, invalid, "subject"},
			{"no function", "default", nil, nil, invalid, "hearth.invoke.<account>.<function>"},
			{"a token too many", "default.echo.t.x", nil, nil, invalid, "subject"},
			{"absent as a function", "default._", nil, nil, invalid, "subject"},
			{"bad escape", "default.a=zz", nil, nil, invalid, "subject"},
			{"escape of a plain byte", "default.=61", nil, nil, invalid, "subject"},
			{"a dot in the name", "default.a=2Eb", nil, nil, invalid, "FunctionName"},
			{"a line break in the name", "default.a=0D=0AX-Evil=3A=20b", nil, nil, invalid, "FunctionName"},
			{"a long name", "default." + strings.Repeat("a", 65), nil, nil, invalid, "FunctionName"},
			{"a very long subject", "default." + strings.Repeat("a", 2000), nil, nil, invalid, "subject"},
			{"hostile qualifier", "default.echo", one(schema.HeaderQualifier, "a.b>*"), nil, invalid, "Qualifier"},
			{"two qualifiers", "default.echo", nats.Header{schema.HeaderQualifier: {"1", "2"}}, nil, invalid, schema.HeaderQualifier},
			{"qualifier in another case", "default.echo", one("hearth-qualifier", "1"), nil, invalid, schema.HeaderQualifier},
			{"empty qualifier", "default.echo", one(schema.HeaderQualifier, ""), nil, invalid, schema.HeaderQualifier},
			{"time-out without a unit", "default.echo", one(schema.HeaderTimeout, "5"), nil, invalid, schema.HeaderTimeout},
			{"no time at all", "default.echo", one(schema.HeaderTimeout, "0s"), nil, invalid, schema.HeaderTimeout},
			{"negative time-out", "default.echo", one(schema.HeaderTimeout, "-1s"), nil, invalid, schema.HeaderTimeout},
			{"time-out over 15 min", "default.echo", one(schema.HeaderTimeout, "15m1s"), nil, invalid, schema.HeaderTimeout},
			{"request id is no UUID", "default.echo", one(schema.HeaderRequestID, "mine"), nil, invalid, schema.HeaderRequestID},
			{"request id of another version", "default.echo", one(schema.HeaderRequestID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"), nil,
				invalid, schema.HeaderRequestID},
			{"unknown log type", "default.echo", one(schema.HeaderLog, "Tail"), nil, invalid, schema.HeaderLog},
			{"client context is no JSON", "default.echo", one(schema.HeaderClientContext, "{"), nil, invalid, "ClientContext"},
			{"client context is no object", "default.echo", one(schema.HeaderClientContext, "null"), nil, invalid, "ClientContext"},
			{"client context is no base64", "default.echo", one(schema.HeaderClientContext, "[]"), nil, invalid, "ClientContext: a JSON object, or base64 of one"},
			{"client context is base64 of no JSON", "default.echo", one(schema.HeaderClientContext, base64Of("{")), nil, invalid, "ClientContext"},
			{"client context is base64 of no object", "default.echo", one(schema.HeaderClientContext, base64Of("[]")), nil, invalid, "ClientContext"},
			{"client context too long in base64", "default.echo", one(schema.HeaderClientContext, base64Of(`{"a":"`+strings.Repeat("x", 3576)+`"}`)),
				nil, invalid, "3583"},
			{"client context far too long", "default.echo", one(schema.HeaderClientContext, strings.Repeat("x", 100_000)), nil, invalid, "3583"},
			{"client context too long", "default.echo", one(schema.HeaderClientContext, `{"a":"`+strings.Repeat("x", 3577)+`"}`), nil, invalid, "3583"},
			{"payload over 6 MiB", "default.echo", nil, make([]byte, schema.MaxPayload+1), schema.CodeTooLarge, "6291457"},
			{"S65: tenant not wanted", "default.echo.acme", nil, nil, invalid, "TenantId"},
			{"S65: tenant not wanted, header", "default.echo", one(schema.HeaderTenant, "acme"), nil, invalid, "TenantId"},
			{"S65: tenant missing", "default.tenants", nil, nil, invalid, "TenantId"},
			{"S65: tenant too long", "default.tenants", one(schema.HeaderTenant, strings.Repeat("t", 257)), nil, invalid, "TenantId"},
			{"S65: tenant malformed", "default.tenants.a=2A", nil, nil, invalid, "TenantId"},
			{"S65: two tenants", "default.tenants", nats.Header{schema.HeaderTenant: {"a", "b"}}, nil, invalid, schema.HeaderTenant},
			{"S65: tenant in another case", "default.tenants", one("Hearth-TENANT", "a"), nil, invalid, schema.HeaderTenant},
			{"S65: header unlike subject", "default.tenants.a", one(schema.HeaderTenant, "b"), nil, invalid, schema.HeaderTenant},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				m, err := b.caller.RequestMsg(&nats.Msg{
					Subject: b.Names.Prefix() + ".invoke." + c.subject, Header: c.header, Data: c.payload,
				}, patience)
				if err != nil {
					t.Fatal(err)
				}
				wantRefusal(t, m, c.code, c.text)
			})
		}
	})
	if n := b.waiting(t); n > 0 {
		t.Errorf("%d messages were published", n)
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// A client context is JSON, or base64 of JSON, as Lambda's callers have it: the function is given the same (Lambda A2, B4).
func TestClientContextAsJSONOrBase64(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	longest := `{"a":"` + strings.Repeat("x", schema.MaxClientContext-8) + `"}`
	for _, c := range []struct{ sent, want string }{
		{`{"custom":{"k":"v"}}`, `{"custom":{"k":"v"}}`},
		{"  {}", "{}"},
		{base64Of(`{"custom":{"k":"v"}}`), `{"custom":{"k":"v"}}`},
		{base64Of("\n {\n}"), "\n {\n}"},
		{longest, longest},
		{base64Of(longest), longest},
	} {
		sub := b.send(t, "echo", nats.Header{schema.HeaderClientContext: {c.sent}})
		call := claims.claim(t).call
		if call.Reply != sub.Subject {
			t.Fatalf("%.40s: claimed another call", c.sent)
		}
		if got := string(call.ClientContext); got != c.want {
			t.Errorf("%.40s: the call has %.40q, want %.40q", c.sent, got, c.want)
		}
	}
}

// A reply subject that is no inbox gets no answer, neither to a good call nor to a bad one: nobody makes this frontend
// publish where he may not himself (SECURITY 2).
func TestHostileReplySubjects(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	canary, err := b.JetStream(t).CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "X", Subjects: []string{"canary.>"}, Storage: jetstream.MemoryStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	hostile := []string{
		"", "$JS.API.STREAM.DELETE.X", "$JS.API.STREAM.PURGE.X", "$KV.HEARTH_functions.default.echo", "$SRV.PING", "$SYS.REQ.X",
		"hearth.invoke.default.echo", "hearth.arc.u.1.default.echo._._", "hearth.status.manager.m1", "hearth.api.default.DeleteFunction",
		"_HF." + b.f.ID() + ".e", "_HF.x.a.0000000000000001", "_HM.m1.x", "_HW.w1.x", "canary.x", "_INBOX", "_INBOXX.y", "_R_", "_inbox.x",
		"_INBOX." + strings.Repeat("a", 250),
	}
	var heard []string
	all, err := b.caller.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.caller.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, reply := range hostile {
		for _, fn := range []string{"nobody", "echo"} {
			m := &nats.Msg{Subject: b.Names.Invoke("default", fn, ""), Reply: reply, Data: []byte("x")}
			if err := b.caller.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	natstest.Eventually(t, patience, func() bool { return b.f.Counters().Dropped == uint64(2*len(hostile)) }, "not all were dropped")
	// A good call afterwards: what was sent before its answer has been heard by then.
	b.serve(t, "echo", echo)
	b.request(t, "echo", []byte("{}"), nil)
	for {
		m, err := all.NextMsg(10 * time.Millisecond)
		if err != nil {
			break
		}
		heard = append(heard, m.Subject)
		if m.Header.Get(schema.HeaderErrorCode) != "" {
			t.Errorf("%s was answered: %v", m.Subject, m.Header)
		}
	}
	if len(heard) == 0 {
		t.Fatal("the test hears nothing")
	}
	if info, err := canary.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("the canary stream was touched: %v, %v", info, err)
	}
	if got := b.f.Counters().Calls; got != uint64(2*len(hostile)+1) {
		t.Errorf("%d calls counted, want %d", got, 2*len(hostile)+1)
	}
}

// Garbage under hearth.invoke answers, each time, with an error that says what to call.
func TestGarbageSubjects(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	for i, subject := range []string{
		"x", "x.y", "default.echo.a.b.c.d", "=.=", "default.=", "=5F.=5F", "default.%41", "DEFAULT.echo", "default.Echo", "default.ec\xffho",
		"default.$LATEST", "_._._", "default.echo._", strings.Repeat("a.", 60) + "a",
	} {
		m, err := b.caller.RequestMsg(&nats.Msg{
			Subject: b.Names.Prefix() + ".invoke." + subject, Data: bytes.Repeat([]byte{0xdd, 0xff}, i),
		}, patience)
		if err != nil {
			t.Fatalf("%q: %v", subject, err)
		}
		if s := m.Header.Get(schema.HeaderErrorCode); s != "400" && s != "404" {
			t.Errorf("%q: status %q", subject, s)
		}
	}
}

// The endpoint is a NATS micro service like any other.
func TestMicroService(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	b.serve(t, "echo", echo)
	b.request(t, "echo", []byte("{}"), nil)
	b.request(t, "nobody", nil, nats.Header{schema.HeaderTimeout: {"x"}})
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		if _, err := b.caller.Request("$SRV."+verb+".hearth", nil, patience); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	stats := func() (s micro.Stats) {
		m, err := b.caller.Request("$SRV.STATS.hearth", nil, patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(m.Data, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	natstest.Eventually(t, patience, func() bool { return stats().Endpoints[0].NumRequests == 2 }, "the requests are not counted")
	if s := stats(); s.Endpoints[0].NumErrors != 1 || s.Endpoints[0].Subject != "hearth.invoke.>" || s.Metadata["frontend"] != b.f.ID() {
		t.Errorf("stats %+v", s)
	}
}

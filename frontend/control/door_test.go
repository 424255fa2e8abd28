package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// TestHostileRequests: whatever comes is refused by name, and the next honest request is served.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deep := strings.Repeat(`{"Environment":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	for name, c := range map[string]struct {
		subject string
		request string
		status  string
	}{
		"empty":               {"default.GetFunction", "", "400"},
		"garbage":             {"default.CreateFunction", "\x00\xff\xfe{", "400"},
		"msgpack":             {"default.CreateFunction", "\xdd\xff\xff\xff\xff", "400"},
		"deep objects":        {"default.CreateFunction", deep, "400"},
		"deep arrays":         {"default.CreateFunction", strings.Repeat("[", 500_000), "400"},
		"deep in a known one": {"default.CreateFunction", `{"Tags":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}", "400"},
		"two megabytes":       {"default.CreateFunction", `{"Description":"` + strings.Repeat("x", 2<<20) + `"}`, "400"},
		"twice":               {"default.CreateFunction", `{"Runtime":"a","Runtime":"b"}`, "400"},
		"twice, deeper":       {"default.CreateFunction", `{"Environment":{"Variables":{"A":"1","A":"2"}}}`, "400"},
		"null":                {"default.GetFunction", `{"FunctionName":null}`, "400"},
		"dots":                {"default.GetFunction", `{"FunctionName":"a.b"}`, "400"},
		"wildcard":            {"default.GetFunction", `{"FunctionName":">"}`, "400"},
		"star":                {"default.DeleteFunction", `{"FunctionName":"*"}`, "400"},
		"unicode":             {"default.GetFunction", `{"FunctionName":"größe"}`, "400"},
		"control bytes":       {"default.GetFunction", `{"FunctionName":"a\r\nb"}`, "400"},
		"long name":           {"default.GetFunction", `{"FunctionName":"` + strings.Repeat("a", 100_000) + `"}`, "400"},
		"huge number":         {"default.ListFunctions", `{"MaxItems":1e400}`, "400"},
		"fraction":            {"default.ListFunctions", `{"MaxItems":1.5}`, "400"},
		"hostile marker":      {"default.ListFunctions", `{"Marker":"` + strings.Repeat("W", 5000) + `"}`, "400"},
		"account not escaped": {"=41.GetFunction", `{"FunctionName":"a"}`, "404"},
		"unknown account":     {"acme.GetFunction", `{"FunctionName":"a"}`, "404"},
		"account with a dot":  {"a=2Eb.GetFunction", `{"FunctionName":"a"}`, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := b.nc.Request(b.Names.Prefix()+".api."+c.subject, []byte(c.request), patience)
			if err != nil {
				t.Fatal(err)
			}
			var body schema.APIError
			if err := json.Unmarshal(m.Data, &body); err != nil || body.Message == "" || body.Lower != body.Message {
				t.Errorf("body %q: %v", m.Data, err)
			}
			if got := m.Header.Get(schema.HeaderErrorCode); got != c.status || len(m.Header.Get(schema.HeaderError)) > 4096 {
				t.Errorf("%s %s, want %s", got, m.Header.Get(schema.HeaderError), c.status)
			}
		})
	}
	b.must(t, "ListFunctions", object{})
}

// TestHostileReplies: an answer goes to inboxes of callers and nowhere else (SECURITY 2).
func TestHostileReplies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), nil))
	replies := []string{
		"$JS.API.STREAM.DELETE.KV_" + b.Names.Bucket("functions"), "$KV." + b.Names.Bucket("functions") + ".default.f",
		b.Names.API("default", "DeleteFunction"), "_HF.f1.a.0123456789abcdef", "_INBOX.>", "_INBOX", "_INBOX." + strings.Repeat("a", 300),
		"hearth.elsewhere", "",
	}
	elsewhere, err := b.nc.SubscribeSync("hearth.elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := b.view.Function("default", "f")
	for _, reply := range replies {
		for _, request := range []string{`{"FunctionName":"f"}`, "garbage"} {
			m := &nats.Msg{Subject: b.Names.API("default", "GetFunction"), Reply: reply, Data: []byte(request)}
			if err := b.nc.PublishMsg(m); err != nil {
				t.Fatalf("%q: %v", reply, err)
			}
		}
	}
	for _, reply := range replies { // a refusal of what no operation is called goes nowhere else either
		m := &nats.Msg{Subject: b.Names.API("default", "NoSuchOp"), Reply: reply}
		if err := b.nc.PublishMsg(m); err != nil {
			t.Fatalf("%q: %v", reply, err)
		}
	}
	natstest.Eventually(t, patience, func() bool { return b.service.Stats().Dropped == uint64(3*len(replies)) }, "all are dropped and counted")
	b.must(t, "GetFunction", object{"FunctionName": "f"})
	after, _, _ := b.view.Function("default", "f")
	if before.Latest.RevisionID != after.Latest.RevisionID {
		t.Error("the record was written over")
	}
	if n, _, _ := elsewhere.Pending(); n != 0 {
		t.Errorf("%d answers went to hearth.elsewhere", n)
	}
}

// TestServiceIsListed: PING, INFO and STATS of NATS know the operations.
func TestServiceIsListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, err := b.nc.Request("$SRV.INFO.hearth-api", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	for _, e := range info.Endpoints {
		listed[e.Name] = e.Subject
	}
	for _, name := range control.OperationNames() {
		if listed[name] != b.Names.APIAny(name) {
			t.Errorf("%s is listed at %q", name, listed[name])
		}
	}
	if len(listed) != len(control.OperationNames()) {
		t.Errorf("%d endpoints are listed, there are %d operations", len(listed), len(control.OperationNames()))
	}
}

// TestUnknownOperations: what no operation is called is refused by its name, once, and by the table, as over HTTP; it does not look as
// if nobody were there. Known ones are still answered once, by their endpoints.
func TestUnknownOperations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	second, err := control.New(b.Connect(t), b.view, control.Config{Names: b.Names})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	inbox, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	var refused uint64
	for _, c := range []struct{ subject, code, text string }{
		{"default.NoSuchOp", "404", `UnknownOperationException: no operation "NoSuchOp"; there are CreateFunction, `},
		{"default.getfunction", "404", `no operation "getfunction"`},
		{"default." + strings.Repeat("x", 500), "404", "xxx..."},
		{"acme.NoSuchOp", "404", `no operation "NoSuchOp"`},
		{"_.NoSuchOp", "404", `no operation "NoSuchOp"`},
		{"default.GetAccountSettings", "400", "InvalidParameterValueException: GetAccountSettings is not served"},
		{"default.ListTags", "400", "ListTags is not served"},
		{"default.TagResource", "400", "TagResource is not served"},
		{"default.AddPermission", "400", "AddPermission is not served"},
		{"default.InvokeWithResponseStream", "400", "InvokeWithResponseStream is not served"},
		{"default.ListLayers", "400", "ListLayers has no meaning in Hearth"},
		{"default.Invoke", "400", b.Names.Prefix() + ".invoke.<account>.<function>"},
		{"default", "404", b.Names.Prefix() + ".api.<account>.<Operation>"},
		{"default.GetFunction.f", "404", b.Names.Prefix() + ".api.<account>.<Operation>"},
		{"default.Get=46unction", "404", b.Names.Prefix() + ".api.<account>.<Operation>"},
		{"default.GetRing", "404", "GetRing is an operation of the fabric"},
		{"default.ListFunctions", "", ""},
	} {
		if err := b.nc.PublishRequest(b.Names.Prefix()+".api."+c.subject, inbox.Subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		m, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatalf("%.40s: %v", c.subject, err)
		}
		if code, text := m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%.40s: %s %s, want %s %s", c.subject, code, text, c.code, c.text)
		}
		if c.code == "" {
			continue
		}
		refused++
		var body schema.APIError
		if err := json.Unmarshal(m.Data, &body); err != nil || body.Message == "" || body.Advice == "" {
			t.Errorf("%.40s: body %q: %v", c.subject, m.Data, err)
		}
	}
	// After both have ended they have counted everything that they would say.
	for _, s := range []*control.Service{b.service, second} {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	one, two := b.service.Stats(), second.Stats()
	if one.Refused+two.Refused != refused || one.Answered+two.Answered != 1 {
		t.Errorf("counted %+v and %+v, want %d refused, 1 answered", one, two, refused)
	}
	if _, err := b.nc.Request(b.Names.API("default", "NoSuchOp"), nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop: %v, want %v", err, nats.ErrNoResponders)
	}
}

// TestChangeWaitsForFrontends: a change is answered when the view says that all have seen its revision, and after a
// moment even if it does not.
func TestChangeWaitsForFrontends(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *control.Config) { c.Settle = 10 * time.Millisecond })
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), nil))
	b.view.mu.Lock()
	b.view.wait = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	b.view.mu.Unlock()
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Timeout": 7})
	_, updated, _ := b.view.Function("default", "f")
	b.must(t, "DeleteFunction", object{"FunctionName": "f"})
	b.view.mu.Lock()
	defer b.view.mu.Unlock()
	if w := b.view.waited; len(w) != 3 || w[1] != updated || w[2] != updated+1 || w[0] >= w[1] {
		t.Errorf("waited for revisions %v; the update was %d", w, updated)
	}
}

// TestFullQueueThrottles: what no worker can take in time is refused at once, with a hint.
func TestFullQueueThrottles(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *control.Config) { c.Workers, c.Queue, c.Settle = 1, 1, patience })
	code := b.putZip(t, "zero")
	entered, release := make(chan struct{}, 8), make(chan struct{})
	b.view.mu.Lock()
	b.view.wait = func(context.Context) error { entered <- struct{}{}; <-release; return nil }
	b.view.mu.Unlock()
	inbox, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	send := func(name string) {
		t.Helper()
		err := b.nc.PublishRequest(b.Names.API("default", "CreateFunction"), inbox.Subject, []byte(text(t, function(name, code, nil))))
		if err != nil {
			t.Fatal(err)
		}
	}
	send("runs")
	<-entered
	send("waits")
	send("is-refused")
	m, err := inbox.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var body schema.APIError
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Code != schema.CodeThrottled || body.Reason != "CallerRateLimitExceeded" {
		t.Errorf("%v %s", m.Header, m.Data)
	}
	close(release)
	for range 2 {
		if m, err := inbox.NextMsg(patience); err != nil || m.Header.Get(schema.HeaderErrorCode) != "" {
			t.Errorf("a request that was taken: %v %v", m, err)
		}
	}
	if s := b.service.Stats(); s.Answered != 2 || s.Throttled != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

// TestStopAnswersWhatItTook and is safe in any order.
func TestStopAnswersWhatItTook(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *control.Config) { c.Settle = patience })
	entered, release := make(chan struct{}), make(chan struct{})
	b.view.wait = func(context.Context) error { close(entered); <-release; return nil }
	inbox, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	request := []byte(text(t, function("f", b.putZip(t, "zero"), nil)))
	if err := b.nc.PublishRequest(b.Names.API("default", "CreateFunction"), inbox.Subject, request); err != nil {
		t.Fatal(err)
	}
	<-entered
	short, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("the test has waited enough"))
	defer cancel()
	if err := b.service.Stop(short); err == nil {
		t.Error("Stop returned while an operation ran")
	}
	close(release)
	if err := b.service.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if m, err := inbox.NextMsg(patience); err != nil || m.Header.Get(schema.HeaderErrorCode) != "" {
		t.Errorf("the operation under way: %v %v", m, err)
	}
	if _, err := b.service.Do(t.Context(), "default", "ListFunctions", nil); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("after Stop: %v", err)
	}
	if _, err := b.nc.Request(b.Names.API("default", "ListFunctions"), nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop: %v, want %v", err, nats.ErrNoResponders)
	}
	if err := b.service.Start(t.Context()); err == nil {
		t.Error("started again")
	}
}

func TestStopOfAServiceThatNeverStarted(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	nc := f.Connect(t)
	s, err := control.New(nc, &kvView{}, control.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("started without buckets")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := control.New(nil, nil, control.Config{}); err == nil {
		t.Error("made without a connection")
	}
	if _, err := control.New(nc, &kvView{}, control.Config{Workers: -1}); err == nil {
		t.Error("made with -1 workers")
	}
}

// FuzzDo: no request makes an operation panic, hang, or answer with anything but JSON or an error of the table.
func FuzzDo(f *testing.F) {
	for i, op := range control.OperationNames() {
		f.Add(uint8(i), []byte(`{"FunctionName":"f"}`))
		f.Add(uint8(i), []byte(fmt.Sprintf(`{"FunctionName":"f","Name":"a","Qualifier":"1","%s":[{}]}`, op)))
	}
	f.Add(uint8(0), []byte(`{"FunctionName":"f","Runtime":"provided","Code":{"ZipFile":"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}}`))
	f.Add(uint8(0), []byte(`{"FunctionName":"f","Runtime":"provided","Timeout":1,"Environment":{"Variables":{"A_B":"c"}}}`))
	f.Add(uint8(10), []byte(`{"FunctionName":"f","Name":"a","RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}`))
	f.Add(uint8(16), []byte(`{"values":{"theta":"NaN"}}`))
	b := fuzzBundle(f)
	names := control.OperationNames()
	f.Fuzz(func(t *testing.T, which uint8, request []byte) {
		name := names[int(which)%len(names)]
		account := subjects.DefaultAccount
		if strings.HasSuffix(name, "Ring") || strings.HasSuffix(name, "Fabric") {
			account = subjects.FabricAccount
		}
		answer, err := b.Do(t.Context(), account, name, request)
		var known *schema.Error
		switch {
		case err == nil && len(answer) > 0 && !json.Valid(answer):
			t.Errorf("%s %q answered %q", name, request, answer)
		case err != nil && !errors.As(err, &known):
			t.Errorf("%s %q: %v is no error of the table", name, request, err)
		case err != nil && known.Code == schema.CodeInternal:
			t.Errorf("%s %q: %v", name, request, errors.Join(err, known.Cause))
		}
	})
}

func fuzzBundle(f *testing.F) *control.Service {
	f.Helper()
	fabric := natstest.Start(f)
	js := fabric.JetStream(f)
	s, err := control.New(fabric.Connect(f), &kvView{names: fabric.Names, js: js}, control.Config{Names: fabric.Names})
	if err != nil {
		f.Fatal(err)
	}
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Stop(ctx); err != nil {
			f.Error(err)
		}
	})
	key, err := seal.Draft(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	for _, w := range []struct {
		kind, key string
		value     any
	}{
		{"keys", schema.SealKeyName, schema.SealKeyRecord{V: 1, KeyID: key.ID(), Public: key.Public()}},
		{"ring", schema.FabricKey, schema.DefaultFabric()},
	} {
		kv, err := js.KeyValue(ctx, fabric.Names.Bucket(w.kind))
		if err != nil {
			f.Fatal(err)
		}
		data, err := schema.Marshal(w.value)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := kv.Put(ctx, w.key, data); err != nil {
			f.Fatal(err)
		}
	}
	create := text(f, object{"FunctionName": "f", "Runtime": "provided", "Code": object{"ZipFile": zipOf(f, "seed")}, "Publish": true})
	if _, err := s.Do(ctx, subjects.DefaultAccount, "CreateFunction", []byte(create)); err != nil {
		f.Fatal(err)
	}
	return s
}

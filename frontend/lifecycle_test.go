package frontend_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/lifecycle/lifecycletest"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

var (
	_ lifecycle.Component = (*frontend.Frontend)(nil)
	_ control.View        = (*frontend.Frontend)(nil)
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	lifecycletest.Exercise(t, func(t *testing.T) lifecycle.Component {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := frontend.New(b.Connect(t), frontend.Config{Names: b.Names, HTTP: l, Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t, natstest.Bare())
	nc := b.Connect(t)
	if _, err := frontend.New(nil, frontend.Config{Names: b.Names}); err == nil {
		t.Error("no connection is accepted")
	}
	if _, err := frontend.New(nc, frontend.Config{}); err == nil {
		t.Error("no names are accepted")
	}
	if _, err := frontend.New(nc, frontend.Config{Names: b.Names, MaxInFlight: -1}); err == nil {
		t.Error("a negative bound is accepted")
	}
}

// A frontend waits for what managers set up, and says what it waited for.
func TestStartWaitsForTheSetUp(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t, natstest.Bare())
	// start says how a start within this time ends.
	start := func(within time.Duration) error {
		f, err := frontend.New(b.Connect(t), frontend.Config{Names: b.Names})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		err = f.Start(ctx)
		if stopErr := f.Stop(t.Context()); stopErr != nil {
			t.Error(stopErr)
		}
		return err
	}
	waitsFor := func(what string) {
		t.Helper()
		for within := 50 * time.Millisecond; ; within *= 2 { // until the machine has come so far in it
			err := start(within)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("without %s: %v", what, err)
			}
			if strings.Contains(err.Error(), what) {
				return
			}
			if within > patience {
				t.Fatalf("it does not say that it waits for %s: %v", what, err)
			}
		}
	}
	waitsFor("HEARTH_functions")
	b.Ensure(t, schema.DefaultFabric())
	waitsFor("fabric")
	// And starts as soon as it is all there.
	f, err := frontend.New(b.Connect(t), frontend.Config{Names: b.Names})
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- f.Start(t.Context()) }()
	all := &bundle{Fabric: b}
	numbers := schema.DefaultFabric()
	all.put(t, "ring", schema.FabricKey, &numbers)
	all.put(t, "ring", schema.RingKey, &schema.RingRecord{V: schema.Version, Epoch: 1})
	if err := <-started; err != nil {
		t.Error(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A frontend that is started before any manager says what it waits for, and what to do.
func TestStartSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t, natstest.Bare())
	told := make(chan slog.Record, 16)
	f, err := frontend.New(b.Connect(t), frontend.Config{Names: b.Names, Logger: slog.New(records(told))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- f.Start(ctx) }()
	select {
	case r := <-told:
		var attributes []string
		r.Attrs(func(a slog.Attr) bool { attributes = append(attributes, a.String()); return true })
		if r.Level != slog.LevelWarn || !strings.Contains(r.Message, "hearth manager") || !strings.Contains(strings.Join(attributes, " "), "HEARTH_functions") {
			t.Errorf("%s %s %v", r.Level, r.Message, attributes)
		}
	case <-time.After(patience):
		t.Error("nothing is said")
	}
	cancel()
	if err := <-started; err == nil {
		t.Error("it started")
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// records is a logger's end that hands on what is worth a look.
type records chan<- slog.Record

func (records) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (r records) WithAttrs([]slog.Attr) slog.Handler         { return r }
func (r records) WithGroup(string) slog.Handler              { return r }
func (r records) Handle(_ context.Context, record slog.Record) error {
	select {
	case r <- record.Clone():
	default: // nobody looks any more
	}
	return nil
}

// Stop lets calls end, refuses new ones, and answers who still waits when its time is over.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	sub := b.send(t, "echo", nil)
	c := claims.claim(t).ack(t)
	stopped := make(chan error, 1)
	go func() { stopped <- b.f.Stop(t.Context()) }()
	natstest.Eventually(t, patience, func() bool {
		_, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo", Timeout: time.Millisecond})
		return errors.Is(err, &schema.Error{Code: schema.CodeUnavailable})
	}, "a stopping frontend takes calls")
	c.answer(t, []byte("1"), nil)
	next(t, sub)
	select {
	case err := <-stopped:
		t.Fatalf("stopped while a call was in flight: %v", err)
	default:
	}
	c.end(t)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	got := make(chan *schema.Answer, 1)
	go func() {
		a, err := b.f.Invoke(t.Context(), &schema.Request{Account: "default", Function: "echo"})
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	claims.claim(t).ack(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.f.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 calls") {
		t.Errorf("got %v", err)
	}
	if a := <-got; a != nil && a.Get(schema.HeaderFunctionError) != schema.FunctionErrorUnhandled {
		t.Errorf("the caller that waited got %+v", a)
	}
}

// What the server had given to a frontend before it left the queue group is served: its caller did nothing wrong.
func TestStopServesWhatWasGivenToIt(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{})
	claims := b.claimer(t, "echo")
	subs := make([]*nats.Subscription, 100)
	for i := range subs {
		subs[i] = b.send(t, "echo", nats.Header{schema.HeaderTimeout: {"5m"}})
	}
	if err := b.caller.Flush(); err != nil { // the server has them all
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- b.f.Stop(t.Context()) }()
	for range subs {
		c := claims.claim(t).ack(t)
		c.answer(t, []byte("1"), nil)
		c.end(t)
	}
	for i, sub := range subs {
		if m := next(t, sub); m.Header.Get(schema.HeaderError) != "" {
			t.Fatalf("call %d was refused: %s", i, m.Header.Get(schema.HeaderError))
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A frontend that stops lets HTTP requests end, tells their clients to close the connection, closes those on which nothing is
// asked, and takes no other.
func TestStopDrainsHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	claims := b.claimer(t, "echo")
	kept := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(kept.CloseIdleConnections)
	ask := func(method, path, body string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return kept.Do(req)
	}
	idle, err := ask(http.MethodGet, "/healthz", "")
	if err != nil {
		t.Fatal(err)
	}
	bodyOf(t, idle)
	if err := idle.Body.Close(); err != nil || idle.Close {
		t.Fatalf("a frontend that serves closes the connection: %v, %v", idle.Close, err)
	}
	type answer struct {
		resp *http.Response
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		resp, err := ask(http.MethodPost, echoPath, "{}") // on the connection that was kept
		got <- answer{resp, err}
	}()
	c := claims.claim(t).ack(t)
	stopped := make(chan error, 1)
	go func() { stopped <- b.f.Stop(t.Context()) }()
	natstest.Eventually(t, patience, func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	}, "a stopping frontend accepts connections")
	c.answer(t, []byte("1"), nil)
	c.end(t)
	a := <-got
	if a.err != nil {
		t.Fatalf("the request in service: %v", a.err)
	}
	defer a.resp.Body.Close()
	if body := bodyOf(t, a.resp); a.resp.StatusCode != http.StatusOK || body != "1" || !a.resp.Close {
		t.Errorf("status %d, %q, told to close: %v", a.resp.StatusCode, body, a.resp.Close)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

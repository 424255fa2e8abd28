package deploy_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver/process"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/unpack"
)

func TestMain(m *testing.M) {
	unpack.Main()
	egress.Main()
	process.Main() // the driver runs this program again as its helper
	goleak.VerifyTestMain(m, natstest.Clients())
}

// patience bounds every wait; it is no promise about speed.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// config is a fabric on free ports with a driver that answers by itself.
func config(t testing.TB) deploy.Config {
	t.Helper()
	return deploy.Config{
		DataDir: filepath.Join(t.TempDir(), "data"), HTTP: "127.0.0.1:0", NATS: "127.0.0.1:0", Driver: deploy.DriverNull,
		Anonymous: true, Capacity: 16, Logger: slog.New(refusals{slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}), t}),
	}
}

// refusals fails the test when the server refuses one of the roles something: their rights are too narrow then.
type refusals struct {
	slog.Handler
	t testing.TB
}

// Handle looks for what nats.go tells a connection's error handler.
func (r refusals) Handle(ctx context.Context, record slog.Record) error {
	record.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, nats.ErrPermissionViolation) {
			r.t.Errorf("a role was refused: %v", err)
		}
		return true
	})
	return r.Handler.Handle(ctx, record)
}

// WithAttrs and WithGroup keep the look-out.
func (r refusals) WithAttrs(attrs []slog.Attr) slog.Handler {
	return refusals{r.Handler.WithAttrs(attrs), r.t}
}

func (r refusals) WithGroup(name string) slog.Handler {
	return refusals{r.Handler.WithGroup(name), r.t}
}

func up(t testing.TB, cfg deploy.Config) *deploy.Fabric {
	t.Helper()
	f, err := deploy.Up(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, f) })
	return f
}

func stop(t testing.TB, f *deploy.Fabric) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func connect(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	c, err := client.Connect(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func admin(t testing.TB, f *deploy.Fabric) *client.Client {
	t.Helper()
	return connect(t, client.Options{URL: f.NATSURL, Creds: f.CredsFile})
}

func guest(t testing.TB, f *deploy.Fabric) *client.Client {
	t.Helper()
	return connect(t, client.Options{URL: f.NATSURL})
}

func ptr[T any](v T) *T { return &v }

func create(t testing.TB, c *client.Client, name string) {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: "bootstrap"}
	h.SetMode(0o755)
	e, err := w.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(e, "#!/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum, err := c.PutCode(within(t), b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateFunction(within(t), schema.FunctionInput{
		FunctionName: name, Runtime: ptr("provided"), Handler: ptr("bootstrap"), Role: ptr("arn:aws:iam::000000000000:role/none"),
		Code:        &schema.FunctionCode{Sha256: sum},
		Environment: &schema.Environment{Variables: map[string]string{"COLOUR": "red"}},
	}); err != nil {
		t.Fatal(err)
	}
}

func calls(t testing.TB, c *client.Client, function, payload string) *client.Answer {
	t.Helper()
	a, err := c.Invoke(within(t), client.Call{Function: function, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Payload) != payload {
		t.Errorf("%s answered %q to %q", function, a.Payload, payload)
	}
	return a
}

func TestUp(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Managers = 3
	f := up(t, cfg)

	ring, err := admin(t, f).Ring(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range ring.Managers {
		ids = append(ids, m.ID)
	}
	if strings.Join(ids, " ") != "m1 m2 m3" {
		t.Errorf("the ring holds %q", ids)
	}

	create(t, admin(t, f), "echo")
	first := calls(t, guest(t, f), "echo", `{"n":1}`)
	if first.Start != schema.StartCold || first.Reason != schema.ReasonUnreserved {
		t.Errorf("the first call was %s, %s", first.Start, first.Reason)
	}
	second := calls(t, guest(t, f), "echo", `{"n":2}`)
	if second.Start != schema.StartWarm || second.Environment != first.Environment {
		t.Errorf("the second call was %s in %s, the first in %s", second.Start, second.Environment, first.Environment)
	}
	resp, err := http.Post(f.HTTPURL+"/2015-03-31/functions/echo/invocations", "application/json", strings.NewReader(`{"n":3}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if err != nil || resp.StatusCode != 200 || string(body) != `{"n":3}` {
		t.Errorf("over HTTP: %d %q, %v", resp.StatusCode, body, err)
	}
	console(t, f, "/console", "m1", "active")
	console(t, f, "/console/functions/echo", "echo", "hearth logs --follow echo")
	console(t, f, "/console/ring", "u.63", "m1")
	console(t, f, "/console/events?function=echo", "Dead letters")
	http.DefaultClient.CloseIdleConnections()

	stop(t, f)
	f = up(t, cfg)
	if a := calls(t, guest(t, f), "echo", `{"n":4}`); a.Start != schema.StartCold {
		t.Errorf("after the restart: %s", a.Start)
	}
	fn, err := admin(t, f).GetFunction(within(t), "echo", "")
	if err != nil {
		t.Fatal(err)
	}
	if env := fn.Configuration.Environment; env == nil || len(env.Variables) != 1 {
		t.Errorf("variables after the restart: %v", env)
	}
}

func TestUpRefuses(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	f := up(t, cfg)
	for name, tt := range map[string]struct {
		change func(*deploy.Config)
		code   schema.Code
		says   []string
	}{
		"a folder in use": {
			func(c *deploy.Config) {}, schema.CodeConflict, []string{cfg.DataDir, strconv.Itoa(os.Getpid()), "--data"},
		},
		"an HTTP address in use": {
			func(c *deploy.Config) { c.DataDir, c.HTTP = t.TempDir(), strings.TrimPrefix(f.HTTPURL, "http://") }, schema.CodeConflict,
			[]string{"HTTP address", "taken", "--http"},
		},
		"a NATS address in use": {
			func(c *deploy.Config) { c.DataDir, c.NATS = t.TempDir(), strings.TrimPrefix(f.NATSURL, "nats://") }, schema.CodeConflict,
			[]string{"NATS address", "taken", "--nats"},
		},
		"a server that is not there": {
			func(c *deploy.Config) { c.DataDir, c.ServerURL = t.TempDir(), "nats://127.0.0.1:1" }, schema.CodeUnavailable,
			[]string{"127.0.0.1:1"},
		},
		"a server that lets it do nothing": { // its anonymous user's rights are to call functions
			func(c *deploy.Config) {
				c.DataDir, c.ServerURL, c.NATS = t.TempDir(), f.NATSURL, ""
				c.Logger = slog.New(slog.DiscardHandler) // where the others' tests find refusals
			}, schema.CodeAccessDenied,
			[]string{f.NATSURL, "--creds"},
		},
		"bad fields, all named": {
			func(c *deploy.Config) {
				c.Managers, c.Capacity, c.Driver, c.HTTP, c.NATS = -1, -1, "docker", "4280", "127.0.0.1:99999"
				c.Prefix, c.Creds, c.Set = "Hearth", "file", map[string]string{"theta": "2"}
			},
			schema.CodeInvalidParameter,
			[]string{"Managers", "Capacity", "Driver", "HTTP", "NATS", "Prefix", "Creds", "theta"},
		},
		"bare processes for the whole network": {
			func(c *deploy.Config) { c.Driver, c.HTTP, c.NATS = deploy.DriverProcess, "0.0.0.0:0", "192.0.2.1:4222" },
			schema.CodeInvalidParameter, []string{"HTTP", "NATS", "loopback"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cfg
			tt.change(&c)
			other, err := deploy.Up(within(t), c)
			if err == nil {
				stop(t, other)
				t.Fatal("it started")
			}
			if schema.CodeOf(err) != tt.code {
				t.Errorf("code %s, want %s: %v", schema.CodeOf(err), tt.code, err)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
	// None of them harmed the one that runs.
	if _, err := admin(t, f).Ring(within(t), ""); err != nil {
		t.Error(err)
	}
}

// Two fabrics share a NATS server that somebody else runs, apart by their prefixes.
func TestUpOnAnotherServer(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	clients := map[string]*client.Client{}
	for _, prefix := range []string{"one", "two"} {
		cfg := config(t)
		cfg.ServerURL, cfg.NATS, cfg.Prefix = server.URL, "", prefix
		f := up(t, cfg)
		if f.NATSURL != server.URL || f.CredsFile != "" {
			t.Errorf("%s: %s, credential %q", prefix, f.NATSURL, f.CredsFile)
		}
		clients[prefix] = connect(t, client.Options{URL: f.NATSURL, Prefix: prefix})
	}
	create(t, clients["one"], "echo")
	calls(t, clients["one"], "echo", `1`)
	_, err := clients["two"].Invoke(within(t), client.Call{Function: "echo", Payload: []byte(`1`)})
	if schema.CodeOf(err) != schema.CodeNotFound {
		t.Errorf("the other fabric answers: %v", err)
	}
}

func TestUpWithProcesses(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Driver, cfg.Ephemeral = deploy.DriverProcess, true
	f := up(t, cfg)
	if len(f.Notes) == 0 {
		t.Error("bare processes, and nothing is said about it")
	}
	stop(t, f)
}

func TestUpWithOtherNumbersThanTheFabricHas(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Set = map[string]string{"keep-alive": "5m"}
	stop(t, up(t, cfg))
	cfg.Set = map[string]string{"keep-alive": "7m"}
	f, err := deploy.Up(within(t), cfg)
	if err == nil {
		stop(t, f)
	}
	if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), "5m") || !strings.Contains(err.Error(), "7m") {
		t.Errorf("asked for other numbers: %v", err)
	}
	cfg.Set = nil
	stop(t, up(t, cfg)) // it undid what it had begun
}

func TestUpGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	cfg := config(t)
	f, err := deploy.Up(ctx, cfg)
	if err == nil {
		stop(t, f)
	}
	if !errors.Is(err, cause) {
		t.Errorf("told to stop: %v", err)
	}
	stop(t, up(t, cfg))
}

// console looks at a page, of which nothing may be left out.
func console(t *testing.T, f *deploy.Fabric, path string, holds ...string) {
	t.Helper()
	resp, err := http.Get(f.HTTPURL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || strings.Contains(string(body), "Left out:") {
		t.Errorf("%s: %d %v %.3000s", path, resp.StatusCode, err, body)
	}
	for _, text := range holds {
		if !strings.Contains(string(body), text) {
			t.Errorf("%s lacks %q", path, text)
		}
	}
}

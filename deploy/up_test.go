package deploy_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		Anonymous: true, Capacity: 16, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
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
	http.DefaultClient.CloseIdleConnections()
	if err != nil || resp.StatusCode != 200 || string(body) != `{"n":3}` {
		t.Errorf("over HTTP: %d %q, %v", resp.StatusCode, body, err)
	}

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

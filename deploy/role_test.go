package deploy_test

import (
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

func quiet(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

// managerConfig is a manager with a driver that answers by itself.
func managerConfig(t testing.TB, url string) deploy.ManagerConfig {
	t.Helper()
	return deploy.ManagerConfig{
		DataDir: filepath.Join(t.TempDir(), "data"), Server: deploy.Server{URL: url}, Driver: deploy.DriverNull, Capacity: 8, Logger: quiet(t),
	}
}

func frontendConfig(t testing.TB, url string) deploy.FrontendConfig {
	t.Helper()
	return deploy.FrontendConfig{Server: deploy.Server{URL: url}, HTTP: "127.0.0.1:0", Anonymous: true, Logger: quiet(t)}
}

func startManager(t testing.TB, cfg deploy.ManagerConfig) *deploy.Node {
	t.Helper()
	n, err := deploy.StartManager(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, n) })
	return n
}

func startFrontend(t testing.TB, cfg deploy.FrontendConfig) *deploy.Node {
	t.Helper()
	n, err := deploy.StartFrontend(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, n) })
	return n
}

func stopNode(t testing.TB, n *deploy.Node) {
	t.Helper()
	if err := n.Stop(within(t)); err != nil {
		t.Errorf("stop %s: %v", n.ID, err)
	}
}

func TestRolesApart(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	cfg := managerConfig(t, server.URL)
	m := startManager(t, cfg)
	f := startFrontend(t, frontendConfig(t, server.URL))
	if f.HTTPURL == "" || f.NATSURL != server.URL || m.NATSURL != server.URL || m.HTTPURL != "" {
		t.Errorf("manager %+v, frontend %+v", m, f)
	}
	c := connect(t, client.Options{URL: server.URL})
	create(t, c, "echo")
	if a := calls(t, c, "echo", `1`); a.Manager != m.ID {
		t.Errorf("%s answered, the manager is %s", a.Manager, m.ID)
	}

	// The manager comes back under its name, wherever the frontend is.
	stopNode(t, m)
	again := startManager(t, cfg)
	if again.ID != m.ID {
		t.Errorf("the manager was %s and is %s", m.ID, again.ID)
	}
	if a := calls(t, c, "echo", `2`); a.Manager != m.ID {
		t.Errorf("%s answered, the manager is %s", a.Manager, m.ID)
	}
}

func TestRolesRefuse(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	cfg := managerConfig(t, server.URL)
	cfg.ID = "m1"
	startManager(t, cfg)
	one := frontendConfig(t, server.URL)
	one.ID = "f1"
	startFrontend(t, one)
	// Another fabric, whose anonymous user may call functions and nothing else.
	closed := up(t, config(t))

	for name, tt := range map[string]struct {
		change func(*deploy.ManagerConfig)
		code   schema.Code
		says   []string
	}{
		"a folder in use": {func(c *deploy.ManagerConfig) { c.DataDir = cfg.DataDir }, schema.CodeConflict, []string{cfg.DataDir, "--data"}},
		"a live id": {func(c *deploy.ManagerConfig) {
			c.ID = "m1"
			copyKey(t, cfg.DataDir, c.DataDir)
		}, schema.CodeConflict, []string{`"m1"`, "--id"}},
		"the folder of another manager": {func(c *deploy.ManagerConfig) {
			c.ID = "m2"
			if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(c.DataDir, "id"), []byte("m3\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, schema.CodeConflict, []string{`"m3"`, "--id", "--data"}},
		"rights that are missing": {func(c *deploy.ManagerConfig) { c.ID, c.Server.URL = "m9", closed.NATSURL }, schema.CodeAccessDenied,
			[]string{"Permissions Violation for", "_HM.m9.", "--creds", "hearth credential manager m9"}},
		"a server that is not there": {func(c *deploy.ManagerConfig) { c.Server.URL = "nats://127.0.0.1:1" }, schema.CodeUnavailable,
			[]string{"127.0.0.1:1"}},
		"bad fields, all named": {func(c *deploy.ManagerConfig) {
			c.ID, c.Capacity, c.Driver, c.Prefix, c.Set = "a b", -1, "docker", "Hearth", map[string]string{"theta": "2"}
		}, schema.CodeInvalidParameter, []string{"ID", "Capacity", "Driver", "Prefix", "theta"}},
	} {
		t.Run("manager/"+name, func(t *testing.T) {
			c := managerConfig(t, server.URL)
			c.Logger = slog.New(slog.DiscardHandler)
			tt.change(&c)
			n, err := deploy.StartManager(within(t), c)
			if err == nil {
				stopNode(t, n)
			}
			refusal(t, err, tt.code, tt.says)
		})
	}
	for name, tt := range map[string]struct {
		change func(*deploy.FrontendConfig)
		code   schema.Code
		says   []string
	}{
		"a live id": {func(c *deploy.FrontendConfig) { c.ID = "f1" }, schema.CodeConflict, []string{`"f1"`, "--id"}},
		"rights that are missing": {func(c *deploy.FrontendConfig) { c.ID, c.Server.URL = "f9", closed.NATSURL }, schema.CodeAccessDenied,
			[]string{"Permissions Violation for", "--creds", "hearth credential frontend f9"}},
		"the whole network": {func(c *deploy.FrontendConfig) { c.HTTP = "0.0.0.0:0" }, schema.CodeInvalidParameter, []string{"HTTP", "loopback", "NATS"}},
		"no address":        {func(c *deploy.FrontendConfig) { c.HTTP = "here" }, schema.CodeInvalidParameter, []string{"HTTP", "none"}},
	} {
		t.Run("frontend/"+name, func(t *testing.T) {
			c := frontendConfig(t, server.URL)
			c.Logger = slog.New(slog.DiscardHandler)
			tt.change(&c)
			n, err := deploy.StartFrontend(within(t), c)
			if err == nil {
				stopNode(t, n)
			}
			refusal(t, err, tt.code, tt.says)
		})
	}
}

// copyKey does by hand what a manager's folder may need.
func copyKey(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(from, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "seal.key"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func refusal(t *testing.T, err error, code schema.Code, says []string) {
	t.Helper()
	if err == nil {
		t.Fatal("it started")
	}
	if schema.CodeOf(err) != code {
		t.Errorf("code %s, want %s: %v", schema.CodeOf(err), code, err)
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// A frontend without HTTP serves NATS alone, and two of one fabric share the calls.
func TestFrontendWithoutHTTP(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	startManager(t, managerConfig(t, server.URL))
	cfg := frontendConfig(t, server.URL)
	cfg.HTTP = deploy.NoHTTP
	a, b := startFrontend(t, cfg), startFrontend(t, cfg)
	if a.HTTPURL != "" || a.ID == b.ID {
		t.Errorf("%+v, %+v", a, b)
	}
	c := connect(t, client.Options{URL: server.URL})
	create(t, c, "echo")
	calls(t, c, "echo", `1`)
}

// The key for variables comes from a manager of the ring. Neither a log nor the wire shows it.
func TestSecondManagerGetsTheKey(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	logs := &lines{}
	logger := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	wire := &lines{}
	nc := server.Connect(t)
	if _, err := nc.Subscribe(">", func(m *nats.Msg) { _, _ = wire.Write(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for range 2 {
		cfg := managerConfig(t, server.URL)
		cfg.Logger = logger
		startManager(t, cfg)
		b, err := os.ReadFile(filepath.Join(cfg.DataDir, "seal.key"))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(b))
	}
	if keys[0] != keys[1] {
		t.Error("two managers, two keys")
	}
	digits := strings.Fields(keys[0])[1]
	raw, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"a log": logs.String(), "the wire": wire.String()} {
		if text == "" || strings.Contains(text, digits) || strings.Contains(text, string(raw)) {
			t.Errorf("%d bytes of %s, or they show the key", len(text), where)
		}
	}
	if !strings.Contains(logs.String(), "handed the managers' key over") {
		t.Error("nobody handed it over")
	}
}

// lines is what several goroutines wrote.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

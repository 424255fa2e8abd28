package deploy_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

func credential(t testing.TB, cfg deploy.CredentialConfig) *deploy.Credential {
	t.Helper()
	c, err := deploy.MakeCredential(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A fabric with an embedded server takes credentials in while it runs: a manager, a frontend and a client come over TCP with
// their own, each with its own rights, and whoever was connected before goes on undisturbed.
func TestCredentialsAreTakenInWhileItRuns(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	f := up(t, cfg)
	owner := admin(t, f)
	create(t, owner, "echo")

	// Callers that must not notice.
	var disconnects, failed, done atomic.Int64
	nc, err := nats.Connect(f.NATSURL, nats.DisconnectErrHandler(func(*nats.Conn, error) { disconnects.Add(1) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	end := make(chan struct{})
	var callers conc.WaitGroup
	c := client.New(nc, owner.Names())
	callers.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if _, err := c.Invoke(within(t), client.Call{Function: "echo", Payload: []byte(`1`)}); err != nil {
				t.Errorf("a call failed: %v", err)
				failed.Add(1)
				return
			}
			done.Add(1)
		}
	})

	m := managerConfig(t, f.NATSURL)
	m.ID, m.Logger = "m7", slog.New(refusals{quiet(t).Handler(), t})
	m.Server.Creds = credential(t, deploy.CredentialConfig{Role: deploy.RoleManager, ID: "m7", DataDir: cfg.DataDir}).File
	fr := frontendConfig(t, f.NATSURL)
	fr.ID, fr.Logger = "f7", slog.New(refusals{quiet(t).Handler(), t})
	fr.Server.Creds = credential(t, deploy.CredentialConfig{Role: deploy.RoleFrontend, ID: "f7", DataDir: cfg.DataDir}).File
	named := credential(t, deploy.CredentialConfig{Role: deploy.RoleClient, ID: "shop", DataDir: cfg.DataDir})
	second := credential(t, deploy.CredentialConfig{Role: deploy.RoleAdmin, DataDir: cfg.DataDir})
	if again := credential(t, deploy.CredentialConfig{Role: deploy.RoleManager, ID: "m7", DataDir: cfg.DataDir}); again.Key == "" || again.File != m.Server.Creds {
		t.Errorf("asked for again: %+v", again)
	}
	for _, file := range []string{m.Server.Creds, fr.Server.Creds, named.File, second.File} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	entered := func(o client.Options) bool {
		c, err := client.Connect(within(t), o)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	natstest.Eventually(t, patience, func() bool { return entered(client.Options{URL: f.NATSURL, Creds: second.File}) }, "the last one is known")

	startManager(t, m)
	startFrontend(t, fr)
	shop := connect(t, client.Options{URL: f.NATSURL, Creds: named.File})
	calls(t, shop, "echo", `2`)
	if _, err := shop.Ring(within(t), ""); schema.CodeOf(err) != schema.CodeAccessDenied {
		t.Errorf("a client may look at the ring: %v", err)
	}
	ring, err := connect(t, client.Options{URL: f.NATSURL, Creds: second.File}).Ring(within(t), "")
	if err != nil || len(ring.Managers) != 2 {
		t.Errorf("the second admin sees %+v, %v", ring, err)
	}

	// A manager's credential is no other manager's, nor a frontend's.
	other := managerConfig(t, f.NATSURL)
	other.ID, other.Server, other.Logger = "m8", m.Server, slog.New(slog.DiscardHandler)
	if n, err := deploy.StartManager(within(t), other); schema.CodeOf(err) != schema.CodeAccessDenied {
		if err == nil {
			stopNode(t, n)
		}
		t.Errorf("with the credential of m7: %v", err)
	}

	// Removed, it is known no more; the others stay.
	if err := os.Remove(named.File); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool { return !entered(client.Options{URL: f.NATSURL, Creds: named.File}) }, "it is not known any more")
	before := done.Load()
	natstest.Eventually(t, patience, func() bool { return done.Load() > before+10 }, "calls go on")
	close(end)
	callers.Wait()
	if disconnects.Load() > 0 || failed.Load() > 0 {
		t.Errorf("%d disconnects, %d of %d calls failed", disconnects.Load(), failed.Load(), done.Load())
	}
	if ring, err := owner.Ring(within(t), ""); err != nil || len(ring.Managers) != 2 {
		t.Errorf("the ring then: %+v, %v", ring, err)
	}
}

// Credentials lie in the data folder: the next start knows them.
func TestCredentialsOutliveARestart(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	stop(t, up(t, cfg))
	c := credential(t, deploy.CredentialConfig{Role: deploy.RoleAdmin, DataDir: cfg.DataDir})
	spoilt := filepath.Join(filepath.Dir(c.File), "manager-m9.nk")
	if err := os.WriteFile(spoilt, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := &lines{}
	cfg.Logger = slog.New(slog.NewTextHandler(logs, nil))
	shop := credential(t, deploy.CredentialConfig{Role: deploy.RoleClient, ID: "shop", DataDir: cfg.DataDir})
	f := up(t, cfg)
	if _, err := connect(t, client.Options{URL: f.NATSURL, Creds: c.File}).Ring(within(t), ""); err != nil {
		t.Error(err)
	}
	if _, err := connect(t, client.Options{URL: f.NATSURL, Creds: shop.File}).Invoke(within(t), client.Call{Function: "nobody"}); schema.CodeOf(err) != schema.CodeNotFound {
		t.Error(err)
	}
	if strings.Contains(logs.String(), "NATS account") { // clients of an embedded server have one of their own
		t.Errorf("a warning: %s", logs)
	}
	if !strings.Contains(logs.String(), "manager-m9.nk") {
		t.Errorf("nothing is said of what cannot be used: %s", logs)
	}
}

// What --print gives is what a NATS server of somebody else takes: its roles, with these rights and no more, are a fabric.
func TestBlockOfAnotherServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var blocks strings.Builder
	made := map[string]*deploy.Credential{}
	for _, c := range []deploy.CredentialConfig{
		{Role: deploy.RoleManager, ID: "m1"}, {Role: deploy.RoleManager, ID: "m2"}, {Role: deploy.RoleFrontend, ID: "f.1"},
		{Role: deploy.RoleClient, ID: "shop"}, {Role: deploy.RoleAdmin},
	} {
		c.Out = filepath.Join(dir, c.Role+c.ID)
		made[c.Role+c.ID] = credential(t, c)
		blocks.WriteString(made[c.Role+c.ID].Block())
	}
	config := filepath.Join(dir, "nats.conf")
	text := "authorization { users: [\n" + blocks.String() + "] }\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	s := natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) { o.Nkeys = opts.Nkeys }))
	for _, id := range []string{"m1", "m2"} {
		cfg := managerConfig(t, s.URL)
		cfg.ID, cfg.Server.Creds, cfg.Logger = id, made[deploy.RoleManager+id].File, slog.New(refusals{quiet(t).Handler(), t})
		startManager(t, cfg)
	}
	cfg := frontendConfig(t, s.URL)
	logs := &lines{}
	cfg.ID, cfg.Server.Creds, cfg.Logger = "f.1", made["frontendf.1"].File, slog.New(refusals{slog.NewTextHandler(logs, nil), t})
	startFrontend(t, cfg)
	create(t, connect(t, client.Options{URL: s.URL, Creds: made["admin"].File}), "echo")
	calls(t, connect(t, client.Options{URL: s.URL, Creds: made["clientshop"].File}), "echo", `1`)
	if !strings.Contains(logs.String(), "is in the NATS account of the fabric itself") {
		t.Errorf("one account for all, and nothing is said of it: %s", logs)
	}
}

// A client's file that an older hearth wrote is completed with the inbox prefix and stays the same user; one of another client is
// left alone. NATS's own client takes the file as it is.
func TestFileOfAClient(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.nk")
	made := credential(t, deploy.CredentialConfig{Role: deploy.RoleAdmin, Out: file}) // a seed, and nothing else
	for range 2 {
		shop := credential(t, deploy.CredentialConfig{Role: deploy.RoleClient, ID: "shop", Out: file})
		text, err := os.ReadFile(file)
		if err != nil || shop.Key != made.Key || strings.Count(string(text), "# inbox prefix: _HC.shop\n") != 1 {
			t.Errorf("key %s, was %s: %v\n%s", shop.Key, made.Key, err, text)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, cfg := range []deploy.CredentialConfig{
		{Role: deploy.RoleClient, ID: "store", Out: file}, {Role: deploy.RoleManager, ID: "m1", Out: file},
	} {
		if _, err := deploy.MakeCredential(cfg); schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), "_HC.shop") {
			t.Errorf("%s %s: %v", cfg.Role, cfg.ID, err)
		}
	}
	s := natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) {
		o.Nkeys = []*server.NkeyUser{{Nkey: made.Key}}
	}))
	login, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL, login)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestMakeCredentialRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg  deploy.CredentialConfig
		says string
	}{
		"no such role":     {deploy.CredentialConfig{Role: "gardener", ID: "w1", Out: "x"}, "Role"},
		"a bad id":         {deploy.CredentialConfig{Role: deploy.RoleManager, ID: "a b", Out: "x"}, "ID"},
		"no id":            {deploy.CredentialConfig{Role: deploy.RoleFrontend, Out: "x"}, "ID"},
		"an admin's name":  {deploy.CredentialConfig{Role: deploy.RoleAdmin, ID: "a", Out: "x"}, "ID"},
		"a bad prefix":     {deploy.CredentialConfig{Role: deploy.RoleAdmin, Prefix: "X", Out: "x"}, "Prefix"},
		"no fabric's data": {deploy.CredentialConfig{Role: deploy.RoleAdmin, DataDir: t.TempDir()}, "--out"},
	} {
		if _, err := deploy.MakeCredential(tt.cfg); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

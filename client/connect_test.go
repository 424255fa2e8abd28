package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// guarded starts a server with an admin nkey, a user, and anonymous callers who may call functions alone.
func guarded(t *testing.T) (f *natstest.Fabric, seedFile string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile = filepath.Join(t.TempDir(), "admin.nk")
	if err := os.WriteFile(seedFile, append(seed, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	callers := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"hearth.invoke.default.>"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}
	f = natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) {
		o.Users = []*server.User{{Username: "client", Permissions: callers}, {Username: "ada", Password: "pw"}}
		o.Nkeys = []*server.NkeyUser{{Nkey: public}}
		o.NoAuthUser = "client"
	}))
	return f, seedFile
}

func connect(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	closed := make(chan struct{})
	o.NATS = append(o.NATS, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	c, err := client.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-closed
	})
	return c
}

// TestDeniedIsToldAtOnce: whoever may not publish somewhere hears it, instead of waiting for an answer for minutes.
func TestDeniedIsToldAtOnce(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t)
	c := connect(t, client.Options{URL: f.URL})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, put := c.PutCode(ctx, []byte("PK"))
	_, list := c.GetFunction(ctx, "f", "")
	_, call := c.Invoke(ctx, client.Call{Account: "acme", Function: "f"})
	for what, err := range map[string]error{"PutCode": put, "GetFunction": list, "Invoke of another account": call} {
		if schema.CodeOf(err) != schema.CodeAccessDenied || !strings.Contains(err.Error(), "--creds") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if ctx.Err() != nil {
		t.Error("it took until the deadline")
	}
}

// Whoever may not hear answers is told so, by every request on the connection: a credential of a client without its inbox prefix.
func TestDeafIsToldAtOnce(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) {
		o.Users = []*server.User{{Username: "shop", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"hearth.invoke.default.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_HC.shop.>"}},
		}}}
		o.NoAuthUser = "shop"
	}))
	c := connect(t, client.Options{URL: f.URL})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 {
		_, err := c.Invoke(ctx, client.Call{Function: "f"})
		if schema.CodeOf(err) != schema.CodeAccessDenied || !strings.Contains(err.Error(), "_INBOX: give their inbox prefix") {
			t.Errorf("%v", err)
		}
	}
	if ctx.Err() != nil {
		t.Error("it took until the deadline")
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	f, seed := guarded(t)
	nc := f.Connect(t, nats.UserInfo("ada", "pw"))
	if _, err := nc.Subscribe(f.Names.API("default", "GetFunction"), func(m *nats.Msg) {
		if err := m.Respond([]byte(`{"Configuration":{"FunctionName":"f"}}`)); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]client.Options{
		"nkey seed": {Creds: seed}, "user": {User: "ada", Password: "pw"}, "own inbox": {Creds: seed, InboxPrefix: "_INBOX_ada"},
	} {
		o.URL = f.URL
		if out, err := connect(t, o).GetFunction(t.Context(), "f", ""); err != nil || out.Configuration.FunctionName != "f" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	f, seed := guarded(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(t.TempDir(), "stray.nk")
	if err := os.WriteFile(stray, schema.SeedFile{Seed: []byte("SU"), InboxPrefix: "$JS.API"}.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		o    client.Options
		code schema.Code
		says string
	}{
		"no server":      {t.Context(), client.Options{URL: "nats://127.0.0.1:1"}, schema.CodeUnavailable, "hearth up"},
		"wrong password": {t.Context(), client.Options{URL: f.URL, User: "ada", Password: "no"}, schema.CodeAccessDenied, "--creds"},
		"inbox prefix":   {t.Context(), client.Options{URL: f.URL, Creds: stray}, schema.CodeInvalidParameter, "stray.nk: inbox prefix"},
		"no such file":   {t.Context(), client.Options{URL: f.URL, Creds: seed + ".none"}, schema.CodeInvalidParameter, "admin.nk.none"},
		"no credentials": {t.Context(), client.Options{URL: f.URL, Creds: garbage}, schema.CodeInvalidParameter, "nkey seed"},
		"prefix":         {t.Context(), client.Options{URL: f.URL, Prefix: "A.B"}, schema.CodeInvalidParameter, "prefix"},
		"ended context":  {ended, client.Options{URL: f.URL}, schema.CodeInternal, "canceled"},
	} {
		if _, err := client.Connect(c.ctx, c.o); schema.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s and %q", name, err, c.code, c.says)
		}
	}
}

// TestServerRestart: the client comes back by itself.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	frontend := f.Connect(t)
	if _, err := frontend.Subscribe(f.Names.InvokeAll(), func(m *nats.Msg) {
		a := answer("1")
		a.Subject = m.Reply
		_ = frontend.PublishMsg(a) // its caller may be gone with the server
	}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, client.Options{URL: f.URL})
	natstest.Eventually(t, patience, func() bool { _, err := c.Invoke(t.Context(), client.Call{Function: "f"}); return err == nil }, "first call")
	f.Restart(t)
	natstest.Eventually(t, patience, func() bool {
		_, err := c.Invoke(t.Context(), client.Call{Function: "f", Timeout: time.Second})
		return err == nil
	}, "a call after the restart")
}

func TestCloseLeavesForeignConnections(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare())
	nc := f.Connect(t)
	client.New(nc, f.Names).Close()
	if nc.IsClosed() {
		t.Error("closed a connection that it did not make")
	}
	c := connect(t, client.Options{URL: f.URL})
	c.Close()
	_, err := c.Invoke(t.Context(), client.Call{Function: "f"})
	if !errors.Is(err, nats.ErrConnectionClosed) || schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("after Close: %v", err)
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
)

// atHome are surroundings with these contexts in the home folder, by name.
func atHome(t *testing.T, contexts map[string]string) surroundings {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range contexts {
		writeFile(t, filepath.Join(dir, name+".json"), text)
	}
	return surroundings{config: t.TempDir(), env: map[string]string{"HOME": home}}
}

// nobody is a URL at which no server answers.
const nobody = "nats://127.0.0.1:1"

// A connection by a NATS context is one like any other: what is given beside it wins over it, and a missing right is told.
func TestNATSContext(t *testing.T) {
	t.Parallel()
	f := up(t, "--driver", "null", "--capacity", "2")
	s := atHome(t, map[string]string{
		"anonymous": fmt.Sprintf(`{"url":%q,"color_scheme":"red"}`, f.NATS),
		"admin":     fmt.Sprintf(`{"url":%q,"nkey":"~/admin.nk"}`, f.NATS),
		"creds":     fmt.Sprintf(`{"url":%q,"creds":%q}`, f.NATS, f.Creds),
		"elsewhere": fmt.Sprintf(`{"url":%q,"nkey":%q}`, nobody, f.Creds),
		"shop":      fmt.Sprintf(`{"url":%q,"inbox_prefix":"_HC.shop"}`, f.NATS),
		"user":      fmt.Sprintf(`{"url":%q,"user":"ada","password":"pw"}`, f.NATS),
		"lost":      fmt.Sprintf(`{"url":%q,"nkey":"/nowhere/at.nk"}`, f.NATS),
		"nsc":       fmt.Sprintf(`{"url":%q,"nsc":"nsc://o/a/u"}`, f.NATS),
		"broken":    `{"url":`,
	})
	seed, err := os.ReadFile(f.Creds)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(s.env["HOME"], "admin.nk"), string(seed))
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--context admin", exitOK, "no functions yet"},
		{"--context creds", exitOK, "no functions yet"},
		{"--context " + filepath.Join(s.env["HOME"], ".config/nats/context/admin.json"), exitOK, "no functions yet"},
		{"--context anonymous", exitUsage, "may not publish to hearth.api.default."},
		{"--context anonymous --creds " + f.Creds, exitOK, "no functions yet"},
		{"--context user", exitUsage, "does not take these credentials: name others by --creds"},
		{"--context user --creds " + f.Creds, exitOK, "no functions yet"},
		{"--context elsewhere", exitUnreachable, "no NATS server at " + nobody},
		{"--context elsewhere --server " + f.NATS, exitOK, "no functions yet"},
		{"--context shop", exitUsage, "these credentials may not"},
		{"--context shop --creds " + f.Creds, exitOK, "no functions yet"}, // the prefix is that of another credential
		{"--context lost", exitUsage, "/nowhere/at.nk"},
		{"--context nsc", exitUsage, "--creds"},
		{"--context nsc --creds " + f.Creds, exitOK, "no functions yet"},
		{"--context broken", exitUsage, "broken.json"},
		{"--context amdin", exitUsage, "did you mean admin?; `nats context ls` lists them"},
		{"--context ../admin", exitUsage, "a name or an absolute path"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a request that is denied must not wait for its time-out
		r := s.runContext(ctx, t, append([]string{"ls"}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 || ctx.Err() != nil {
			t.Errorf("ls %s: exit %d, want %d and %q: %s", c.args, r.code, c.code, c.says, r.stderr)
		}
		cancel()
	}
	s.env["HEARTH_SERVER"], s.env["HEARTH_CREDS"] = nobody, "/nowhere/at.nk" // of every day; a context on the command line is meant
	if r := s.run(t, "ls", "--context", "creds"); r.code != exitOK {
		t.Errorf("beside the environment's server: exit %d: %s", r.code, r.stderr)
	}
	s.env["HEARTH_CONTEXT"] = "elsewhere"
	s.env["HEARTH_SERVER"], s.env["HEARTH_CREDS"] = f.NATS, f.Creds
	if r := s.run(t, "ls"); r.code != exitOK {
		t.Errorf("with all in the environment: exit %d: %s", r.code, r.stderr)
	}
	for _, name := range []string{"SERVER", "CREDS", "CONTEXT"} {
		delete(s.env, "HEARTH_"+name)
	}
	s.env["XDG_CONFIG_HOME"] = filepath.Join(s.env["HOME"], ".config")
	s.env["HOME"] = t.TempDir()
	if r := s.run(t, "ls", "--context", "creds"); r.code != exitOK {
		t.Errorf("below XDG_CONFIG_HOME: exit %d: %s", r.code, r.stderr)
	}
}

// Roles take what is given beside a context, too.
func TestRoleByNATSContext(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Bare())
	file := filepath.Join(t.TempDir(), "c.json")
	writeFile(t, file, fmt.Sprintf(`{"url":%q}`, nobody))
	m := startRole(t, "manager", "--context", file, "--server", server.URL, "--data", filepath.Join(t.TempDir(), "data"), "--driver", "null", "--capacity", "2")
	if m.NATS != server.URL {
		t.Errorf("it is at %s", m.NATS)
	}
	writeFile(t, file, fmt.Sprintf(`{"url":%q}`, server.URL))
	if f := startRole(t, "frontend", "--context", file, "--http", "none"); f.NATS != server.URL {
		t.Errorf("it is at %s", f.NATS)
	}
	if r := alone(t, "frontend", "--context", file+"x", "--http", "none"); r.code != exitUsage || !strings.Contains(r.stderr, "there is no "+file+"x") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

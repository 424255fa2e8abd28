package fabric

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
)

// SpreadOptions say over which processes a fabric is spread.
type SpreadOptions struct {
	Managers  int      // m1, m2, …; 0 means 2
	Frontends int      // f1, f2, …; 0 means 1
	Workers   int      // w1, w2, … in processes of their own, shared by the managers in turn, which have no others then
	Capacity  int      // of each manager, or worker; 0 means 20
	Driver    string   // of each manager, or worker; "": process
	Set       []string // KEY=VALUE, numbers of the fabric
	Servers   int      // NATS servers, one cluster; 0 means one that is none
	Proxied   []string // roles that reach the server through a proxy of their own
	Disk      *Disk    // of the server's streams; nil: a folder of the test
	Flags     []string // of each manager
	Env       []string // NAME=VALUE, of each role
}

// Spread is a fabric whose roles are processes, each on its own with the credential of its role and id, on a NATS server that
// is one too.
type Spread struct {
	Door
	Server    *Server   // the first
	Servers   []*Server // all
	Managers  []*Role
	Frontends []*Role
	Workers   []*Role
}

// Role is one manager, frontend or worker in a process of its own.
type Role struct {
	*Process
	ID    string
	HTTP  string          // URL of a frontend's listener, the same in all its starts
	Proxy *natstest.Proxy // what stands between it and the server, if it was asked for

	ready string
}

// StartSpread starts a server, managers and frontends on it, and waits until all are ready. The test's cleanup stops them.
func StartSpread(t testing.TB, o SpreadOptions) *Spread {
	t.Helper()
	s := &Spread{}
	s.Door = Door{t: t, bin: Build(t), home: t.TempDir(), logs: s.Log}
	managers, frontends := orElse(o.Managers, 2), orElse(o.Frontends, 1)
	users := []string{s.credential("admin")}
	for i := range managers {
		users = append(users, s.credential("manager", fmt.Sprintf("m%d", i+1)))
	}
	for i := range frontends {
		users = append(users, s.credential("frontend", fmt.Sprintf("f%d", i+1)))
	}
	for i := range o.Workers {
		users = append(users, s.credential("worker", fmt.Sprintf("w%d", i+1)))
	}
	if o.Servers > 1 {
		s.Servers = startCluster(t, o.Servers, users...)
	} else {
		s.Servers = []*Server{startServer(t, o.Disk, users...)}
	}
	s.Server = s.Servers[0]
	urls := make([]string, len(s.Servers))
	for i, server := range s.Servers {
		urls[i] = server.URL
	}
	s.NATS, s.Creds = strings.Join(urls, ","), s.seed("admin")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	for i := range managers {
		id := fmt.Sprintf("m%d", i+1)
		args := []string{"--data", filepath.Join(t.TempDir(), id)}
		if o.Workers > 0 {
			args = append(args, "--driver", "none")
		} else {
			args = append(args, environments(o)...)
		}
		args = append(args, o.Flags...)
		for _, kv := range append(patient(o.Set), o.Set...) {
			args = append(args, "--set", kv)
		}
		s.Managers = append(s.Managers, s.role(t, "manager", id, o, args...))
	}
	for i := range frontends {
		id, http := fmt.Sprintf("f%d", i+1), fmt.Sprintf("127.0.0.1:%d", freePort(t))
		f := s.role(t, "frontend", id, o, "--http", http)
		f.HTTP = "http://" + http
		s.Frontends = append(s.Frontends, f)
	}
	for i := range o.Workers {
		id, manager := fmt.Sprintf("w%d", i+1), fmt.Sprintf("m%d", i%managers+1)
		args := []string{"--manager", manager, "--data", filepath.Join(t.TempDir(), id)}
		s.Workers = append(s.Workers, s.role(t, "worker", id, o, append(args, environments(o)...)...))
	}
	// A frontend is ready when somebody is on the ring, and managers agree on who makes their key, so all may start at once.
	var all conc.WaitGroup
	var failed []string
	starts := slices.Concat(s.Managers, s.Frontends, s.Workers)
	errs := make([]error, len(starts))
	for i, r := range starts {
		all.Go(func() { errs[i] = r.begin() })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", starts[i].ID, err))
		}
	}
	if failed != nil {
		t.Fatalf("%s\n%s", strings.Join(failed, "\n"), s.Log())
	}
	return s
}

// credential makes a credential with the rights of a role and id, and gives the block by which the server knows it.
func (s *Spread) credential(role ...string) (block string) {
	s.t.Helper()
	args := append([]string{"credential"}, role...)
	return s.MustCLI(append(args, "--out", s.seed(role[len(role)-1]), "--print")...)
}

// seed is the file of a role's credential.
func (s *Spread) seed(id string) string { return filepath.Join(s.home, id+".nk") }

// environments are the flags of who runs some.
func environments(o SpreadOptions) []string {
	args := []string{"--capacity", fmt.Sprint(orElse(o.Capacity, 20))}
	if o.Driver != "" {
		args = append(args, "--driver", o.Driver)
	}
	return args
}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}

func (s *Spread) role(t testing.TB, kind, id string, o SpreadOptions, args ...string) *Role {
	r := &Role{ID: id, ready: filepath.Join(t.TempDir(), id+".json")}
	url := s.NATS
	if slices.Contains(o.Proxied, id) {
		r.Proxy = natstest.StartProxy(t, url)
		url = r.Proxy.URL
	}
	args = append([]string{kind, "--id", id, "--server", url, "--creds", s.seed(id), "--ready-file", r.ready}, args...)
	r.Process = newProcess(t, kind+" "+id, s.bin.Hearth, args, append(environ(s.home), o.Env...))
	return r
}

// begin starts the role and waits until it is ready, or ends, or has taken too long.
func (r *Role) begin() error {
	removeStale(r.ready)
	if err := r.start(); err != nil {
		return err
	}
	var ready Ready
	return r.until(readyWithin, func() bool { return readJSON(r.ready, &ready) })
}

// Start starts the role again as it was, after Stop or Kill, and waits until it is ready.
func (r *Role) Start() {
	r.t.Helper()
	if err := r.begin(); err != nil {
		r.t.Fatalf("start %s again: %v\n%s", r.Name, err, r.log)
	}
}

// Log is the last that each process has written.
func (s *Spread) Log() string {
	var b strings.Builder
	for _, server := range s.Servers {
		fmt.Fprintf(&b, "== %s\n%s", server.Name, server.log.tail())
	}
	for _, r := range slices.Concat(s.Managers, s.Frontends, s.Workers) {
		fmt.Fprintf(&b, "== %s\n%s", r.Name, r.log.tail())
	}
	return b.String()
}

// Manager is the manager with this id.
func (s *Spread) Manager(id string) *Role {
	s.t.Helper()
	for _, m := range s.Managers {
		if m.ID == id {
			return m
		}
	}
	s.t.Fatalf("no manager %q", id)
	return nil
}

// Other is a manager that is not this one.
func (s *Spread) Other(m *Role) *Role {
	s.t.Helper()
	for _, o := range s.Managers {
		if o != m {
			return o
		}
	}
	s.t.Fatal("there is one manager alone")
	return nil
}

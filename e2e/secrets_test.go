//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/examples/tenant/records"
)

// shop is the example's service of records on loopback, which notes the tokens that it is shown.
type shop struct {
	address string
	server  *httptest.Server

	mu    sync.Mutex // guards shown and paths
	shown []string
	paths []string
}

// newShop has an address at once, and answers when it serves.
func newShop(t *testing.T) *shop {
	s := &shop{server: httptest.NewUnstartedServer(nil)}
	s.address = s.server.Listener.Addr().String()
	t.Cleanup(s.server.Close)
	return s
}

func (s *shop) serve(t *testing.T, frontend string) {
	t.Helper()
	tokens, err := records.NewVerifier(records.Config{JWKS: frontend + "/.well-known/jwks.json", Issuer: "hearth", Audience: "records", Account: "default"})
	if err != nil {
		t.Fatal(err)
	}
	service := records.New(tokens)
	s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); !slices.Contains(s.shown, text) {
			s.shown = append(s.shown, text)
		}
		s.paths = append(s.paths, r.URL.Path)
		s.mu.Unlock()
		service.ServeHTTP(w, r)
	})
	s.server.Start()
}

func (s *shop) asked(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.paths, path)
}

// tokens are those that it was shown, by whose they are.
func (s *shop) tokens(t *testing.T) map[string][]string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]string{}
	for _, text := range s.shown {
		tenant, ok := tenantOf(text)
		if !ok {
			t.Errorf("%q is no token", text)
		}
		all[tenant] = append(all[tenant], text)
	}
	return all
}

// tenantOf is whose a token says that it is.
func tenantOf(token string) (tenant string, ok bool) {
	var claims struct{ Tenant string }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	ok = err == nil && json.Unmarshal(body, &claims) == nil && claims.Tenant != ""
	return claims.Tenant, ok
}

// collector takes in what OTLP exporters send, as it comes.
type collector struct {
	*httptest.Server

	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("spans that cannot be looked through: %v, %v", r.Header, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all.Write(body)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String()
}

func (c *collector) has(s string) bool { return strings.Contains(c.text(), s) }

// watchFor looks through every message of the fabric from now on, also those that are stored for a moment alone, but for inboxes: a pull
// whose inbox somebody else listens at is never withdrawn. What it gives says where the text stood.
func watchFor(t *testing.T, f *fabric.Spread, text string) (found func() []string) {
	t.Helper()
	var mu sync.Mutex
	var where []string
	count := 0
	nc := f.Server.Connect()
	look := func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		count++
		if bytes.Contains(m.Data, []byte(text)) || strings.Contains(fmt.Sprint(m.Header), text) || strings.Contains(m.Subject, text) {
			where = append(where, m.Subject)
		}
	}
	const own = "hearth.watched"
	for _, subject := range []string{"hearth.>", "$KV.>", "$O.>"} {
		sub, err := nc.Subscribe(subject, look)
		if err = errors.Join(err, sub.SetPendingLimits(-1, -1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		// What was published before is here when one's own is.
		if err := nc.Publish(own, []byte(text)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all messages are looked through", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(where, own)
		})
		mu.Lock()
		defer mu.Unlock()
		if count < 20 {
			t.Errorf("%d messages were seen: this proves nothing", count)
		}
		return slices.DeleteFunc(where, func(s string) bool { return s == own })
	}
}

// searchStreams looks for a text in whatever is stored: streams, and buckets, which are streams.
func searchStreams(t *testing.T, f *fabric.Spread, text string) (found map[string][]string) {
	t.Helper()
	js, err := jetstream.New(f.Server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	ctx := withDeadline(t)
	found = map[string][]string{}
	messages := 0
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		state := stream.CachedInfo().State
		for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
			m, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				t.Fatalf("message %d of %s: %v", seq, name, err)
			}
			messages++
			if bytes.Contains(m.Data, []byte(text)) || strings.Contains(fmt.Sprint(m.Header), text) {
				found[name] = append(found[name], m.Subject)
			}
		}
	}
	if err := names.Err(); err != nil || messages < 20 {
		t.Errorf("%d messages were looked through, %v", messages, err)
	}
	return found
}

// searchEnvironments reads the memory of every environment from outside: that of a sub-tenant holds tokens of its own alone; those
// that are bound to nobody, so many at least, hold none, and nobody's name.
func searchEnvironments(t *testing.T, f *fabric.Spread, tenants []string, generic int) {
	t.Helper()
	owners := map[string]int{}
	for _, m := range f.Managers {
		for _, pid := range programsOf(t, m.PID(), "bootstrap") {
			memory := memoryOf(t, pid)
			of := tokensIn(memory)
			if len(of) > 1 {
				t.Errorf("process %d holds tokens of %q", pid, of)
			}
			for _, tenant := range tenants {
				if len(of) == 0 && bytes.Contains(memory, []byte(tenant)) {
					t.Errorf("process %d holds no token, and the name of %s", pid, tenant)
				}
			}
			owners[strings.Join(of, " ")]++
		}
	}
	if owners[""] < generic || len(owners) != len(tenants)+1 {
		t.Errorf("environments by whose tokens they hold: %v; want %d of nobody, and some of each", owners, generic)
	}
}

// tokensIn are those whose tokens lie in a memory.
func tokensIn(memory []byte) (tenants []string) {
	for {
		at := bytes.Index(memory, []byte(tokenHead))
		if at < 0 {
			return tenants
		}
		memory = memory[at:]
		end := bytes.IndexFunc(memory, func(r rune) bool {
			return r > 'z' || !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", r)
		})
		if end < 0 {
			end = len(memory)
		}
		if tenant, ok := tenantOf(string(memory[:end])); ok && !slices.Contains(tenants, tenant) {
			tenants = append(tenants, tenant)
		}
		memory = memory[len(tokenHead):]
	}
}

// programsOf are the processes below one that run a program of this name.
func programsOf(t *testing.T, root int, name string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	for below := children[root]; len(below) > 0; below = below[1:] {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", below[0])); err == nil && filepath.Base(exe) == name {
			pids = append(pids, below[0])
		}
		below = append(below, children[below[0]]...)
	}
	return pids
}

// memoryOf is what a process has written in its memory.
func memoryOf(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all bytes.Buffer
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); n != 3 || !strings.HasPrefix(rights, "rw") {
			continue
		}
		// A part that was never touched reads as zeros, and costs as much to read.
		if _, err := io.Copy(&all, io.NewSectionReader(mem, from, to-from)); err != nil {
			t.Fatalf("memory %s of %d: %v", strings.TrimSpace(line), pid, err)
		}
	}
	if all.Len() < 64<<10 {
		t.Fatalf("process %d has %d bytes: this proves nothing", pid, all.Len())
	}
	return all.Bytes()
}

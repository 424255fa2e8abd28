package e2e_test

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestTrouble gives one fabric everything that may go wrong, and a healthy function beside it that must not notice.
func TestTrouble(t *testing.T) {
	t.Parallel()
	f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: 60, Driver: fabric.Sandbox()})
	f.DeployFn("healthy")
	f.DeployFn("fn", "--timeout", "3s")
	c := f.Anonymous()

	t.Run("functions", func(t *testing.T) { troubledFunctions(t, f) })
	t.Run("packages", func(t *testing.T) { hostilePackages(t, f) })
	t.Run("nats", func(t *testing.T) { hostileClients(t, f) })
	t.Run("http", func(t *testing.T) { hostilePages(t, f) })

	if a := invoke(t, c, "healthy", `"still here"`); string(a.Payload) != `"still here"` {
		t.Errorf("the healthy function answered %s", a.Payload)
	}
	quiet(t, f)
}

// troubledFunctions are functions that fail at the start, in a call, or lie to the Runtime API.
func troubledFunctions(t *testing.T, f *fabric.Fabric) {
	bin := fabric.Build(t)
	boot, err := os.ReadFile(bin.Fn)
	if err != nil {
		t.Fatal(err)
	}
	folder := func(t *testing.T, mode fs.FileMode, content []byte) string {
		dir := t.TempDir()
		if content != nil {
			if err := os.WriteFile(filepath.Join(dir, "bootstrap"), content, mode); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(filepath.Join(dir, "readme"), []byte("nothing to run"), mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	starts := []struct {
		name    string
		mode    fs.FileMode
		content []byte
		flags   []string
		wants   []string // in the error object
	}{
		{"missing", 0o644, nil, nil, []string{"Runtime.InvalidEntrypoint"}},
		{"not-executable", 0o644, boot, nil, []string{"Runtime.InvalidEntrypoint", "permission denied"}},
		{"not-a-program", 0o755, []byte("no program"), nil, []string{"exec format error"}},
		{"exits", 0o755, boot, []string{"--env", "FN_INIT=exit"}, []string{"Runtime.ExitError", "exit status 7"}},
		{"says-why", 0o755, boot, []string{"--env", "FN_INIT=error"}, []string{"Fn.InitFailed", "as asked"}},
	}
	for _, s := range starts {
		t.Run("start "+s.name, func(t *testing.T) {
			t.Parallel()
			f.MustCLI(append([]string{"deploy", s.name, folder(t, s.mode, s.content), "--runtime", "provided"}, s.flags...)...)
			a := invoke(t, f.Anonymous(), s.name, `{}`)
			for _, want := range s.wants {
				if a.FunctionError == nil || !strings.Contains(string(a.Payload), want) {
					t.Errorf("answered %s (error %v), want %s", a.Payload, a.FunctionError, want)
				}
			}
		})
	}
	t.Run("start hangs", func(t *testing.T) {
		t.Parallel()
		f.DeployFn("hangs", "--env", "FN_INIT=hang")
		a, err := f.Anonymous().Invoke(withDeadline(t), client.Call{Function: "hangs", Payload: []byte(`{}`)})
		if err == nil && a.FunctionError == nil {
			t.Errorf("a function that never asks for a call answered %s", a.Payload)
		}
		if err != nil && schema.CodeOf(err) != schema.CodeCapacityExceeded {
			t.Errorf("refused with %v", err)
		}
	})
	calls := []struct{ name, payload, want string }{
		{"exits", `"exit 9"`, "exit status 9"},
		{"killed", `"signal"`, "signal: killed"},
		{"hangs", `"hang"`, "Sandbox.Timedout"},
		{"spins", `"spin"`, "Sandbox.Timedout"},
		{"too much", `"big 7000000"`, "Function.ResponseSizeTooLarge"},
	}
	for _, k := range calls {
		t.Run("call "+k.name, func(t *testing.T) {
			t.Parallel()
			if a := invoke(t, f.Anonymous(), "fn", k.payload); a.FunctionError == nil || !strings.Contains(string(a.Payload), k.want) {
				t.Errorf("answered %.200s, want %s", a.Payload, k.want)
			}
		})
	}
	t.Run("lies", func(t *testing.T) {
		f.DeployFn("liar")
		c := f.Anonymous()
		for _, k := range []struct{ payload, status string }{{`"twice"`, `"403"`}, {`"other"`, `"400"`}} {
			if a := invoke(t, c, "liar", k.payload); string(a.Payload) != k.payload {
				t.Errorf("%s answered %s", k.payload, a.Payload)
			}
			if a := invoke(t, c, "liar", `"last"`); string(a.Payload) != k.status {
				t.Errorf("%s was told %s by the Runtime API, want %s", k.payload, a.Payload, k.status)
			}
		}
	})
}

// hostilePackages are zips that nobody should unpack.
func hostilePackages(t *testing.T, f *fabric.Fabric) {
	type entry struct {
		name string
		mode fs.FileMode
		body string
	}
	build := func(entries ...entry) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, e := range entries {
			h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
			h.SetMode(e.mode)
			part, err := w.CreateHeader(h)
			if err == nil {
				_, err = part.Write([]byte(e.body))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	outside := filepath.Join(t.TempDir(), "outside")
	packages := map[string][]byte{
		"climbs":   build(entry{"../../../../../../../../" + outside, 0o644, "x"}),
		"absolute": build(entry{outside, 0o644, "x"}),
		"link": build(entry{"bootstrap", 0o755, "x"}, entry{"out", fs.ModeSymlink | 0o777, filepath.Dir(outside)},
			entry{"out/outside", 0o644, "x"}),
		"twice":  build(entry{"bootstrap", 0o755, "a"}, entry{"bootstrap", 0o755, "b"}),
		"bomb":   build(entry{"bootstrap", 0o755, strings.Repeat("\x00", 80<<20)}),
		"device": build(entry{"bootstrap", fs.ModeDevice | fs.ModeCharDevice | 0o666, ""}),
		"no-zip": []byte("this is no zip"),
	}
	for name, content := range packages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "package.zip")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			function := "zip-" + name
			if r := f.CLI("deploy", function, path, "--runtime", "provided"); r.Code == 2 {
				if !strings.Contains(r.Stderr, "hearth: ") {
					t.Errorf("refused without saying why: %q", r.Stderr)
				}
				return
			}
			if a := invoke(t, f.Anonymous(), function, `{}`); a.FunctionError == nil {
				t.Errorf("answered %s", a.Payload)
			}
		})
	}
	t.Cleanup(func() {
		if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a package wrote outside its folder: %v", err)
		}
	})
}

// hostileClients use what an anonymous NATS client may publish.
func hostileClients(t *testing.T, f *fabric.Fabric) {
	refused := make(chan error, 1024)
	nc := anonymous(t, f, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))

	t.Run("subjects", func(t *testing.T) {
		for _, s := range []struct{ subject, status string }{
			{"hearth.invoke.default.nobody", "404"},
			{"hearth.invoke.default.fn.unasked-tenant", "400"},
			{"hearth.invoke.default.=ZZ", "400"},
			{"hearth.invoke.default.a.b.c.d.e", "400"},
			{"hearth.invoke.default._", "400"},
			{"hearth.invoke.default." + strings.Repeat("x", 500), "4"},
		} {
			a, err := nc.RequestWithContext(withDeadline(t), s.subject, []byte("{}"))
			if err != nil {
				t.Errorf("%s: %v", s.subject, err)
			} else if got := a.Header.Get("Nats-Service-Error-Code"); !strings.HasPrefix(got, s.status) {
				t.Errorf("%s: status %q, want %s (%s)", s.subject, got, s.status, a.Header.Get("Nats-Service-Error"))
			}
		}
	})
	t.Run("headers", func(t *testing.T) {
		for _, h := range []struct {
			name, field string
			values      []string
		}{
			{"Hearth-Qualifier", "Hearth-Qualifier", []string{"a", "b"}},
			{"Hearth-Timeout", "Hearth-Timeout", []string{"-1s"}},
			{"Hearth-Client-Context", "ClientContext", []string{"{not json"}},
			{"Hearth-Tenant", "TenantId", []string{"acme"}},
		} {
			m := nats.NewMsg("hearth.invoke.default.fn")
			m.Header[h.name] = h.values
			a, err := nc.RequestMsgWithContext(withDeadline(t), m)
			if err != nil {
				t.Errorf("%s: %v", h.name, err)
			} else if text := a.Header.Get("Nats-Service-Error"); a.Header.Get("Nats-Service-Error-Code") != "400" ||
				!strings.Contains(text, h.field) {
				t.Errorf("%s: %v does not name the field", h.name, a.Header)
			}
		}
	})
	t.Run("payloads", func(t *testing.T) {
		big := make([]byte, schema.MaxPayload+1)
		a, err := nc.RequestWithContext(withDeadline(t), "hearth.invoke.default.fn", big)
		if err != nil || a.Header.Get("Nats-Service-Error-Code") != "413" {
			t.Errorf("a payload over 6 MiB: %v, %v", a, err)
		}
		_, _ = rand.Read(big)
		a, err = nc.RequestWithContext(withDeadline(t), "hearth.invoke.default.healthy", nil)
		if err != nil || string(a.Data) != "{}" {
			t.Errorf("no payload, which is {} by every door: %v, %v", a, err)
		}
		for _, size := range []int{1, 7, 1000, 200_000, schema.MaxPayload} {
			payload := big[:size]
			a, err := nc.RequestWithContext(withDeadline(t), "hearth.invoke.default.healthy", payload)
			if err != nil || !bytes.Equal(a.Data, payload) {
				t.Errorf("%d random bytes did not come back: %v", size, err)
			}
		}
	})
	t.Run("replies", func(t *testing.T) {
		victims := []string{
			"$JS.API.STREAM.DELETE.HEARTH_CALLS_U", "$KV.HEARTH_functions.default.fn", "hearth.api.default.DeleteFunction",
			"hearth.invoke.default.healthy", "hearth.arc.u.0.default.fn.=24LATEST._", "_HF.*.a.1", "_INBOX.>", "_INBOX..x",
			"_INBOX." + strings.Repeat("x", 300), "hearth.status.manager.m1", "_HM.m1.x",
		}
		for _, reply := range victims {
			if err := nc.PublishRequest("hearth.invoke.default.nobody", reply, []byte("{}")); err != nil {
				t.Errorf("%s: %v", reply, err)
			}
		}
		if err := nc.FlushWithContext(withDeadline(t)); err != nil {
			t.Fatal(err)
		}
		if a := invoke(t, f.Anonymous(), "fn", `"after the replies"`); string(a.Payload) != `"after the replies"` {
			t.Errorf("answered %s", a.Payload)
		}
		if out := f.MustCLI("describe", "fn", "--json"); !strings.Contains(out, `"fn"`) {
			t.Errorf("the function's record is damaged: %s", out)
		}
	})
	t.Run("permissions", func(t *testing.T) {
		for len(refused) > 0 {
			<-refused
		}
		forbidden := []string{"hearth.api.default.ListFunctions", "hearth.arc.u.0.default.fn.1._", "$JS.API.INFO", "$KV.HEARTH_ring.ring",
			"hearth.status.manager.m1", "_HF.x.a.1", "_INBOX.x", "$SRV.PING", "hearth.m.m1.ctl", "hearth.bench.x"}
		for _, subject := range forbidden {
			if err := nc.Publish(subject, []byte("x")); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
		for range forbidden {
			select {
			case err := <-refused:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Error(err)
				}
			case <-time.After(deadline):
				t.Fatal("the server let an anonymous client publish where it must not")
			}
		}
	})
}

// hostilePages are what a page in a browser, or somebody behind a proxy, can send to the port.
func hostilePages(t *testing.T, f *fabric.Fabric) {
	for _, h := range []struct {
		name, value string
		status      int
	}{
		{"Origin", "http://evil.example", http.StatusForbidden},
		{"Origin", "null", http.StatusForbidden},
		{"Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-origin", http.StatusForbidden},
		{"X-Forwarded-For", "10.0.0.1", http.StatusForbidden},
		{"Forwarded", "for=10.0.0.1", http.StatusForbidden},
		{"Via", "1.1 proxy", http.StatusForbidden},
		{"Host", "evil.example", http.StatusMisdirectedRequest},
	} {
		resp, body := post(t, f, "fn", strings.NewReader(`{}`), http.Header{h.name: {h.value}})
		var out map[string]any
		if resp.StatusCode != h.status || json.Unmarshal(body, &out) != nil {
			t.Errorf("%s: %s: %d %s, want %d and a JSON body", h.name, h.value, resp.StatusCode, body, h.status)
		}
	}
	for _, k := range []struct {
		function, body string
		status         int
		code           string
	}{
		{"fn", "{", 400, "InvalidRequestContentException"},
		{"fn", `"` + strings.Repeat("x", schema.MaxPayload) + `"`, 413, "RequestTooLargeException"},
		{"no%2Fsuch%00name", "{}", 400, "InvalidParameterValueException"},
		{"fn?Qualifier=nobody", "{}", 404, "ResourceNotFoundException"},
	} {
		function, query, _ := strings.Cut(k.function, "?")
		req, err := http.NewRequestWithContext(withDeadline(t), http.MethodPost,
			fmt.Sprintf("%s/2015-03-31/functions/%s/invocations?%s", f.HTTP, function, query), strings.NewReader(k.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", k.function, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != k.status || resp.Header.Get("X-Amzn-Errortype") != k.code {
			t.Errorf("%s: %d %s, want %d %s", k.function, resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), k.status, k.code)
		}
	}
}

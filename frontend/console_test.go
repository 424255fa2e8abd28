package frontend_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/schema"
)

// TestConsoleGuards: the console takes what its own pages send beside what a person types, and nothing else that the API does
// not take either; a refusal is a page, and says nothing of the fabric.
func TestConsoleGuards(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true, config: func(c *frontend.Config) { c.Hosts = []string{"Hearth.Example"} }})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	here := "localhost:" + port
	site := func(s ...string) http.Header { return http.Header{"Sec-Fetch-Site": s} }
	for _, c := range []struct {
		name, host string
		header     http.Header
		want       int
		open       bool // the refusal leads in
	}{
		{"no browser", "127.0.0.1:" + port, nil, 200, false},
		{"typed", here, site("none"), 200, false},
		{"its own page", here, site("same-origin"), 200, false},
		{"its own page, with its origin", here, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://" + here}}, 200, false},
		{"a configured name", "hearth.example", site("same-origin"), 200, false},
		{"IPv6", "[::1]:" + port, nil, 200, false},
		{"a link of another site", here, site("cross-site"), 403, true},
		{"a page of another port", here, site("same-site"), 403, true},
		{"something new", here, site("other"), 403, true},
		{"two of them", here, site("same-origin", "cross-site"), 403, true},
		{"another origin", here, http.Header{"Origin": {"https://evil.example"}}, 403, true},
		{"another port's origin", here, http.Header{"Origin": {"http://localhost:1"}}, 403, true},
		{"the name without the port", here, http.Header{"Origin": {"http://localhost"}}, 403, true},
		{"our origin over TLS", here, http.Header{"Origin": {"https://" + here}}, 403, true},
		{"no origin at all", here, http.Header{"Origin": {"null"}}, 403, true},
		{"DNS rebinding", "evil.example:" + port, site("same-origin"), 421, false},
		{"DNS rebinding, with its origin", "evil.example", http.Header{"Origin": {"http://evil.example"}}, 421, false},
		{"another address", "10.0.0.1", nil, 421, false},
		{"a proxy", here, http.Header{"X-Forwarded-For": {"10.0.0.1"}}, 403, false},
		{"a proxy, standard header", here, http.Header{"Forwarded": {"for=10.0.0.1"}}, 403, false},
		{"a proxy that says so", here, http.Header{"Via": {"1.1 x"}}, 403, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/console", "/console/", "/console/functions", "/console/functions/echo", "/console/calls", "/console/live?page=calls", "/console/static/console.js"} {
				method := http.MethodGet
				if strings.Contains(path, "live") {
					method = http.MethodHead
				}
				req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = c.host
				for k, v := range c.header {
					req.Header[k] = v
				}
				resp := b.do(t, req)
				if resp.StatusCode != c.want {
					t.Errorf("%s: status %d, want %d", path, resp.StatusCode, c.want)
				}
				if resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: headers %v", path, resp.Header)
				}
				if c.want == 200 || method == http.MethodHead {
					continue
				}
				body := bodyOf(t, resp)
				if strings.Contains(body, "echo") && !strings.Contains(path, "echo") || strings.Contains(body, "Open the console") != c.open {
					t.Errorf("%s: refused with %s", path, body)
				}
			}
		})
	}
	// What looks like the console and is not is the API's.
	for _, path := range []string{"/consoles", "/Console", "//console", "/console.js"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp := b.do(t, req); resp.StatusCode != 404 || resp.Header.Get("X-Amzn-ErrorType") == "" {
			t.Errorf("%s: status %d, headers %v", path, resp.StatusCode, resp.Header)
		}
	}
}

// TestConsoleOff: without anonymous callers, off loopback, and where it is not wanted, there is none.
func TestConsoleOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*frontend.Config)
		want   int
		text   string
	}{
		"no anonymous callers": {func(c *frontend.Config) { c.Anonymous = false }, 403, "switched off"},
		"not wanted":           {func(c *frontend.Config) { c.NoConsole = true }, 404, "UnknownOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, settings{http: true, config: c.change})
			resp, err := http.Get(b.url + "/console")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body := bodyOf(t, resp); resp.StatusCode != c.want || !strings.Contains(body+resp.Header.Get("X-Amzn-ErrorType"), c.text) && c.want == 403 {
				t.Errorf("status %d, %s", resp.StatusCode, body)
			}
		})
	}
}

// watchCalls opens the live calls of the console.
func (b *bundle) watchCalls(t *testing.T) (next func() map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/console/live?page=calls", nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(b.do(t, req).Body)
	var rows []map[string]string
	read := func() {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var f struct {
					Rows []map[string]string `json:"r"`
				}
				if err := json.Unmarshal([]byte(data), &f); err != nil {
					t.Fatal(err)
				}
				rows = append(rows, f.Rows...)
				return
			}
		}
		t.Fatalf("the console tells nothing more: %v", lines.Err())
	}
	read() // from here on it watches
	return func() map[string]string {
		for len(rows) == 0 {
			read()
		}
		row := rows[0]
		rows = rows[1:]
		return row
	}
}

// TestConsoleCalls: each way in which a call ends is told to who watches, with what the frontend knows of it.
func TestConsoleCalls(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	c := b.claimer(t, "echo")
	told := b.watchCalls(t)
	want := func(name string, want map[string]string) map[string]string {
		t.Helper()
		row := told()
		for k, v := range want {
			if row[k] != v {
				t.Errorf("%s: %s is %q, want %q; row %v", name, k, row[k], v, row)
			}
		}
		return row
	}

	sub := b.send(t, "echo", nil)
	claimed := c.claim(t).ack(t)
	claimed.answer(t, []byte(`{}`), nil)
	id := next(t, sub).Header.Get(schema.HeaderRequestID)
	claimed.tell(t, "e", &schema.Ends{Manager: "m1", Tokens: []uint64{claimed.call.Token}, Marks: []byte{byte(schema.MarkOf(schema.StartCold, &schema.Outcome{}))}})
	row := want("answered over NATS", map[string]string{"fn": "echo", "ver": "$LATEST", "out": "ok", "start": "cold", "mgr": "m1", "why": "unreserved", "id": id})
	if row["took"] == "" || !strings.HasPrefix(row["arc"], "u.") || row["story"] != "/console/trace/"+id {
		t.Errorf("row %v", row)
	}

	for _, marks := range [][]byte{nil, {byte(schema.MarkTimedOut)}} {
		sub = b.send(t, "echo", nil)
		claimed = c.claim(t).ack(t)
		claimed.answer(t, nil, nil)
		next(t, sub)
		claimed.tell(t, "e", &schema.Ends{Manager: "m1", Tokens: []uint64{claimed.call.Token}, Marks: marks})
		want("told by a manager", map[string]string{"out": map[bool]string{true: "ended", false: "timeout"}[marks == nil], "start": ""})
	}

	// What a function calls its failure is a name at most, and never an outcome of the platform.
	b.serve(t, "echo", func(c *schema.Call) ([]byte, nats.Header) {
		h := nats.Header{schema.HeaderFunctionError: {schema.FunctionErrorUnhandled}}
		if code := strings.Trim(string(c.Payload), `"`); schema.Code(code).Known() {
			h.Set(schema.HeaderPlatformError, code)
		}
		return c.Payload, h
	})
	for kind, code := range map[string]string{
		"<b>Type</b>": "Unhandled", "card 4111": "Unhandled", "TypeError": "TypeError", string(schema.CodeThrottled): string(schema.CodeThrottled),
		string(schema.CodeExecutionLost): string(schema.CodeExecutionLost), string(schema.CodeTimedOut): string(schema.CodeTimedOut),
	} {
		b.post(t, echoPath, `{"errorType":"`+kind+`","errorMessage":"no"}`, nil)
		want("failed over HTTP", map[string]string{"out": "function-error", "code": code})
	}

	// What the platform says is shown as such.
	for code, out := range map[schema.Code]string{schema.CodeTimedOut: "timeout", schema.CodeExitError: "function-error"} {
		b.post(t, echoPath, `"`+string(code)+`"`, nil)
		want("ended by the platform over HTTP", map[string]string{"out": out, "code": string(code)})
	}

	b.post(t, "/2015-03-31/functions/nobody/invocations", `{}`, nil)
	want("refused over HTTP", map[string]string{"fn": "nobody", "out": "refused", "code": string(schema.CodeNotFound), "took": ""})
	b.request(t, "nobody", nil, nil)
	want("refused over NATS", map[string]string{"fn": "nobody", "out": "refused", "code": string(schema.CodeNotFound)})
}

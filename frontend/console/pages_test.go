package console_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

func pathEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// TestPages: every page, of a fabric in which everything has a hostile name, is whole, has the headers that keep it so, and
// nothing in it is what a name would have made.
func TestPages(t *testing.T) {
	t.Parallel()
	s := serve(t, hostile())
	for _, path := range paths() {
		resp, body := s.get(t, path)
		if want := map[bool]int{true: 404, false: 200}[strings.HasSuffix(path, "nowhere")]; resp.StatusCode != want {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
		wantHeaders(t, path, resp)
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
		for _, hidden := range []string{"\u202e", "\u200b", "\u2066", "\x1b", "\x00", "\xff"} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s holds %q", path, hidden)
			}
		}
		inspect(t, path, body)
	}
}

func wantHeaders(t *testing.T, path string, resp *http.Response) {
	t.Helper()
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "img-src 'self' data:", "base-uri 'none'",
		"form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	} {
		if !slices.Contains(strings.Split(policy, "; "), want) {
			t.Errorf("%s: policy %q lacks %s", path, policy, want)
		}
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", path, name, got, want)
		}
	}
}

// inspect parses a page as a browser does and looks at each element.
func inspect(t *testing.T, path, body string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]int)
	count := make(map[string]int)
	var labels, named []string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		attr := make(map[string]string)
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s: <%s %s=%q>", path, n.Data, a.Key, a.Val)
			}
			if (a.Key == "href" || a.Key == "src" || a.Key == "data-go" || a.Key == "data-live") && !strings.HasPrefix(a.Val, "/console") && a.Val != "#main" && a.Val != "#h-res" {
				t.Errorf("%s: %s leads to %q", path, a.Key, a.Val)
			}
		}
		if id := attr["id"]; id != "" {
			ids[id]++
		}
		switch n.Data {
		case "script":
			if !strings.HasPrefix(attr["src"], "/console/static/console.js?v=") || n.FirstChild != nil {
				t.Errorf("%s: a script of somebody's: %v", path, attr)
			}
		case "style", "iframe", "object", "base", "embed", "template":
			t.Errorf("%s has <%s>", path, n.Data)
		case "label":
			labels = append(labels, attr["for"])
		case "section":
			named = append(named, attr["aria-labelledby"])
		case "th":
			if attr["scope"] == "" {
				t.Errorf("%s: a heading of a table without a scope", path)
			}
		case "html":
			if attr["lang"] == "" {
				t.Errorf("%s has no language", path)
			}
		}
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%s: id %q stands %d times", path, id, n)
		}
	}
	for _, id := range append(labels, named...) {
		if ids[id] != 1 {
			t.Errorf("%s: nothing has the id %q", path, id)
		}
	}
	if count["h1"] != 1 || count["main"] != 1 || count["title"] < 1 || count["script"] != 1 {
		t.Errorf("%s: %d headings, %d main, %d title, %d scripts", path, count["h1"], count["main"], count["title"], count["script"])
	}
}

// TestManyFunctions: ten thousand are paged and searched here, and no page of them is large.
func TestManyFunctions(t *testing.T) {
	t.Parallel()
	f := &fabric{functions: make(map[string]*schema.FunctionRecord)}
	for i := range 10_000 {
		name := fmt.Sprintf("function-%05d", i)
		f.functions[name] = record(name)
	}
	s := serve(t, f)
	seen := make(map[string]bool)
	next, pages := "/console/functions", 0
	for ; next != ""; pages++ {
		resp, body := s.get(t, next)
		if resp.StatusCode != 200 || len(body) > 100_000 {
			t.Fatalf("%s: status %d, %d bytes", next, resp.StatusCode, len(body))
		}
		before := len(seen)
		for _, part := range strings.Split(body, `<th scope="row"><a href="/console/functions/`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			seen[name] = true
		}
		if got := len(seen) - before; got != 100 {
			t.Fatalf("%s lists %d functions that none before did", next, got)
		}
		next = ""
		if _, after, found := strings.Cut(body, `rel="next" href="`); found {
			next, _, _ = strings.Cut(after, `"`)
			next = html.UnescapeString(next)
		}
	}
	if pages != 100 || len(seen) != 10_000 {
		t.Errorf("%d pages list %d functions", pages, len(seen))
	}
	_, body := s.get(t, "/console/functions?q=-0042")
	if n := strings.Count(body, `<th scope="row">`); n != 10 {
		t.Errorf("a search of ten finds %d", n)
	}
	for _, odd := range []string{"page=0", "page=-7", "page=99999999999999999999", "page=101", "q=" + strings.Repeat("x", 5000)} {
		if resp, body := s.get(t, "/console/functions?"+odd); resp.StatusCode != 200 || len(body) > 100_000 {
			t.Errorf("%.20s: status %d, %d bytes", odd, resp.StatusCode, len(body))
		}
	}
}

// TestReadOnly: the console takes nothing but reads, and a HEAD is a GET without a body.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, hostile())
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, path := range []string{"/console", "/console/live?page=calls", "/console/functions/x"} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: status %d, allowed %q", method, path, resp.StatusCode, resp.Header.Get("Allow"))
			}
			wantHeaders(t, path, resp)
		}
	}
	resp, err := s.Client().Head(s.URL + "/console/functions")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength < 1000 {
		t.Errorf("HEAD: status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	// Pages ask for nothing that changes anything.
	for _, path := range paths() {
		s.get(t, path)
	}
	for _, op := range s.fabric.asked {
		if !strings.HasPrefix(op, "Get") && !strings.HasPrefix(op, "List") {
			t.Errorf("a page asked for %s", op)
		}
	}
}

// TestParts: what cannot be found out is left out and said, and the rest of the page is there.
func TestParts(t *testing.T) {
	t.Parallel()
	f := hostile()
	for op := range f.answers {
		f.answers[op] = schema.Errorf(schema.CodeUnavailable, "the store of <b>%s</b> is away", op)
	}
	f.answers["ListEvents"] = errors.New("not a schema error")
	s := serve(t, f)
	for _, path := range []string{"/console", "/console/ring", "/console/events", "/console/functions/" + pathEscape(evil[0])} {
		resp, body := s.get(t, path)
		if resp.StatusCode != 200 || !strings.Contains(body, "Left out:") || !strings.Contains(body, "&lt;b&gt;") {
			t.Errorf("%s: status %d, %.300s", path, resp.StatusCode, body)
		}
		inspect(t, path, body)
	}
	if resp, body := s.get(t, "/console/trace/"+someID); resp.StatusCode != 503 || !strings.Contains(body, "GetTrace&lt;/b&gt; is away") {
		t.Errorf("trace: status %d, %.300s", resp.StatusCode, body)
	}
	if resp, _ := s.get(t, "/console/functions/nobody"); resp.StatusCode != 404 {
		t.Errorf("a function that is not there: status %d", resp.StatusCode)
	}
}

// TestPayloadsStay: what an event carries, and what a function says of its failure, is not on a page: whoever is on this host sees it.
func TestPayloadsStay(t *testing.T) {
	t.Parallel()
	f := &fabric{answers: map[string]any{"ListDeadLetters": schema.DeadLettersOutput{DeadLetters: []schema.DeadLetterItem{
		{ID: "17", Function: "pay", Reason: schema.DeadRetriesExhausted, Bytes: 30, Payload: []byte(`{"card":"4111-secret"}`),
			Error: &schema.EventError{Code: "Declined", Message: "card 4111-secret is stolen"}},
	}}}}
	s := serve(t, f)
	_, body := s.get(t, "/console/events")
	if strings.Contains(body, "4111") || !strings.Contains(body, "hearth deadletters redrive 17") || !strings.Contains(body, "Declined") {
		t.Errorf("%s", body)
	}
}

// TestWhoSaysSo: a code of the platform stands for itself; what a function calls its failure is told as a name that was given,
// and only where it is one.
func TestWhoSaysSo(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*schema.EventError{
		"":                                 nil,
		string(schema.CodeThrottled):       {Code: string(schema.CodeThrottled), Status: schema.CodeThrottled.Row().Status},
		"failed: TooManyRequestsException": {Code: string(schema.CodeThrottled), Status: 200},
		"failed: Hearth.ExecutionLost":     {Code: string(schema.CodeExecutionLost), Status: 200},
		"failed: Declined":                 {Code: "Declined", Status: 200},
		"failed: Unhandled":                {Code: "card 4111", Status: 200},
	} {
		if got := console.Said(e); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

// TestStatic: the files are few, small, kept for as long as they do not change, and ask for nothing elsewhere.
func TestStatic(t *testing.T) {
	t.Parallel()
	s := serve(t, &fabric{})
	_, body := s.get(t, "/console")
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		_, after, found := strings.Cut(body, `"/console/static/`+name)
		if !found {
			t.Fatalf("no page asks for %s", name)
		}
		query, _, _ := strings.Cut(after, `"`)
		resp, text := s.get(t, "/console/static/"+name+query)
		if resp.StatusCode != 200 || len(text) > 20_000 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: status %d, %d bytes, %s", name, resp.StatusCode, len(text), resp.Header.Get("Cache-Control"))
		}
		wantHeaders(t, name, resp)
		if strings.Contains(text, "http://") && name != "icon.svg" || strings.Contains(text, "https://") || strings.Contains(text, "url(") || strings.Contains(text, "@import") {
			t.Errorf("%s asks elsewhere", name)
		}
	}
	for _, name := range []string{"", "..", "%2e%2e%2fconsole.go", "console.go"} {
		if resp, _ := s.get(t, "/console/static/"+name); resp.StatusCode != 404 {
			t.Errorf("%q: status %d", name, resp.StatusCode)
		}
	}
}

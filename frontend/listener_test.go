package frontend_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

const echoPath = "/2015-03-31/functions/echo/invocations"

// post sends a call over HTTP.
func (b *bundle) post(t testing.TB, path, body string, h http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h {
		req.Header[k] = v
	}
	return b.do(t, req)
}

func (b *bundle) do(t testing.TB, req *http.Request) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// S08: the same call by NATS and by HTTP: the same answer and the same headers, byte for byte.
func TestSameAnswerByNATSAndHTTP(t *testing.T) {
	t.Parallel()
	fn := record("echo2")
	fn.Versions = []schema.VersionRecord{fn.Latest}
	fn.Versions[0].Version = "1"
	fn.Aliases = map[string]schema.AliasRecord{"live": {Name: "live", Version: "1"}}
	b := setup(t, settings{http: true, functions: []*schema.FunctionRecord{fn}})
	b.serve(t, "echo2", func(c *schema.Call) ([]byte, nats.Header) {
		h := nats.Header{schema.HeaderLogResult: {"bG9n"}}
		if string(c.Payload) == `"fail"` {
			h[schema.HeaderFunctionError] = []string{schema.FunctionErrorUnhandled}
			return []byte(`{"errorType":"E","errorMessage":"no"}`), h
		}
		return append([]byte("\xff\x00answer to "), c.Payload...), h
	})
	for _, payload := range []string{`{"a": 1}`, `"fail"`, `[]`} {
		m := b.request(t, "echo2", []byte(payload), nats.Header{schema.HeaderQualifier: {"live"}})
		resp := b.post(t, "/2015-03-31/functions/echo2/invocations?Qualifier=live", payload, nil)
		if body := bodyOf(t, resp); body != string(m.Data) {
			t.Errorf("%s: HTTP answers %q, NATS %q", payload, body, m.Data)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %s", payload, resp.Status)
		}
		for name, values := range m.Header {
			if name == schema.HeaderRequestID {
				continue
			}
			if got := resp.Header.Values(name); !reflect.DeepEqual(got, values) {
				t.Errorf("%s: %s is %q over HTTP, %q over NATS", payload, name, got, values)
			}
		}
		for aws, ours := range map[string]string{
			"X-Amz-Executed-Version": schema.HeaderExecutedVersion, "X-Amz-Function-Error": schema.HeaderFunctionError,
			"X-Amz-Log-Result": schema.HeaderLogResult, "X-Amzn-Requestid": schema.HeaderRequestID,
		} {
			if resp.Header.Get(aws) != resp.Header.Get(ours) {
				t.Errorf("%s: %s is %q, %s %q", payload, aws, resp.Header.Get(aws), ours, resp.Header.Get(ours))
			}
		}
		if resp.Header.Get("X-Amz-Executed-Version") != "1" {
			t.Errorf("%s: version %q, want the alias's", payload, resp.Header.Get("X-Amz-Executed-Version"))
		}
	}
	b.nothingInFlight(t)
}

// What refuses a call over NATS refuses it over HTTP, with the same status and code.
func TestSameRefusalsByNATSAndHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	for _, c := range []struct {
		function string
		nats     nats.Header
		http     http.Header
		query    string
	}{
		{function: "nobody"},
		{function: "echo", nats: nats.Header{schema.HeaderQualifier: {"live"}}, query: "?Qualifier=live"},
		{function: "echo", nats: nats.Header{schema.HeaderQualifier: {"a.b"}}, query: "?Qualifier=a.b"},
		{function: "echo", nats: nats.Header{schema.HeaderTenant: {"acme"}}, http: http.Header{"X-Amz-Tenant-Id": {"acme"}}},
		{function: "echo", nats: nats.Header{schema.HeaderTimeout: {"1x"}}, http: http.Header{schema.HeaderTimeout: {"1x"}}},
		{function: "echo", nats: nats.Header{schema.HeaderTimeout: {"20ms"}}, http: http.Header{schema.HeaderTimeout: {"20ms"}}},
	} {
		m := b.request(t, c.function, []byte("{}"), c.nats)
		resp := b.post(t, "/2015-03-31/functions/"+c.function+"/invocations"+c.query, "{}", c.http)
		e := schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), m.Header.Get(schema.HeaderError))
		if got := fmt.Sprint(resp.StatusCode); got != m.Header.Get(schema.HeaderErrorCode) {
			t.Errorf("%+v: status %s over HTTP, %s over NATS", c, got, m.Header.Get(schema.HeaderErrorCode))
		}
		if got := resp.Header.Get("X-Amzn-ErrorType"); got != e.Code.Row().LambdaTypeName() {
			t.Errorf("%+v: type %q over HTTP, %q over NATS", c, got, e.Code)
		}
		if body := bodyOf(t, resp); !strings.Contains(body, `"Code":"`+string(e.Code)+`"`) {
			t.Errorf("%+v: body %s, want code %s", c, body, e.Code)
		}
	}
}

// The guards stand before everything that is served, whatever the method and the path (SECURITY 6).
func TestGuards(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true, config: func(c *frontend.Config) { c.Hosts = []string{"Hearth.Example"} }})
	b.serve(t, "echo", echo)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, host string
		header     http.Header
		want       int
	}{
		{"loopback address", "127.0.0.1:" + port, nil, 200},
		{"another loopback address", "127.8.9.1", nil, 200},
		{"IPv6 loopback", "[::1]:" + port, nil, 200},
		{"mapped loopback", "[::ffff:127.0.0.1]", nil, 200},
		{"localhost", "localhost:" + port, nil, 200},
		{"localhost, upper case and a dot", "LOCALHOST.", nil, 200},
		{"configured name", "hearth.example:80", nil, 200},
		{"DNS rebinding", "evil.example:" + port, nil, 421},
		{"a name that begins like ours", "localhost.evil.example", nil, 421},
		{"a name that ends like ours", "xhearth.example", nil, 421},
		{"another address", "10.0.0.1", nil, 421},
		{"any address", "0.0.0.0:" + port, nil, 421},
		{"a port that is none", "localhost:evil", nil, 421},
		{"a page", "localhost", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"a sandboxed page", "localhost", http.Header{"Origin": {"null"}}, 403},
		{"an empty origin", "localhost", http.Header{"Origin": {""}}, 403},
		{"our own origin", "localhost", http.Header{"Origin": {"http://localhost"}}, 403},
		{"typed into a browser", "localhost", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		{"cross-site", "localhost", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"same-site", "localhost", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"same-origin", "localhost", http.Header{"Sec-Fetch-Site": {"same-origin"}}, 403},
		{"two of them", "localhost", http.Header{"Sec-Fetch-Site": {"none", "cross-site"}}, 403},
		{"a proxy", "localhost", http.Header{"X-Forwarded-For": {"10.0.0.1"}}, 403},
		{"a proxy, other header", "localhost", http.Header{"X-Forwarded-Anything": {""}}, 403},
		{"a proxy, standard header", "localhost", http.Header{"Forwarded": {"for=10.0.0.1"}}, 403},
		{"a proxy that says so", "localhost", http.Header{"Via": {"1.1 x"}}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []struct{ method, path string }{
				{"POST", echoPath}, {"GET", "/healthz"}, {"GET", "/2015-03-31/functions"}, {"GET", "/nothing"}, {"OPTIONS", echoPath},
			} {
				req, err := http.NewRequestWithContext(t.Context(), r.method, b.url+r.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = c.host
				for k, v := range c.header {
					req.Header[k] = v
				}
				resp := b.do(t, req)
				guarded := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusMisdirectedRequest
				if c.want != http.StatusOK && resp.StatusCode != c.want || c.want == http.StatusOK && guarded {
					t.Errorf("%s %s: status %d, want %d of the guard", r.method, r.path, resp.StatusCode, c.want)
				}
				if c.want == http.StatusOK && r.path == echoPath && r.method == "POST" && resp.StatusCode != 200 {
					t.Errorf("the call is not served: %d %s", resp.StatusCode, bodyOf(t, resp))
				}
			}
		})
	}
}

func TestAnonymousOff(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true, config: func(c *frontend.Config) { c.Anonymous = false }})
	if resp := b.post(t, echoPath, "{}", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %s", resp.Status)
	}
}

// A listener that others can reach serves nobody who does not say who he is, also not over loopback.
func TestListenerOffLoopback(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, settings{config: func(c *frontend.Config) { c.HTTP = l }})
	b.url = fmt.Sprintf("http://127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port)
	if resp := b.post(t, echoPath, "{}", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %s", resp.Status)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	status := func() int {
		resp, err := http.Get(b.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if s := status(); s != http.StatusOK {
		t.Errorf("status %d", s)
	}
	b.Stop()
	natstest.Eventually(t, patience, func() bool { return status() == http.StatusServiceUnavailable }, "healthy without a server")
	if resp := b.post(t, "/healthz", "", nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
}

// Paths that are not clean are refused as any other that is not known: with an error, not with a redirect.
func TestUncleanPaths(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	for _, path := range []string{"//2015-03-31/functions/f/invocations", "/2015-03-31/functions/../functions/f/invocations", "//healthz"} {
		if resp := b.post(t, path, "{}", nil); resp.StatusCode != http.StatusNotFound || !strings.Contains(bodyOf(t, resp), "UnknownOperationException") {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// Bodies are bounded before they are read, also where nobody announces them.
func TestBodyLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, settings{http: true})
	b.serve(t, "echo", func(c *schema.Call) ([]byte, nats.Header) { return []byte(fmt.Sprint(len(c.Payload))), nil })
	largest := `"` + strings.Repeat("x", schema.MaxPayload-2) + `"`
	if resp := b.post(t, echoPath, largest, nil); resp.StatusCode != http.StatusOK || bodyOf(t, resp) != fmt.Sprint(schema.MaxPayload) {
		t.Errorf("6 MiB: %s", resp.Status)
	}
	// Announced: the refusal comes before the body is sent.
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", echoPath, schema.MaxPayload+1)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("announced: %s", resp.Status)
	}
	// Chunked: nobody announces anything.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+echoPath, io.MultiReader(strings.NewReader(largest), strings.NewReader(" ")))
	if err != nil {
		t.Fatal(err)
	}
	if resp := b.do(t, req); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked: %s", resp.Status)
	}
	b.nothingInFlight(t)
}

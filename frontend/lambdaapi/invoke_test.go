package lambdaapi_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/schema"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// invoker answers by a function, and keeps the last request.
type invoker struct {
	do   func(*schema.Request) (*schema.Answer, error)
	take func(id string) (schema.Accepted, error) // nil: accepted
	last *schema.Request
	how  string // Invoke, Accept, Check
	id   string // of the event
}

func (i *invoker) Invoke(_ context.Context, r *schema.Request) (*schema.Answer, error) {
	i.last, i.how = r, "Invoke"
	return i.do(r)
}

func (i *invoker) Accept(_ context.Context, r *schema.Request, msgID string) (schema.Accepted, error) {
	i.last, i.how, i.id = r, "Accept", msgID
	if i.take != nil {
		return i.take(msgID)
	}
	return schema.Accepted{RequestID: id, Sequence: 7}, nil
}

func (i *invoker) Check(_ context.Context, r *schema.Request) error {
	i.last, i.how = r, "Check"
	_, err := i.do(r)
	return err
}

const id = "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001"

// good answers with the payload and the headers of a worker.
func good(r *schema.Request) (*schema.Answer, error) {
	return &schema.Answer{RequestID: id, Payload: r.Payload, Header: map[string][]string{
		schema.HeaderRequestID: {id}, schema.HeaderExecutedVersion: {"3"}, schema.HeaderArc: {"u.17"}, schema.HeaderStart: {"warm"},
		schema.HeaderReason: {"unreserved"}, schema.HeaderDuration: {"1.5ms"}, schema.HeaderContentType: {"application/json"},
		"Set-Cookie": {"forged=1"}, "X-Amz-Whatever": {"forged"},
	}}, nil
}

func failing(err error) func(*schema.Request) (*schema.Answer, error) {
	return func(*schema.Request) (*schema.Answer, error) { return nil, err }
}

// The wire shapes of Invoke: status line, headers and body, as golden files (B2, B4). Request ids that are drawn print
// as ID.
func TestWireShapes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method, path, body string
		header                   http.Header
		do                       func(*schema.Request) (*schema.Answer, error)
		take                     func(string) (schema.Accepted, error)
	}{
		{name: "answer", body: `{"a": 1}`},
		{name: "empty-payload"},
		{name: "function-error", body: "{}", do: func(r *schema.Request) (*schema.Answer, error) {
			a, err := good(r)
			a.Header[schema.HeaderFunctionError] = []string{"Unhandled"}
			a.Payload = []byte(`{"errorMessage":"no","errorType":"E"}`)
			return a, err
		}},
		{name: "log-tail", header: http.Header{"X-Amz-Log-Type": {"Tail"}}, do: func(r *schema.Request) (*schema.Answer, error) {
			a, err := good(r)
			if r.LogTail {
				a.Header[schema.HeaderLogResult] = []string{"U1RBUlQ="}
			}
			return a, err
		}},
		{name: "not-found", do: failing(schema.Errorf(schema.CodeNotFound, "Function not found: %s", schema.ARN("default", "f", "")))},
		{name: "throttled", do: failing(&schema.Error{Code: schema.CodeThrottled, Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", Message: "Rate Exceeded.", Retry: 1200 * time.Millisecond})},
		{name: "capacity", do: failing(schema.Errorf(schema.CodeCapacityExceeded, "no environment was free"))},
		{name: "unavailable", do: failing(schema.Errorf(schema.CodeUnavailable, "no manager is on the ring"))},
		{name: "internal", do: failing(errors.New("a secret of ours"))},
		{name: "no-json", body: `{"a":`},
		{name: "event", header: http.Header{"X-Amz-Invocation-Type": {"Event"}}},
		{name: "event-duplicate", header: http.Header{"X-Amz-Invocation-Type": {"Event"}, "Nats-Msg-Id": {"order-7"}},
			take: func(string) (schema.Accepted, error) { return schema.Accepted{Sequence: 7, Duplicate: true}, nil }},
		{name: "event-full", header: http.Header{"X-Amz-Invocation-Type": {"Event"}}, take: func(string) (schema.Accepted, error) {
			return schema.ReadAccepted([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"E","seq":0}`))
		}},
		{name: "event-too-large", header: http.Header{"X-Amz-Invocation-Type": {"Event"}}, body: `"` + strings.Repeat("x", schema.MaxEventPayload) + `"`},
		{name: "dry-run", header: http.Header{"X-Amz-Invocation-Type": {"DryRun"}}},
		{name: "dry-run-refused", header: http.Header{"X-Amz-Invocation-Type": {"DryRun"}},
			do: failing(schema.Errorf(schema.CodeNotFound, "Function not found: %s", schema.ARN("default", "f", "")))},
		{name: "invoke-async", path: "/2014-11-13/functions/f/invoke-async", body: `{"a":1}`},
		{name: "media-type", body: "{}", header: http.Header{"Content-Type": {"application/xml"}}},
		{name: "qualifiers-differ", path: "/2015-03-31/functions/f%3A2/invocations?Qualifier=3"},
		{name: "bad-name", path: "/2015-03-31/functions/a%2Fb%20c/invocations"},
		{name: "unknown-path", path: "/2015-03-31/nothing"},
		{name: "not-yet", method: "GET", path: "/2015-03-31/functions/"},
		{name: "never", method: "GET", path: "/2018-10-31/layers"},
		{name: "method", method: "GET", path: "/2015-03-31/functions/f/invocations"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			do := c.do
			if do == nil {
				do = good
			}
			method, path := c.method, c.path
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = "/2015-03-31/functions/f/invocations"
			}
			r := httptest.NewRequest(method, path, strings.NewReader(c.body))
			maps.Copy(r.Header, c.header)
			w := httptest.NewRecorder()
			lambdaapi.New(&invoker{do: do, take: c.take}).ServeHTTP(w, r)
			resp := w.Result()
			golden(t, c.name, dump(resp, w.Body.Bytes()))
			// One id under both names; the golden file says whether both are there.
			sent := map[string][]string(resp.Header) // as they were spelt
			aws, ours := sent["x-amzn-RequestId"], sent[schema.HeaderRequestID]
			if len(ours) > 0 && !slices.Equal(ours, aws) {
				t.Errorf("%s is %q, x-amzn-RequestId %q", schema.HeaderRequestID, ours, aws)
			}
		})
	}
}

// dump prints an answer with its headers in order, under the names that were set.
func dump(resp *http.Response, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d\n", resp.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		value := strings.Join(resp.Header[name], " | ")
		if (strings.EqualFold(name, "x-amzn-RequestId") || name == schema.HeaderRequestID) && value != id {
			value = "ID"
		}
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	fmt.Fprintf(&b, "\n%s\n", body)
	return b.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

// What clients send becomes one request, whatever form they give it (B, B1, B4).
func TestRequests(t *testing.T) {
	t.Parallel()
	base := func(change func(*schema.Request)) *schema.Request {
		r := &schema.Request{Account: "default", Function: "f", Payload: []byte("{}")}
		if change != nil {
			change(r)
		}
		return r
	}
	for _, c := range []struct {
		name, function, query string
		header                http.Header
		want                  *schema.Request
	}{
		{"plain", "f", "", nil, base(nil)},
		{"octet-stream, as SDKs send", "f", "", http.Header{"Content-Type": {"application/octet-stream"}}, base(nil)},
		{"JSON of another kind", "f", "", http.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}, base(nil)},
		{"name with a qualifier", "f:3", "", nil, base(func(r *schema.Request) { r.Qualifier = "3" })},
		{"encoded ARN with $LATEST", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af%3A%24LATEST", "", nil,
			base(func(r *schema.Request) { r.Qualifier = "$LATEST" })},
		{"partial ARN", "000000000000:function:f", "Qualifier=live", nil, base(func(r *schema.Request) { r.Qualifier = "live" })},
		{"qualifier said twice, the same", "f:live", "Qualifier=live", nil, base(func(r *schema.Request) { r.Qualifier = "live" })},
		{"encoded $LATEST", "f", "Qualifier=%24LATEST", nil, base(func(r *schema.Request) { r.Qualifier = "$LATEST" })},
		{"RequestResponse", "f", "", http.Header{"X-Amz-Invocation-Type": {"RequestResponse"}, "X-Amz-Log-Type": {"None"}}, base(nil)},
		{"everything", "f", "", http.Header{
			"X-Amz-Log-Type": {"Tail"}, "X-Amz-Client-Context": {"eyJjdXN0b20iOnt9fQ=="}, "X-Amz-Tenant-Id": {"a/b c"},
			"Hearth-Timeout": {"5s"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {"a=b"},
		}, base(func(r *schema.Request) {
			r.LogTail, r.ClientContext, r.Tenant, r.Timeout = true, []byte(`{"custom":{}}`), "a/b c", 5*time.Second
			r.Traceparent, r.Tracestate = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
		})},
		{"a bearer", "f", "", http.Header{"Authorization": {"bearer a.b.c"}}, base(func(r *schema.Request) { r.Token = "a.b.c" })},
		{"a token beside a signature", "f", "", http.Header{
			"Authorization": {"AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=host, Signature=z"}, "Hearth-Token": {"a.b.c"},
		}, base(func(r *schema.Request) { r.Token = "a.b.c" })},
		{"X-Ray, sampled", "f", "", http.Header{"X-Amzn-Trace-Id": {"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"}},
			base(func(r *schema.Request) { r.Traceparent = "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-01" })},
		{"X-Ray, not sampled", "f", "", http.Header{"X-Amzn-Trace-Id": {"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"}},
			base(func(r *schema.Request) { r.Traceparent = "00-5bef4de7ad49b0e87f6ef6c87fc2e700-9a9197af755a6419-00" })},
		{"X-Ray, of a load balancer", "f", "", http.Header{"X-Amzn-Trace-Id": {"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"}}, base(nil)},
		{"X-Ray, broken", "f", "", http.Header{"X-Amzn-Trace-Id": {"Root=1-x;;=;Sampled=1"}}, base(nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := &invoker{do: good}
			r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/"+c.function+"/invocations?"+c.query, nil)
			maps.Copy(r.Header, c.header)
			w := httptest.NewRecorder()
			lambdaapi.New(i).ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			if got, want := fmt.Sprintf("%+v", *i.last), fmt.Sprintf("%+v", *c.want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// Every bad input is refused by the name of its field, and nothing is invoked (S65).
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, function, query, body string
		header                      http.Header
		status                      int
		text                        string
	}{
		{"name with a dot", "a.b", "", "", nil, 400, "FunctionName"},
		{"name too long", strings.Repeat("a", 65), "", "", nil, 400, "FunctionName"},
		{"empty qualifier", "f", "Qualifier=", "", nil, 400, "Qualifier"},
		{"two qualifiers", "f", "Qualifier=1&Qualifier=1", "", nil, 400, "Qualifier"},
		{"hostile qualifier", "f", "Qualifier=a%0Ab", "", nil, 400, "Qualifier"},
		{"broken query", "f", "Qualifier=%zz", "", nil, 400, "query"},
		{"unknown type", "f", "", "", http.Header{"X-Amz-Invocation-Type": {"event"}}, 400, "X-Amz-Invocation-Type"},
		{"two types", "f", "", "", http.Header{"X-Amz-Invocation-Type": {"Event", "RequestResponse"}}, 400, "X-Amz-Invocation-Type"},
		{"unknown log type", "f", "", "", http.Header{"X-Amz-Log-Type": {"tail"}}, 400, "X-Amz-Log-Type"},
		{"context is no base64", "f", "", "", http.Header{"X-Amz-Client-Context": {"{}"}}, 400, "X-Amz-Client-Context"},
		{"context too long", "f", "", "", http.Header{"X-Amz-Client-Context": {strings.Repeat("a", 3584)}}, 400, "3583"},
		{"two tenants", "f", "", "", http.Header{"X-Amz-Tenant-Id": {"a", "b"}}, 400, "X-Amz-Tenant-Id"},
		{"two tokens", "f", "", "", http.Header{"Hearth-Token": {"a", "b"}}, 400, "Hearth-Token"},
		{"a token twice", "f", "", "", http.Header{"Hearth-Token": {"a"}, "Authorization": {"Bearer a"}}, 400, "Hearth-Token"},
		{"two bearers", "f", "", "", http.Header{"Authorization": {"Bearer a", "Bearer b"}}, 400, "Hearth-Token"},
		{"time-out", "f", "", "", http.Header{"Hearth-Timeout": {"16m"}}, 400, "Hearth-Timeout"},
		{"a header of NATS callers", "f", "", "", http.Header{"Hearth-Qualifier": {"3"}}, 400, "the query's Qualifier"},
		{"another one", "f", "", "", http.Header{"Hearth-Tenant": {"a"}}, 400, "X-Amz-Tenant-Id"},
		{"durable", "f", "", "", http.Header{"X-Amz-Durable-Execution-Name": {"x"}}, 400, "Durable"},
		{"a form", "f", "", "", http.Header{"Content-Type": {"multipart/form-data"}}, 415, "multipart"},
		{"text", "f", "", "", http.Header{"Content-Type": {"text/plain"}}, 415, "text/plain"},
		{"no JSON", "f", "", "hello", nil, 400, "Could not parse request body into json"},
		{"more than JSON", "f", "", "{} {}", nil, 400, "Could not parse request body into json"},
		{"deep JSON", "f", "", strings.Repeat("[", 100_000), nil, 400, "Could not parse request body into json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := &invoker{do: good}
			r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/"+c.function+"/invocations?"+c.query, strings.NewReader(c.body))
			maps.Copy(r.Header, c.header)
			w := httptest.NewRecorder()
			lambdaapi.New(i).ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("status %d, want %d with %q: %s", w.Code, c.status, c.text, w.Body)
			}
			//lint:ignore SA1008 AWS spells it so, and so does the handler
			if w.Header()["X-Amzn-ErrorType"] == nil {
				t.Error("no error type")
			}
			if i.last != nil {
				t.Error("it was invoked")
			}
		})
	}
}

// A caller that has gone is written nothing.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	i := &invoker{do: func(*schema.Request) (*schema.Answer, error) { cancel(); return nil, context.Cause(ctx) }}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/f/invocations", nil).WithContext(ctx)
	lambdaapi.New(i).ServeHTTP(w, r)
	if w.Body.Len() != 0 {
		t.Errorf("wrote %q", w.Body)
	}
}

// Every operation of the table has a way to be asked for, and is refused by its name.
func TestOtherOperationsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, path, name string }{
		{"POST", "/2015-03-31/functions", "CreateFunction"},
		{"GET", "/2015-03-31/functions/f", "GetFunction"},
		{"PUT", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/code", "UpdateFunctionCode"},
		{"GET", "/2015-03-31/functions/f/aliases/live", "GetAlias"},
		{"PUT", "/2019-09-25/functions/f/event-invoke-config", "PutFunctionEventInvokeConfig"},
		{"GET", "/2019-09-25/functions/f/event-invoke-config/list", "ListFunctionEventInvokeConfigs"},
		{"PUT", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "PutProvisionedConcurrencyConfig"},
		{"PUT", "/2017-10-31/functions/f/concurrency", "PutFunctionConcurrency"},
	} {
		w := httptest.NewRecorder()
		lambdaapi.New(&invoker{do: good}).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), c.name+" is not served over HTTP yet") {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// What nothing of the fabric serves is not said to be served elsewhere.
func TestWhatNobodyServesYet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, path, name string }{
		{"POST", "/2021-11-15/functions/f/response-streaming-invocations", "InvokeWithResponseStream"},
		{"POST", "/2021-10-31/functions/f/url", "CreateFunctionUrlConfig"},
	} {
		w := httptest.NewRecorder()
		lambdaapi.New(&invoker{do: good}).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), c.name+" is not served yet") {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// Bytes of any kind in path and query are answered, with an error that clients can read.
func FuzzPath(f *testing.F) {
	f.Add("POST", "/2015-03-31/functions/f/invocations", "Qualifier=1")
	f.Add("GET", "//%2f%2E/%00", "%")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.Method, r.URL.Path, r.URL.RawPath, r.URL.RawQuery = method, path, path, query
		w := httptest.NewRecorder()
		lambdaapi.New(&invoker{do: good}).ServeHTTP(w, r)
		body, err := io.ReadAll(w.Result().Body)
		if err != nil || w.Code != 200 && !bytes.HasPrefix(body, []byte(`{"Type":"User"`)) {
			t.Errorf("%d %q %v", w.Code, body, err)
		}
	})
}

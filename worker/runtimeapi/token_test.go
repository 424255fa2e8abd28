package runtimeapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimeapi"
)

const (
	secret   = "s3cret-of-this-environment"
	tokenOfA = "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"
)

// withTokens has the server give a token; the test is bound to a sub-tenant unless err says otherwise.
func withTokens(err error) func(*runtimeapi.Config) {
	return func(c *runtimeapi.Config) {
		c.Host, c.TokenAuth = "127.0.0.1:9001", secret
		c.Token = func(context.Context) (schema.Token, error) {
			return schema.Token{Text: tokenOfA, Life: 10 * time.Minute}, err
		}
	}
}

// ask is a good request for a token, with lines put in place of others or added.
func ask(change ...string) string {
	lines := []string{"POST /hearth/v1/token HTTP/1.1", "Host: 127.0.0.1:9001", "Hearth-Token-Request: true", "Hearth-Token-Auth: " + secret}
	for i := 0; i+1 < len(change); i += 2 {
		replaced := false
		for j := range lines {
			if replaced = change[i] != "" && strings.HasPrefix(lines[j], change[i]); replaced {
				lines[j] = change[i+1]
				break
			}
		}
		if !replaced {
			lines = append(lines, change[i+1])
		}
	}
	var kept []string
	for _, l := range lines {
		if l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\r\n") + "\r\n\r\n"
}

// asked sends a request and reads the answer.
func (e *environment) asked(request string) (*http.Response, string) {
	e.t.Helper()
	r := e.dial()
	defer r.conn.Close()
	r.send(request)
	return r.response()
}

// response reads one answer.
func (r *runtime) response() (*http.Response, string) {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res, string(body)
}

func TestToken(t *testing.T) {
	t.Parallel()
	e := setup(t, withTokens(nil))
	for _, good := range []string{
		ask(), ask("", "Content-Length: 0"), ask("", "User-Agent: fn", "", "Accept: */*"), ask("Hearth-Token-Request", "hearth-token-request: true"),
	} {
		res, body := e.asked(good)
		var got struct {
			Token   string
			Expires time.Time
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 || got.Token != tokenOfA {
			t.Fatalf("%d %s, %v", res.StatusCode, body, err)
		}
		if left := time.Until(got.Expires); left < 5*time.Minute || left > 10*time.Minute {
			t.Errorf("expires in %v", left)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", res.Header)
		}
	}
}

// TestTokenRefused: whatever a page, a proxy or an address that was fetched for somebody else can make of a request.
func TestTokenRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		request string
	}{
		"GET":                      {405, ask("POST", "GET /hearth/v1/token HTTP/1.1")},
		"PUT":                      {405, ask("POST", "PUT /hearth/v1/token HTTP/1.1")},
		"OPTIONS":                  {405, ask("POST", "OPTIONS /hearth/v1/token HTTP/1.1", "", "Access-Control-Request-Method: POST")},
		"no word for it":           {403, ask("Hearth-Token-Request", "")},
		"another word":             {403, ask("Hearth-Token-Request", "Hearth-Token-Request: TRUE")},
		"the word twice":           {403, ask("", "Hearth-Token-Request: true")},
		"no secret":                {403, ask("Hearth-Token-Auth", "")},
		"another's secret":         {403, ask("Hearth-Token-Auth", "Hearth-Token-Auth: "+strings.ToUpper(secret))},
		"half a secret":            {403, ask("Hearth-Token-Auth", "Hearth-Token-Auth: "+secret[:10])},
		"an empty secret":          {403, ask("Hearth-Token-Auth", "Hearth-Token-Auth:")},
		"the secret twice":         {403, ask("", "Hearth-Token-Auth: "+secret)},
		"the secret and another":   {403, ask("", "Hearth-Token-Auth: x")},
		"Origin":                   {403, ask("", "Origin: http://127.0.0.1:9001")},
		"Origin null":              {403, ask("", "oRiGiN: null")},
		"Origin, empty":            {403, ask("", "Origin:")},
		"Referer":                  {403, ask("", "Referer: http://a.example/")},
		"Sec-Fetch-Site":           {403, ask("", "Sec-Fetch-Site: none")},
		"Sec-Fetch-Mode":           {403, ask("", "sec-fetch-mode: cors")},
		"Forwarded":                {403, ask("", "Forwarded: for=192.0.2.1")},
		"X-Forwarded-For":          {403, ask("", "X-Forwarded-For: 192.0.2.1")},
		"X-Forwarded-Anything":     {403, ask("", "X-FORWARDED-ANYTHING: 1")},
		"Via":                      {403, ask("", "Via: 1.1 proxy")},
		"a long X-Forwarded-For":   {431, ask("", "X-Forwarded-For: "+strings.Repeat("192.0.2.1, ", 20_000))},
		"no Host":                  {403, ask("Host", "")},
		"a foreign Host":           {403, ask("Host", "Host: a.example")},
		"a foreign port":           {403, ask("Host", "Host: 127.0.0.1:9002")},
		"localhost":                {403, ask("Host", "Host: localhost:9001")},
		"two Hosts":                {403, ask("", "Host: 127.0.0.1:9001")},
		"absolute form":            {403, ask("POST", "POST http://127.0.0.1:9001/hearth/v1/token HTTP/1.1")},
		"absolute form of another": {403, ask("POST", "POST http://a.example/hearth/v1/token HTTP/1.1")},
		"a query":                  {403, ask("POST", "POST /hearth/v1/token?x=1 HTTP/1.1")},
		"another path":             {404, ask("POST", "POST /hearth/v1/token/ HTTP/1.1")},
		"an escaped path":          {404, ask("POST", "POST /hearth/v1/%74oken HTTP/1.1")},
		"HTTP/1.0":                 {400, ask("POST", "POST /hearth/v1/token HTTP/1.0")},
		"a folded header":          {400, ask("", "X: y\r\n Origin: z")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t, withTokens(nil))
			res, body := e.asked(c.request)
			if res.StatusCode != c.status || strings.Contains(body, tokenOfA) || strings.Contains(body, secret) {
				t.Errorf("%d %s, want %d", res.StatusCode, body, c.status)
			}
			if c.status == 403 && (res.Header.Get("Cache-Control") != "no-store" || !strings.Contains(body, `"errorType":"TokenRefused"`)) {
				t.Errorf("%v %s", res.Header, body)
			}
		})
	}
}

// TestTokenNotThere: a generic environment has none, nor one of a function without an audience, and a provider that is down is
// not told about.
func TestTokenNotThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{runtimeapi.ErrGeneric, 403, "not bound"},
		{runtimeapi.ErrNoAudience, 403, "--audience"},
		{errors.New("dial tcp 10.1.2.3:443: refused"), 503, "TokenUnavailable"},
	} {
		e := setup(t, withTokens(c.err))
		res, body := e.asked(ask())
		if res.StatusCode != c.status || !strings.Contains(body, c.says) || strings.Contains(body, "10.1.2.3") || strings.Contains(body, tokenOfA) ||
			res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v: %d %s", c.err, res.StatusCode, body)
		}
	}
	e := setup(t) // of a function without sub-tenants
	if res, _ := e.asked(ask()); res.StatusCode != 404 {
		t.Errorf("without sub-tenants: %d", res.StatusCode)
	}
}

// TestTokenRate: ten a second, whatever comes of them, and more again when time has passed.
func TestTokenRate(t *testing.T) {
	t.Parallel()
	e := setup(t, withTokens(nil))
	now := time.Now()
	e.server.SetTokenClock(func() time.Time { return now })
	r := e.dial()
	status := func(request string) int {
		t.Helper()
		r.send(request)
		res, _ := r.response()
		return res.StatusCode
	}
	for i := range 10 {
		want, request := 200, ask()
		if i%2 == 1 {
			want, request = 403, ask("Hearth-Token-Auth", "Hearth-Token-Auth: guess")
		}
		if got := status(request); got != want {
			t.Fatalf("request %d: %d, want %d", i, got, want)
		}
	}
	for _, request := range []string{ask(), ask("Hearth-Token-Auth", "Hearth-Token-Auth: guess")} {
		if got := status(request); got != 429 {
			t.Errorf("one more: %d", got)
		}
	}
	now = now.Add(100 * time.Millisecond)
	if got := [2]int{status(ask()), status(ask())}; got != [2]int{200, 429} {
		t.Errorf("a tenth of a second later: %v", got)
	}
}

// TestTokenPushed stands in the head of a call and nowhere else; one that could begin a header of its own does not get there.
func TestTokenPushed(t *testing.T) {
	t.Parallel()
	e := setup(t, withTokens(nil))
	r := e.dial()
	r.send(next)
	e.event("parked first")
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: id, Tenant: "a", Token: "x\r\nEvil: 1"}); !errors.Is(err, runtimeapi.ErrHeader) {
		t.Errorf("a token of two lines: %v", err)
	}
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.UnixMilli(1), Tenant: "a", Token: tokenOfA, Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	res, body := r.response()
	if res.Header.Get("Hearth-Tenant-Token") != tokenOfA || res.Header.Get("Lambda-Runtime-Client-Context") != "" || body != "1" {
		t.Errorf("%v %q", res.Header, body)
	}
	// A request for the next call during a call is refused, so that nobody inside takes another's.
	thief := e.dial()
	thief.send(next)
	if res, _ := thief.response(); res.StatusCode != 403 || res.Header.Get("Hearth-Tenant-Token") != "" {
		t.Errorf("next during a call: %d %v", res.StatusCode, res.Header)
	}
}

// TestTokenWhileClosing: who waits for a token when the environment ends does not hold it up.
func TestTokenWhileClosing(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	e := setup(t, withTokens(nil), func(c *runtimeapi.Config) {
		c.Token = func(ctx context.Context) (schema.Token, error) {
			close(asked)
			<-ctx.Done()
			return schema.Token{}, context.Cause(ctx)
		}
	})
	r := e.dial()
	r.send(ask())
	<-asked
	e.server.Close()
}

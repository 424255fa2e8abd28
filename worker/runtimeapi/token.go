package runtimeapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A function asks for its sub-tenant's token like this (SECURITY 4), at HEARTH_TOKEN_URL:
//
//	POST /hearth/v1/token HTTP/1.1
//	Host: <AWS_LAMBDA_RUNTIME_API>
//	Hearth-Token-Request: true
//	Hearth-Token-Auth: <HEARTH_TOKEN_AUTH>
//
//	200 {"token":"..","expires":"2026-11-28T08:45:00Z"}   no-store
//	403 {"errorMessage":"..","errorType":"TokenRefused"}  429 more than 10 a second   503 none now
//
// The headers are none that a URL alone can make anybody send, and those that pages and proxies add are refused: code of the
// account that fetches addresses for its customers must not hand out a token. What is allowed is listed, not what is not: any
// header that may say that the request was made for somebody else ends it.
const (
	headerTokenRequest = "hearth-token-request"
	headerTokenAuth    = "hearth-token-auth"
	headerHost         = "host"
)

// tokensASecond is how often an environment may ask, refusals included.
const tokensASecond = 10

// tokenAsk is what the head of a request for a token says beside what every head does.
type tokenAsk struct {
	hosts, requests, auths int // headers of the kind
	request                bool
	odd                    bool   // the target is not the plain path
	auth                   []byte // a hash of it
	forwarded              string // the first header by which others ask
	value                  []byte // of the host
}

func (a *tokenAsk) header(name, value []byte) {
	switch {
	case is(name, headerHost):
		a.hosts++
		a.value = append(a.value[:0], value...)
	case is(name, headerTokenRequest):
		a.requests++
		a.request = string(value) == "true"
	case is(name, headerTokenAuth):
		a.auths++
		sum := sha256.Sum256(value)
		a.auth = sum[:]
	case a.forwarded == "" && ofOthers(name):
		a.forwarded = short(name)
	}
}

// ofOthers reports whether a header says that a request was made by a page, or came through a proxy.
func ofOthers(name []byte) bool {
	lower := bytes.ToLower(name)
	for _, h := range [...]string{"origin", "referer", "forwarded", "via"} {
		if string(lower) == h {
			return true
		}
	}
	return bytes.HasPrefix(lower, []byte("sec-fetch-")) || bytes.HasPrefix(lower, []byte("x-forwarded-"))
}

// refusal says what is wrong with it, "" if nothing is. The secret is compared in constant time, whatever else is wrong.
func (a *tokenAsk) refusal(host, secret string) string {
	want := sha256.Sum256([]byte(secret))
	known := subtle.ConstantTimeCompare(a.auth, want[:]) == 1
	switch {
	case a.odd:
		return "the request's target has to be the path alone"
	case a.forwarded != "":
		return "a request with " + a.forwarded + " was made for somebody else"
	case a.hosts != 1 || string(a.value) != host:
		return "the request's Host has to be that of AWS_LAMBDA_RUNTIME_API"
	case a.requests != 1 || !a.request:
		return "the header Hearth-Token-Request has to be there once, and true"
	case a.auths != 1 || !known:
		return "the header Hearth-Token-Auth has to be there once, and the value of HEARTH_TOKEN_AUTH"
	}
	return ""
}

// tokens bounds how often an environment asks.
type tokens struct {
	now func() time.Time // nil: the host's clock, which has the one that never jumps in it

	mu   sync.Mutex
	left float64
	at   time.Time // when left was counted; zero: never
}

func (t *tokens) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.now != nil {
		now = t.now()
	}
	if t.at.IsZero() {
		t.left = tokensASecond
	} else {
		t.left = min(tokensASecond, t.left+tokensASecond*now.Sub(t.at).Seconds())
	}
	t.at = now
	if t.left < 1 {
		return false
	}
	t.left--
	return true
}

const noStore = "Cache-Control: no-store\r\n"

// token answers a function that asks for its token.
func (c *connection) token() bool {
	s, last := c.server, c.req.close
	why := c.req.ask.refusal(s.cfg.Host, s.cfg.TokenAuth)
	kept := c.discard()
	last = last || !kept
	refuse := func(status int, header, kind, text string) bool {
		c.out.fault(status, noStore+header, kind, text, last)
		return !last
	}
	switch {
	case !s.tokens.take():
		return refuse(429, "Retry-After: 1\r\n", "TooManyRequests", fmt.Sprintf("a token can be asked for %d times a second", tokensASecond))
	case why != "":
		return refuse(403, "", "TokenRefused", why)
	}
	t, err := s.cfg.Token(s.life)
	switch {
	case errors.Is(err, ErrGeneric):
		return refuse(403, "", "TokenRefused", "the environment is not bound to a sub-tenant yet: ask during a call")
	case errors.Is(err, ErrNoAudience):
		return refuse(403, "", "TokenRefused", "the function has no audience, and a token is for somebody: deploy it with --audience")
	case err != nil:
		return refuse(503, "Retry-After: 1\r\n", "TokenUnavailable", "there is no token now; the manager's log says why")
	}
	body, err := json.Marshal(struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires"`
	}{t.Text, time.Now().Add(t.Life).UTC().Truncate(time.Second)})
	if err != nil {
		panic(fmt.Sprintf("runtime api: strings do not encode: %v", err))
	}
	c.out.reply(200, noStore, "application/json", append(body, '\n'), last)
	return !last
}

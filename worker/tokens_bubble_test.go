package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// provider makes tokens t1, t2, ... as the test says.
type provider struct {
	mu     sync.Mutex
	made   int
	life   time.Duration
	err    error
	hangs  bool
	hidden []string
	fails  int
}

func (p *provider) Token(ctx context.Context) (schema.Token, error) {
	p.mu.Lock()
	hangs, err := p.hangs, p.err
	if !hangs && err == nil {
		p.made++
	}
	t := schema.Token{Text: fmt.Sprintf("t%d", p.made), Life: p.life}
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return schema.Token{}, context.Cause(ctx)
	}
	if err != nil {
		return schema.Token{}, err
	}
	return t, nil
}

func (p *provider) set(err error, hangs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.hangs = err, hangs
}

// seen is what was hidden and how many tries failed, until now.
func (p *provider) seen() (hidden string, fails int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.hidden, " "), p.fails
}

// keep runs the tokens of a provider in a bubble.
func keep(t *testing.T, p *provider) *tokens {
	hide := func(text string) { p.mu.Lock(); p.hidden = append(p.hidden, text); p.mu.Unlock() }
	failed := func(error) { p.mu.Lock(); p.fails++; p.mu.Unlock() }
	tok := newTokens(p.Token, hide, failed)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); tok.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return tok
}

// want is the token that is there, "" for none.
func want(t *testing.T, tok *tokens, text string) {
	t.Helper()
	synctest.Wait()
	got, ok := tok.now()
	if ok != (text != "") || got.Text != text {
		t.Fatalf("token %q, %v, want %q", got.Text, ok, text)
	}
}

// TestTokensRenew: one at two thirds of its life, hidden before anybody has it, and never one that is about to end.
func TestTokensRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: 15 * time.Minute}
		tok := keep(t, p)
		want(t, tok, "t1")
		time.Sleep(10*time.Minute - time.Second)
		want(t, tok, "t1")
		if got, _ := tok.now(); got.Life != 5*time.Minute+time.Second {
			t.Errorf("left of it: %v", got.Life)
		}
		time.Sleep(time.Second)
		want(t, tok, "t2")
		if s, _ := p.seen(); s != "t1 t2" {
			t.Errorf("hidden: %s", s)
		}
		time.Sleep(24 * time.Hour)
		want(t, tok, fmt.Sprintf("t%d", 2+24*6))
	})
}

// TestTokensProviderDown: the old one does as long as it is good, then there is none, and one again when the provider is back,
// at once for a call that wants it.
func TestTokensProviderDown(t *testing.T) {
	for name, down := range map[string]func(*provider){
		"down": func(p *provider) { p.set(errors.New("refused"), false) },
		"slow": func(p *provider) { p.set(nil, true) },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{life: 15 * time.Minute}
			tok := keep(t, p)
			down(p)
			time.Sleep(15*time.Minute - 31*time.Second)
			want(t, tok, "t1")
			time.Sleep(time.Second)
			want(t, tok, "")
			if _, fails := p.seen(); fails < 5 || fails > 100 {
				t.Errorf("%s: %d tries", name, fails)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("no time"))
			defer cancel()
			began := time.Now()
			if got, err := tok.get(ctx); err == nil || got.Text != "" || time.Since(began) != 2*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			p.set(nil, false)
			ctx, cancel = context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			if got, err := tok.get(ctx); err != nil || got.Text != "t2" {
				t.Errorf("%s: when it is back: %q, %v", name, got.Text, err)
			}
		})
	}
}

// TestTokensClockJumps: a token that the wall clock says is over, or not begun, is replaced; a small step back is none.
func TestTokensClockJumps(t *testing.T) {
	for _, c := range []struct {
		jump time.Duration
		want string
	}{
		{time.Minute, "t1"}, {-20 * time.Second, "t1"}, {-31 * time.Second, ""}, {15 * time.Minute, ""}, {365 * 24 * time.Hour, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{life: 15 * time.Minute}
			tok := keep(t, p)
			var jump time.Duration
			tok.mu.Lock()
			tok.wall = func() time.Time { return time.Now().Round(0).Add(jump) }
			jump = c.jump
			tok.mu.Unlock()
			want(t, tok, c.want)
			got, err := tok.get(t.Context())
			if err != nil || got.Text == "" || c.want == "" && got.Text != "t2" {
				t.Errorf("after %v: %q, %v", c.jump, got.Text, err)
			}
		})
	}
}

// TestTokensUnusable: what a provider gives that could not stand in a header, or lives too long, is none.
func TestTokensUnusable(t *testing.T) {
	for text, good := range map[string]bool{
		"abc.def": true, "": false, "a b": false, "a\r\nEvil: 1": false, "a\x00": false, "ä": false, strings.Repeat("a", schema.MaxToken+1): false,
	} {
		if err := usable(schema.Token{Text: text, Life: time.Minute}); (err == nil) != good {
			t.Errorf("%.20q: %v", text, err)
		} else if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells it: %v", err)
		}
	}
	for life, good := range map[time.Duration]bool{0: false, -1: false, schema.MaxTokenLife: true, schema.MaxTokenLife + 1: false} {
		if err := usable(schema.Token{Text: "a", Life: life}); (err == nil) != good {
			t.Errorf("%v: %v", life, err)
		}
	}
}

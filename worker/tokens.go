package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Times of tokens. A call that finds none waits for half of its time-out, at most tokenPatience, and fails then: closed, and
// inside its time-out (SECURITY 4).
const (
	tokenTry      = 5 * time.Second       // for the provider to answer
	tokenPatience = 5 * time.Second       // of a call, and of a function that asks
	tokenPause    = 50 * time.Millisecond // after a failed try, doubled up to tokenRest
	tokenRest     = 5 * time.Second       // unless a call wants one
	tokenMargin   = 30 * time.Second      // a token that is good for less is not handed out, or a tenth of its life
	tokenBack     = 30 * time.Second      // how far the wall clock may go back until a token counts as not yet good
)

// tokens are those of one environment that is bound to a sub-tenant: the present one, made when the environment is bound and
// again at two thirds of its life, by one goroutine. Who needs it takes it from here.
//
// Its life is counted from when it came, on the clock that never jumps and on the wall clock; whichever says that it is over, or
// that it has not begun, has another made: a host that slept stops the one, and a clock that is set moves the other.
type tokens struct {
	source func(context.Context) (schema.Token, error)
	hide   func(text string) // called before anybody gets it
	failed func(error)
	wall   func() time.Time // without a monotonic part

	mu      sync.Mutex // guards what follows; nothing blocks under it
	have    schema.Token
	came    time.Time // with both clocks
	err     error     // of the last try
	tried   chan struct{}
	wanted  chan struct{} // by a call, at once
	present time.Time     // wall, when it came
}

func newTokens(source func(context.Context) (schema.Token, error), hide func(string), failed func(error)) *tokens {
	return &tokens{source: source, hide: hide, failed: failed, wall: func() time.Time { return time.Now().Round(0) },
		tried: make(chan struct{}), wanted: make(chan struct{}, 1)}
}

// now is the present token, if it is good for a while.
func (t *tokens) now() (schema.Token, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.good()
}

// good is now under the mutex.
func (t *tokens) good() (schema.Token, bool) {
	if t.have.Text == "" {
		return schema.Token{}, false
	}
	most := t.have.Life - min(tokenMargin, t.have.Life/10)
	passed, wall := time.Since(t.came), t.wall().Sub(t.present)
	if passed >= most || wall >= most || wall < -tokenBack {
		return schema.Token{}, false
	}
	return schema.Token{Text: t.have.Text, Life: t.have.Life - max(passed, wall, 0)}, true
}

// get is the present token, whose Life is what is left of it, or the next one if that is not good any more. It waits until ctx
// ends; the error then names why there was none.
func (t *tokens) get(ctx context.Context) (schema.Token, error) {
	for first := true; ; first = false {
		t.mu.Lock()
		have, ok := t.good()
		tried, err := t.tried, t.err
		t.mu.Unlock()
		if ok {
			return have, nil
		}
		if first {
			select {
			case t.wanted <- struct{}{}:
			default:
			}
		}
		select {
		case <-tried:
		case <-ctx.Done():
			if err == nil {
				err = context.Cause(ctx)
			}
			return schema.Token{}, err
		}
	}
}

// run keeps the token fresh until ctx ends.
func (t *tokens) run(ctx context.Context) {
	pause := tokenPause
	for {
		next, err := t.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			t.failed(err)
			next, pause = pause, min(2*pause, tokenRest)
		default:
			pause = tokenPause
			select {
			case <-t.wanted: // this one was
			default:
			}
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-t.wanted:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// renew has a token made and says when the next one is due: at two thirds of its life.
func (t *tokens) renew(ctx context.Context) (next time.Duration, err error) {
	within, cancel := context.WithTimeoutCause(ctx, tokenTry, errors.New("the token provider does not answer"))
	defer cancel()
	got, err := t.source(within)
	if err == nil {
		err = usable(got)
	} else if within.Err() != nil {
		err = context.Cause(within)
	}
	if err == nil {
		t.hide(got.Text)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err = err; err == nil {
		t.have, t.came, t.present = got, time.Now(), t.wall()
	}
	close(t.tried)
	t.tried = make(chan struct{})
	return got.Life * 2 / 3, err
}

// usable says what is wrong with what a provider gave, without telling it.
func usable(t schema.Token) error {
	switch {
	case t.Text == "" || len(t.Text) > schema.MaxToken:
		return fmt.Errorf("the token provider gave a token of %d bytes: 1 to %d are allowed", len(t.Text), schema.MaxToken)
	case t.Life <= 0 || t.Life > schema.MaxTokenLife:
		return fmt.Errorf("the token provider gave a token for %v: at most %v are allowed", t.Life, schema.MaxTokenLife)
	}
	for i := range len(t.Text) {
		if t.Text[i] <= ' ' || t.Text[i] > '~' {
			return errors.New("the token provider gave a token that cannot stand in a header: printable ASCII without blanks is allowed")
		}
	}
	return nil
}

package events

import (
	"slices"
	"testing"
	"time"
)

// Events are claimed ahead after several quick tries in a row, and for a while no more once one had to be given back: a function of which
// some tries are quick would have its events go to and fro.
func TestPace(t *testing.T) {
	var a pace
	now := time.Unix(1_800_000_000, 0)
	quick := func(n int) {
		for range n {
			a.went(time.Millisecond, true)
		}
	}
	expect := func(want bool, when string) {
		t.Helper()
		if a.ahead(now) != want {
			t.Errorf("%s: claims ahead: %v", when, !want)
		}
	}
	expect(false, "at first")
	quick(quickTries - 1)
	a.went(quickTry, true)
	quick(quickTries - 1)
	a.went(0, false)
	quick(quickTries - 1)
	expect(false, "after quick tries that were not in a row")
	quick(1)
	expect(true, "after quick tries in a row")
	a.gaveBack(now)
	quick(quickTries)
	now = now.Add(aheadRest - 1)
	expect(false, "soon after one was given back")
	now = now.Add(1)
	expect(true, "after the rest")
	a.went(quickTry, true)
	expect(false, "after a slow one")
}

// What waits begins while the server surely counts it as this poller's; it is given back only where the server cannot have given it to
// another.
func TestUnclaim(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	p := &poller{all: &Pollers{}, share: 8}
	p.fresh, p.due = &source{}, &source{}
	s := p.fresh
	claimed := func(reply string, ago time.Duration) {
		c := &claim{p: p, src: s, reply: reply, bytes: 1, came: at.Add(-ago), touched: at.Add(-ago)}
		p.all.bytes.Add(1)
		s.claims.add(c)
		s.waiting.push(c)
	}
	for _, c := range []struct {
		reply string
		ago   time.Duration
	}{{"a", AckWait}, {"b", AckWait - touchEvery}, {"c", touchAfter}, {"d", aheadFor}, {"e", aheadFor - 1}, {"f", 0}} {
		claimed(c.reply, c.ago)
	}
	if p.turn(s, at) {
		t.Error("one begins that was not touched for so long that its start-by ends after its claim")
	}
	if back := p.unclaim(s, at, aheadFor); !slices.Equal(back, []string{"c", "d"}) {
		t.Errorf("%v are given back", back)
	}
	if s.claims.n != 2 || p.all.bytes.Load() != 2 {
		t.Errorf("%d are in hands, with %d bytes", s.claims.n, p.all.bytes.Load())
	}
	for _, hinder := range []struct{ on, off func() }{
		{func() { p.cut = true }, func() { p.cut = false }},
		{func() { p.closing = true }, func() { p.closing = false }},
		{func() { p.share = 0 }, func() { p.share = 1 }},
	} {
		hinder.on()
		if c := p.begins(s, at); c != nil {
			t.Errorf("%s begins", c.reply)
		}
		hinder.off()
	}
	c := p.begins(s, at)
	if c == nil || c.reply != "e" || s.begun != 1 {
		t.Fatalf("%+v begins", c)
	}
	if p.turn(s, at) {
		t.Error("more begin than the share")
	}
	p.drop(c)
	if c = p.begins(s, at); c == nil || c.reply != "f" || s.waiting.first != nil || s.waiting.last != nil {
		t.Errorf("%+v begins next", c)
	}
	p.drop(c)
	if s.begun != 0 || s.claims.n != 0 || p.all.bytes.Load() != 0 || len(p.unclaim(s, at, 0)) != 0 {
		t.Errorf("left: %d begun, %d claims, %d bytes", s.begun, s.claims.n, p.all.bytes.Load())
	}
}

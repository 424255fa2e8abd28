package main

import (
	"math/rand/v2"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"deploy", "describe", "demo", "ls", "rm", "ring", "invoke"}
	for name, want := range map[string]string{
		"depoly": "deploy", "deplo": "deploy", "DEPLOY": "deploy", "dem": "demo", "desc": "describe", "rin": "ring", "sl": "ls",
		"invoek": "invoke", "x": "", "": "", "kubectl": "", "reserve": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"ü", "u", 1}, {"count", "count", 0}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance of %q and %q is %d, want %d", c.a, c.b, got, c.want)
		}
	}
	// As far there as back, at least the difference of the lengths, at most the longer length.
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, random.IntN(8))
		for i := range b {
			b[i] = "abc"[random.IntN(3)]
		}
		return string(b)
	}
	for range 2000 {
		a, b := word(), word()
		d := distance(a, b)
		if d != distance(b, a) || d < max(len(a), len(b))-min(len(a), len(b)) || d > max(len(a), len(b)) || (d == 0) != (a == b) {
			t.Fatalf("distance of %q and %q is %d, back %d", a, b, d, distance(b, a))
		}
	}
}

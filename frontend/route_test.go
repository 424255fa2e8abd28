package frontend_test

import (
	"testing"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/schema"
)

func TestRoute(t *testing.T) {
	t.Parallel()
	const (
		reserved, spillover      = schema.ReasonReserved, schema.ReasonSpillover
		scale, unreserved        = schema.ReasonScale, schema.ReasonUnreserved
		closed, open        bool = false, true
	)
	for _, c := range []struct {
		name       string
		open       bool
		l, s, b, c int
		theta      float64
		want       schema.Reason
	}{
		{"no arc", closed, 10, 10, 0, 1, 1, unreserved},
		{"no member yet", open, 10, 0, 0, 1, 1, unreserved},
		{"draining to nobody", open, 0, 0, 0, 1, 1, unreserved},
		{"first call", open, 10, 10, 0, 1, 1, reserved},
		{"C = L exactly", open, 10, 10, 9, 10, 1, reserved},
		{"C = L, all told as busy: the view may err towards the reserved arc", open, 10, 10, 10, 10, 1, reserved},
		{"S10: C = L+1, all busy", open, 10, 10, 10, 11, 1, scale},
		{"S20: C = L+1, one idle", open, 10, 10, 9, 11, 1, spillover},
		{"S20: C far above L, some idle", open, 10, 10, 6, 15, 1, spillover},
		{"S21: theta 0.9, B = 9 of 10", open, 10, 10, 9, 11, 0.9, scale},
		{"S21: theta 0.9, B = 8 of 10", open, 10, 10, 8, 11, 0.9, spillover},
		{"theta 0.9, B = 18 of 20: nine tenths again", open, 20, 20, 18, 21, 0.9, scale},
		{"theta 0.7, B = 7 of 10", open, 10, 10, 7, 11, 0.7, scale},
		{"theta 0.3, B = 3 of 10", open, 10, 10, 3, 11, 0.3, scale},
		{"S37: L raised, members not there yet: C = S", open, 20, 4, 3, 4, 1, reserved},
		{"S37: L raised: C = S+1, all busy", open, 20, 4, 4, 5, 1, scale},
		{"S37: L raised: C = S+1, one idle", open, 20, 4, 3, 5, 1, spillover},
		{"S31: shrunk, surplus serves", open, 50, 80, 79, 80, 1, spillover},
		{"S31: shrunk, surplus all busy", open, 50, 80, 80, 81, 1, scale},
		{"S31: shrunk, theta 0.9 bleeds", open, 50, 80, 72, 73, 0.9, scale},
		{"S33: L = 0, old members serve while in use", open, 0, 10, 9, 10, 1, spillover},
		{"S33: L = 0, all busy", open, 0, 10, 10, 11, 1, scale},
		{"a view that counts more busy than there are", open, 10, 10, 12, 13, 1, scale},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := frontend.Route(frontend.Load{Open: c.open, L: c.l, S: c.s, B: c.b, C: c.c, Theta: c.theta})
			want := frontend.Decision{
				Reserved: c.want == reserved || c.want == spillover, Reason: c.want, L: c.l, S: c.s, B: c.b, C: c.c,
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// Every decision over a dense range agrees with the same rules in whole numbers: theta in hundredths, nothing rounded.
func TestRouteAgreesWithWholeNumbers(t *testing.T) {
	t.Parallel()
	for hundredths := 1; hundredths <= 100; hundredths++ {
		theta := float64(hundredths) / 100
		for s := 0; s <= 40; s++ {
			for b := 0; b <= s; b++ {
				for _, l := range []int{0, 1, s / 2, s, s + 3} {
					for _, c := range []int{1, l, l + 1, s, s + 1} {
						want := schema.ReasonUnreserved
						switch {
						case s == 0:
						case c <= l && c <= s:
							want = schema.ReasonReserved
						case 100*b < hundredths*s:
							want = schema.ReasonSpillover
						default:
							want = schema.ReasonScale
						}
						got := frontend.Route(frontend.Load{Open: true, L: l, S: s, B: b, C: c, Theta: theta})
						if got.Reason != want {
							t.Fatalf("L %d S %d B %d C %d theta %v: %s, want %s", l, s, b, c, theta, got.Reason, want)
						}
					}
				}
			}
		}
	}
}

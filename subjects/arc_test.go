package subjects_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

func TestUnreservedArcsShareTheGroups(t *testing.T) {
	t.Parallel()
	const groups, arcs = 20_000, 64
	count := make([]int, arcs)
	for i := range groups {
		nn := subjects.UnreservedArc("default", functionName(i), "", arcs)
		if nn < 0 || nn >= arcs {
			t.Fatalf("%s: arc %d", functionName(i), nn)
		}
		count[nn]++
	}
	// Chi squared with 63 degrees of freedom is above 123 once in 100,000.
	chi, even := 0.0, float64(groups)/arcs
	for _, c := range count {
		chi += (float64(c) - even) * (float64(c) - even) / even
	}
	if chi > 123 {
		t.Errorf("chi squared is %.1f: %v", chi, count)
	}
}

func TestRaisingArcsMovesGroupsToTheNewOnesAlone(t *testing.T) {
	t.Parallel()
	const groups = 20_000
	for _, from := range []int{1, 2, 63, 64, 255} {
		moved := 0
		for i := range groups {
			before := subjects.UnreservedArc("a", functionName(i), "t", from)
			after := subjects.UnreservedArc("a", functionName(i), "t", from+1)
			if before != after {
				moved++
				if after != from {
					t.Fatalf("%d arcs: %s went from %d to %d, which was there", from, functionName(i), before, after)
				}
			}
		}
		p := 1 / float64(from+1)
		if got, sd := float64(moved)/groups, math.Sqrt(p*(1-p)/groups); math.Abs(got-p) > 4*sd {
			t.Errorf("%d arcs: %.4f moved, want about %.4f", from, got, p)
		}
	}
}

func TestGroupsAreToldApart(t *testing.T) {
	t.Parallel()
	// Names that would meet if account, function and tenant were simply strung together.
	groups := [][3]string{{"a", "b", ""}, {"ab", "", ""}, {"", "ab", ""}, {"a", "", "b"}, {"", "a", "b"}, {"", "", "ab"}}
	same := 0
	for i, g := range groups {
		for _, h := range groups[:i] {
			if subjects.UnreservedArc(g[0], g[1], g[2], subjects.MaxArcs) == subjects.UnreservedArc(h[0], h[1], h[2], subjects.MaxArcs) {
				same++
			}
		}
	}
	if same > 1 {
		t.Errorf("%d pairs of %d different groups share an arc of %d", same, len(groups)*(len(groups)-1)/2, subjects.MaxArcs)
	}
	for _, arcs := range []int{-1, 0, 1} {
		if nn := subjects.UnreservedArc("a", "b", "", arcs); nn != 0 {
			t.Errorf("%d arcs: arc %d", arcs, nn)
		}
	}
}

func TestLengths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, stored, want int }{{0, 0, 0}, {1, 0, 1}, {2, 0, 2}, {8, 0, 2}, {8, 1, 2}, {8, 5, 5}, {8, 9, 8}} {
		if got := subjects.UnreservedLength(c.n, c.stored); got != c.want {
			t.Errorf("UnreservedLength(%d, %d) = %d, want %d", c.n, c.stored, got, c.want)
		}
	}
	for _, c := range []struct{ l, t, n, want int }{
		{10, 5, 8, 2}, {20, 5, 8, 4}, {0, 16, 8, 2}, {1, 16, 8, 2}, {32, 16, 8, 2}, {33, 16, 8, 3}, {1000, 16, 8, 8},
		{33, 0, 8, 3}, {10, 16, 1, 1}, {100, 16, 1, 1}, {10, 16, 0, 0},
	} {
		if got := subjects.ReservedLength(c.l, c.t, c.n); got != c.want {
			t.Errorf("ReservedLength(%d, %d, %d) = %d, want %d", c.l, c.t, c.n, got, c.want)
		}
	}
}

func TestMemberRank(t *testing.T) {
	t.Parallel()
	// DESIGN 5: k mod min(2,N) for k < 2T, floor(k/T) for k < N*T, else k mod N.
	for _, c := range []struct{ k, t, n, want int }{
		{0, 16, 8, 0}, {1, 16, 8, 1}, {30, 16, 8, 0}, {31, 16, 8, 1}, {32, 16, 8, 2}, {47, 16, 8, 2}, {48, 16, 8, 3},
		{127, 16, 8, 7}, {128, 16, 8, 0}, {130, 16, 8, 2}, {5, 16, 1, 0}, {100, 16, 1, 0}, {32, 16, 2, 0}, {33, 16, 2, 1},
		{7, 16, 0, 0}, {33, 0, 8, 2},
	} {
		if got := subjects.MemberRank(c.k, c.t, c.n); got != c.want {
			t.Errorf("MemberRank(%d, %d, %d) = %d, want %d", c.k, c.t, c.n, got, c.want)
		}
	}
}

func TestSharesSumToTheLimit(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 8} {
		for _, perManager := range []int{1, 5, 16} {
			for l := range 3 * n * perManager {
				length, sum := subjects.ReservedLength(l, perManager, n), 0
				for rank := range n {
					share := subjects.Share(rank, l, perManager, n)
					if rank >= length && share > 0 {
						t.Fatalf("L=%d T=%d N=%d: rank %d beyond the arc of %d holds %d", l, perManager, n, rank, length, share)
					}
					if more := subjects.Share(rank, l+1, perManager, n); more < share {
						t.Fatalf("L=%d T=%d N=%d: one more takes from rank %d: %d, then %d", l, perManager, n, rank, share, more)
					}
					sum += share
				}
				if sum != l {
					t.Fatalf("L=%d T=%d N=%d: shares sum to %d", l, perManager, n, sum)
				}
			}
		}
	}
}

func TestClassesRiseWithRank(t *testing.T) {
	t.Parallel()
	for length := 1; length <= 40; length++ {
		idle, room, reserved, surplus := -1, 4, -1, 3
		for rank := range length {
			i, r, v := subjects.IdleClass(rank, length), subjects.RoomClass(rank, length), subjects.ReservedClass(rank, length)
			o := subjects.SurplusClass(rank, length)
			if i < idle || r < room || v < reserved || o < surplus {
				t.Fatalf("length %d, rank %d: a class falls: idle %d, room %d, reserved %d, surplus %d", length, rank, i, r, v, o)
			}
			if i > 3 || r < 5 || r > 8 || v > 3 || o < 4 || o > 7 { // every surplus comes after every share
				t.Fatalf("length %d, rank %d: idle %d, room %d, reserved %d, surplus %d", length, rank, i, r, v, o)
			}
			idle, room, reserved, surplus = i, r, v, o
		}
	}
	for _, off := range []int{subjects.OffArc, 4, 99} {
		if i, r, v := subjects.IdleClass(off, 4), subjects.RoomClass(off, 4), subjects.ReservedClass(off, 4); i != subjects.ClassUnreservedStranger ||
			r != subjects.ClassCatcher || v != subjects.ClassReservedStranger || subjects.SurplusClass(off, 4) != v {
			t.Errorf("rank %d of 4: idle %d, room %d, reserved %d", off, i, r, v)
		}
	}
	for rank, want := range []string{"0 5 0 4", "1 6 1 5", "2 7 2 6", "3 8 3 7"} {
		got := fmt.Sprint(subjects.IdleClass(rank, 4), subjects.RoomClass(rank, 4), subjects.ReservedClass(rank, 4), subjects.SurplusClass(rank, 4))
		if got != want {
			t.Errorf("rank %d of 4: classes %s, want %s", rank, got, want)
		}
	}
}

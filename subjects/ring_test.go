package subjects_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

// fabrics is how many sets of managers a property is tried on.
const fabrics = 60

// someManagers are n ids as people choose them; each fabric number gives others.
func someManagers(fabric, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		switch fabric % 3 {
		case 0:
			ids[i] = fmt.Sprintf("m%d-%d", fabric, i+1)
		case 1:
			ids[i] = fmt.Sprintf("host-%d.example.org", fabric*100+i)
		default:
			ids[i] = fmt.Sprintf("10.0.%d.%d:4222", fabric, i)
		}
	}
	return ids
}

func functionName(i int) string { return fmt.Sprintf("function-%d", i) }

// medianDeviation is how far the median of the counts lies from their mean, as a share of the mean.
func medianDeviation(counts []int) float64 {
	mean := 0.0
	for _, c := range counts {
		mean += float64(c) / float64(len(counts))
	}
	off := make([]float64, len(counts))
	for i, c := range counts {
		off[i] = math.Abs(float64(c)-mean) / mean
	}
	return median(off)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

func TestRingSpreadsFunctionsEvenly(t *testing.T) {
	t.Parallel()
	const managers, functions = 8, 1000
	var reserved, arcs64, arcs256 []float64
	within := 0
	for fabric := range fabrics {
		ring := subjects.NewRing(0, someManagers(fabric, managers))
		count := [3][]int{make([]int, managers), make([]int, managers), make([]int, managers)}
		for i := range functions {
			f := functionName(i)
			count[0][ring.Reserved(nil, "default", f, "1", 10, 16)[0]]++
			count[1][ring.Unreserved(nil, subjects.UnreservedArc("default", f, "", 64), 0)[0]]++
			count[2][ring.Unreserved(nil, subjects.UnreservedArc("default", f, "", 256), 0)[0]]++
		}
		reserved = append(reserved, medianDeviation(count[0]))
		arcs64 = append(arcs64, medianDeviation(count[1]))
		arcs256 = append(arcs256, medianDeviation(count[2]))
		if reserved[fabric] <= 0.15 {
			within++
		}
	}
	t.Logf("median deviation from even over %d fabrics: reserved %.3f, 64 unreserved arcs %.3f, 256 of them %.3f",
		fabrics, median(reserved), median(arcs64), median(arcs256))
	if within < fabrics*95/100 {
		t.Errorf("functions within 15 %% of even at the median in %d of %d fabrics", within, fabrics)
	}
	// 64 arcs are 8 a manager, give or take 2.6 by chance alone, whatever the ring does.
	if got := median(arcs64); got > 0.30 {
		t.Errorf("64 unreserved arcs: %.3f off even at the median", got)
	}
	if got := median(arcs256); got > 0.20 {
		t.Errorf("256 unreserved arcs: %.3f off even at the median", got)
	}
}

// membership is one manager's place in the arc of one function.
type membership struct{ function, manager string }

func memberships(r *subjects.Ring, functions int) map[membership]bool {
	m := make(map[membership]bool)
	for i := range functions {
		for _, at := range r.Reserved(nil, "default", functionName(i), "1", 40, 16) {
			m[membership{functionName(i), r.Managers()[at]}] = true
		}
	}
	return m
}

func TestJoinMovesFewMemberships(t *testing.T) {
	t.Parallel()
	const functions = 400
	for _, n := range []int{4, 8, 20} {
		for fabric := range 20 {
			ids := someManagers(fabric, n+1)
			// Which of them comes last does not matter to the ring, so let it not matter to the test.
			rand.New(rand.NewPCG(uint64(fabric), 7)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			before := memberships(subjects.NewRing(0, ids[:n]), functions)
			after := memberships(subjects.NewRing(0, ids), functions)
			moved := 0
			for m := range before {
				if !after[m] {
					moved++
				}
			}
			for m := range after {
				if !before[m] && m.manager != ids[n] {
					t.Fatalf("%d managers, fabric %d: a join gave %v to a manager that was there", n, fabric, m)
				}
			}
			// A share of the ring varies by its points (1/sqrt(vnodes)) and by the functions that meet it.
			p := 1 / float64(n+1)
			sd := p*math.Sqrt(1/float64(subjects.DefaultVnodes)) + math.Sqrt(p*(1-p)/float64(len(before)))
			if got := float64(moved) / float64(len(before)); got > p+3*sd {
				t.Errorf("%d managers, fabric %d: %.3f of the memberships moved, want at most %.3f", n, fabric, got, p+3*sd)
			}
		}
	}
}

func TestLeaveOnlyFillsIn(t *testing.T) {
	t.Parallel()
	ids := someManagers(1, 9)
	all := subjects.NewRing(0, ids)
	for gone := range ids {
		rest := subjects.NewRing(0, slices.Delete(slices.Clone(ids), gone, gone+1))
		for i := range 100 {
			before := names(all, all.Reserved(nil, "default", functionName(i), "1", 64, 16))
			after := names(rest, rest.Reserved(nil, "default", functionName(i), "1", 64, 16))
			stayed := slices.DeleteFunc(slices.Clone(before), func(m string) bool { return m == ids[gone] })
			if !slices.Equal(after[:len(stayed)], stayed) || len(after) != len(before) {
				t.Fatalf("%s left: arc %v became %v", ids[gone], before, after)
			}
		}
	}
}

func names(r *subjects.Ring, arc []int) []string {
	out := make([]string, len(arc))
	for i, m := range arc {
		out[i] = r.Managers()[m]
	}
	return out
}

func TestRingIsTheSameForTheSameMembers(t *testing.T) {
	t.Parallel()
	const seed = 2
	rng := rand.New(rand.NewPCG(seed, seed))
	t.Logf("seed %d", seed)
	ids := someManagers(2, 12)
	want := subjects.NewRing(0, ids)
	for range 10 {
		mixed := append(slices.Clone(ids), ids[rng.IntN(len(ids))], ids[rng.IntN(len(ids))])
		rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		given := slices.Clone(mixed)
		got := subjects.NewRing(0, mixed)
		if !slices.Equal(mixed, given) {
			t.Fatal("NewRing changed its argument")
		}
		if !slices.Equal(got.Managers(), want.Managers()) {
			t.Fatalf("managers %v, want %v", got.Managers(), want.Managers())
		}
		for i := range 1000 { // S02
			l := rng.IntN(200)
			a, b := want.Reserved(nil, "default", functionName(i), "1", l, 16), got.Reserved(nil, "default", functionName(i), "1", l, 16)
			if !slices.Equal(a, b) {
				t.Fatalf("%s: %v and %v", functionName(i), a, b)
			}
		}
	}
}

// TestRingIsTheSameEverywhere holds values that another build, processor or version must compute too: a node that
// disagrees sends calls to arcs that nobody serves.
func TestRingIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	r := subjects.NewRing(0, []string{"m1", "m2", "m3", "m4", "m5"})
	for _, c := range []struct {
		function string
		arc      int
		ranks    []string
		reserved []string
	}{
		{"resize", 54, []string{"m2", "m4", "m3"}, []string{"m3", "m4", "m5"}},
		{"sum", 52, []string{"m1", "m3", "m4"}, []string{"m4", "m2", "m3"}},
		{"Büro.e", 36, []string{"m3", "m1", "m2"}, []string{"m2", "m5", "m1"}},
	} {
		nn := subjects.UnreservedArc("default", c.function, "", 64)
		if nn != c.arc {
			t.Errorf("%s: arc %d, want %d", c.function, nn, c.arc)
		}
		if got := names(r, r.Unreserved(nil, nn, 3)); !slices.Equal(got, c.ranks) {
			t.Errorf("%s: unreserved ranks %q, want %q", c.function, got, c.ranks)
		}
		if got := names(r, r.Reserved(nil, "default", c.function, "7", 48, 16)); !slices.Equal(got, c.reserved) {
			t.Errorf("%s: reserved ranks %q, want %q", c.function, got, c.reserved)
		}
	}
}

func TestGrowingAnArcKeepsItsFirstMembers(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 8, 1000, 1500} {
		r := subjects.NewRing(8, someManagers(0, n))
		full := r.Arc(nil, 1<<63+12345, n)
		if len(slices.Compact(slices.Sorted(slices.Values(full)))) != n {
			t.Fatalf("%d managers: an arc of all of them names %d", n, len(full))
		}
		for _, length := range []int{-1, 0, 1, 2, n / 2, n, n + 1} {
			got := r.Arc([]int{-7}, 1<<63+12345, length)
			if want := append([]int{-7}, full[:max(0, min(n, length))]...); !slices.Equal(got, want) {
				t.Errorf("%d managers, length %d: %v, want %v", n, length, got, want)
			}
		}
	}
	if got := subjects.NewRing(0, nil).Arc(nil, 1, 3); len(got) != 0 {
		t.Errorf("an empty ring has arc %v", got)
	}
}

func TestArcLengthFollowsFromTheLimit(t *testing.T) { // S03
	t.Parallel()
	r := subjects.NewRing(0, someManagers(0, 8))
	ten := r.Reserved(nil, "default", "f", "1", 10, 5)
	twenty := r.Reserved(nil, "default", "f", "1", 20, 5)
	if len(ten) != 2 || len(twenty) != 4 || !slices.Equal(twenty[:2], ten) {
		t.Errorf("L 10 gives %v, L 20 gives %v", ten, twenty)
	}
}

func TestChoosingAnArcAllocatesNothing(t *testing.T) {
	r := subjects.NewRing(0, someManagers(0, 1000))
	dst := make([]int, 0, 1000)
	arc := 0
	for name, choose := range map[string]func(){
		"UnreservedArc": func() { arc = subjects.UnreservedArc("default", "resize", "tenant", 64) },
		"Unreserved":    func() { r.Unreserved(dst, 17, 4) },
		"Reserved":      func() { r.Reserved(dst, "default", "resize", "1", 64, 16) },
		"Arc of all":    func() { r.Arc(dst, 1, 1000) },
	} {
		if n := testing.AllocsPerRun(100, choose); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if arc < 0 || arc > 63 {
		t.Errorf("arc %d", arc)
	}
}

func BenchmarkUnreservedArc(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		subjects.UnreservedArc("default", "resize-image", "", 64)
	}
}

func BenchmarkRingArc(b *testing.B) {
	r := subjects.NewRing(0, someManagers(0, 1000))
	dst := make([]int, 0, 1000)
	for _, length := range []int{2, 16, 1000} {
		b.Run(fmt.Sprintf("managers=1000/length=%d", length), func(b *testing.B) {
			b.ReportAllocs()
			hash := uint64(1)
			for b.Loop() {
				hash = hash*6364136223846793005 + 1442695040888963407
				dst = r.Arc(dst[:0], hash, length)
			}
		})
	}
}

func BenchmarkNewRing(b *testing.B) {
	for _, n := range []int{8, 1000} {
		ids := someManagers(0, n)
		b.Run(fmt.Sprintf("managers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				subjects.NewRing(0, ids)
			}
		})
	}
}

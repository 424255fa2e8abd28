package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// One short measurement of three fabrics: all figures are there and agree with one another, none of them is judged.
func TestBenchOfReservations(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--driver", "null", "--reservations", "3", "--duration", "600ms", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := decode[reservationsResult](t, r.stdout)
	if got.Errors != 0 || got.Reservations != 3 || got.Busy != 3 || len(got.Fabrics) != 2 || got.RatioRate <= 0 || got.RatioTwin <= 0 || got.Twin.Calls == 0 || got.RatioP50 <= 0 || got.RatioCore <= 0 ||
		got.Core.Calls == 0 || got.Unreserved.Calls == 0 || got.Reserved.Calls == 0 {
		t.Fatalf("%s", r.stdout)
	}
	for i, want := range []int{1, 3} {
		f := got.Fabrics[i]
		if f.Reservations != want || f.Called != want || f.Shards != 1 || f.Load.Calls == 0 || f.Goroutines == 0 || f.Heap <= 0 || f.Opened <= 0 {
			t.Errorf("%d reservations: %+v", want, f)
		}
		if runtime.GOOS == "linux" && (f.IdleCPU == nil || f.Memory == nil || *f.Memory <= 0) {
			t.Errorf("%d reservations: CPU and memory were not read", want)
		}
	}
	for _, c := range []*ringChange{got.Join, got.Leave} {
		if c == nil || c.Reservations != 3 || c.Errors != 0 || c.Asked <= 0 || c.Settled < c.Held || c.Calls == 0 {
			t.Errorf("ring change: %+v", c)
		}
	}
}

func TestCalledReservationsAreSpread(t *testing.T) {
	t.Parallel()
	s := reservationFabric{functions: strings.Split("abcdefghij", "")}
	if got := strings.Join(s.called(5), ""); got != "acegi" {
		t.Errorf("five of ten: %s", got)
	}
	if got := s.called(10); len(got) != 10 {
		t.Errorf("all: %v", got)
	}
}

func TestWhatARingMoved(t *testing.T) {
	t.Parallel()
	at := func(function string, members ...int) schema.ReservationOutput {
		r := schema.ReservationOutput{Function: function}
		for i, n := range members {
			r.Arc = append(r.Arc, schema.ReservationMember{Manager: string(rune('a' + i)), Share: 1, Members: n})
		}
		return r
	}
	before := []schema.ReservationOutput{at("f", 1, 1, 0), at("g", 1, 1, 0)}
	now := []schema.ReservationOutput{at("f", 1, 1, 0), at("g", 1, 0, 1)}
	if n := moved(before, now); n != 1 {
		t.Errorf("%d moved", n)
	}
	held := func(m *schema.ReservationMember) bool { return m.Members >= m.Share }
	if stand(now, held) || !stand([]schema.ReservationOutput{at("h", 1, 2)}, held) {
		t.Error("shares that are held are not told apart from those that are not")
	}
}

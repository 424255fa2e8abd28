package manager

import (
	"slices"
	"testing"
	"time"
)

// A stream of calls is gone when the leader of the cluster goes on to answer and nobody else does: not before, not because an answer is
// late, and not to a manager that was cut off itself (S54).
func TestHomeGone(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	streams := []string{"U", "R0"}
	// Times are when a question was sent; the leader's and the streams' answers come at once unless they are late.
	for _, test := range []struct {
		name        string
		led         func(at time.Duration) bool
		u           func(at time.Duration) bool
		late        time.Duration // U's answers
		cuts, until time.Duration // between these nothing is answered
		gone        time.Duration // at which tick U is, 0: never
	}{
		{name: "all well", led: always, u: always},
		{name: "its server is killed", led: always, u: before(3 * time.Second), gone: 4500 * ms},
		{name: "its server is slow", led: always, u: always, late: 1900 * ms},
		{name: "cut off for long, all well after", led: always, u: always, cuts: 3250 * ms, until: 20 * time.Second},
		{name: "cut off and then gone", led: always, u: before(3 * time.Second), cuts: 3250 * ms, until: 10 * time.Second, gone: 11 * time.Second},
		{name: "no leader for a while", led: func(at time.Duration) bool { return at < 3*time.Second || at >= 8*time.Second }, u: before(3 * time.Second), gone: 9 * time.Second},
		{name: "never a leader", led: before(0), u: before(0)},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := homes{by: make(map[string]*home)}
			cut := func(at time.Duration) bool { return at >= test.cuts && at < test.until }
			type answer struct{ at, sent time.Duration }
			var late []answer
			first := time.Duration(0)
			for now := homeLook; now < 30*time.Second; now += homeLook {
				for len(late) > 0 && late[0].at <= now {
					h.answers("U", late[0].sent, now, 7)
					late = late[1:]
				}
				gone := h.gone(streams, now)
				if slices.Contains(gone, "R0") {
					t.Fatalf("at %v the other stream is gone", now)
				}
				if len(gone) > 0 {
					first = now
					break
				}
				if cut(now) {
					continue
				}
				if test.led(now) {
					h.leads(now)
				}
				h.answers("R0", now, now, uint64(now))
				if test.u(now) {
					late = append(late, answer{now + test.late, now})
				}
			}
			if first != test.gone {
				t.Errorf("gone at %v, want %v", first, test.gone)
			}
		})
	}
}

// A stream that begins anew has a lower last sequence than it had; an answer that another overtook says nothing.
func TestHomeComesBack(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		sent []time.Duration // answered half a second later
		last []uint64
		anew bool
	}{
		"it grows":                       {[]time.Duration{500 * ms, 1000 * ms, 1500 * ms}, []uint64{100, 100, 109}, false},
		"it begins anew":                 {[]time.Duration{500 * ms, 1000 * ms, 1500 * ms}, []uint64{100, 109, 99}, true},
		"it is not there":                {[]time.Duration{500 * ms, 1000 * ms, 1500 * ms}, []uint64{100, 109, 0}, false},
		"what was asked before, is late": {[]time.Duration{500 * ms, 1000 * ms, 900 * ms}, []uint64{100, 109, 105}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := homes{by: make(map[string]*home)}
			h.gone([]string{"U", "R0"}, homeLook)
			for i, sent := range test.sent {
				h.answers("U", sent, max(sent, 1000*ms), test.last[i])
				h.answers("R0", sent, max(sent, 1000*ms), 5)
			}
			var want []string
			if test.anew {
				want = []string{"U"}
			}
			if gone := h.gone([]string{"U", "R0"}, 2*time.Second); !slices.Equal(gone, want) {
				t.Errorf("gone: %v, want %v", gone, want)
			}
		})
	}
}

func always(time.Duration) bool { return true }

func before(end time.Duration) func(time.Duration) bool {
	return func(at time.Duration) bool { return at < end }
}

package sim

import (
	"math"
	"math/bits"
	"time"
)

// use is how a manager was used, since it is counted.
type use struct {
	last              time.Duration
	existing          int // environments
	running           int // calls
	places            int // of these
	held, mostHeld    int // places of environments that were not told to end
	existed, ran      float64
	placesRan         float64 // seconds
	calls, cold, made int
}

// begin counts from now on.
func (u *use) begin(now time.Duration) {
	u.advance(now)
	u.existed, u.ran, u.placesRan, u.calls, u.cold = 0, 0, 0, 0, 0
}

func (u *use) advance(now time.Duration) {
	d := (now - u.last).Seconds()
	u.existed += d * float64(u.existing)
	u.ran += d * float64(u.running)
	u.placesRan += d * float64(u.places)
	u.last = now
}

func (u *use) exist(now time.Duration, n int) {
	u.advance(now)
	u.existing += n
}

func (u *use) run(now time.Duration, places, n int) {
	u.advance(now)
	u.running += n
	u.places += n * places
}

func (u *use) hold(places int) {
	u.held += places
	u.mostHeld = max(u.mostHeld, u.held)
}

// histogram counts durations in buckets that are at most 1.6 % wide.
type histogram struct {
	counts [64 * 64]int
	n      int
	most   time.Duration
}

const exact = 64 // microseconds below which each has a bucket of its own

func (h *histogram) add(d time.Duration) {
	h.n++
	h.most = max(h.most, d)
	h.counts[bucket(d)]++
}

func bucket(d time.Duration) int {
	v := uint64(max(0, d) / time.Microsecond)
	if v < exact {
		return int(v)
	}
	shift := bits.Len64(v) - 7
	return (shift+1)*exact + int(v>>shift) - exact
}

// upper is the largest duration of a bucket.
func upper(b int) time.Duration {
	if b < exact {
		return time.Duration(b) * time.Microsecond
	}
	shift := b/exact - 1
	return time.Duration((uint64(b%exact+exact+1)<<shift)-1) * time.Microsecond
}

// quantile is the duration that a part of them did not exceed.
func (h *histogram) quantile(part float64) time.Duration {
	left := int(math.Ceil(part * float64(h.n)))
	for b, n := range h.counts {
		if left -= n; n > 0 && left <= 0 {
			return min(upper(b), h.most)
		}
	}
	return h.most
}

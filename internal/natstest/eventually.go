package natstest

import (
	"testing"
	"time"
)

// Eventually waits until cond holds, looking every millisecond, and fails the test with msg if it does not within that
// time. The time is a bound on waiting, not a promise about speed.
func Eventually(t testing.TB, within time.Duration, cond func() bool, msg string) {
	t.Helper()
	if !Within(within, cond) {
		t.Fatalf("not within %v: %s", within, msg)
	}
}

// Within is [Eventually] for what need not come to be: it reports whether cond held within that time.
func Within(within time.Duration, cond func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			return cond()
		case <-tick.C:
		}
	}
	return true
}

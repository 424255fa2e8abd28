package events

import (
	"time"

	"github.com/hearth-run/hearth/schema"
)

// maxShare is how many events of one function a frontend runs at once at most.
const maxShare = 256

// share is how many events of a function may run at once at this frontend: its part of all managers' places, as if it had a
// backlog, one part being left to everybody who has none, so that a function with a million events waiting slows no other. Nobody serving: none.
// DESIGN 4.
func share(places, memoryMB, backlogged, frontends int) int {
	if places <= 0 {
		return 0
	}
	environments := places / max(1, schema.Places(memoryMB))
	return min(max(1, environments/(max(1, backlogged)+1)/max(1, frontends)), maxShare)
}

// throttle holds a function's share back while its tries are refused: halved and paused at each refusal, for as long as the
// refusals go on, and let grow again by what runs. Otherwise a backlog would go round through RETRIES as fast as it is refused.
// poller.mu guards it.
type throttle struct {
	held  float64 // 0: the whole share
	pause time.Duration
	until time.Time
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// window is how many events may run at once now.
func (t *throttle) window(share int, now time.Time) int {
	switch {
	case t.held == 0:
		return share
	case now.Before(t.until):
		return 0
	default:
		return min(share, int(t.held))
	}
}

// hear takes what became of an event. A sub-tenant that has what its limit allows says nothing of the function: the events of all others
// run on, and each that was refused backs off by itself (S66).
func (t *throttle) hear(v verdict, err error, share int, now time.Time) {
	switch {
	case v.next == done:
		t.went(share)
	case err == nil || v.reason == schema.DeadInvalid || schema.CodeOf(err) == schema.CodeTenantLimit:
	default:
		t.refused(share, now)
	}
}

// refused takes in a refusal. Those of one round count once.
func (t *throttle) refused(share int, now time.Time) {
	if now.Before(t.until) {
		return
	}
	if t.held == 0 {
		t.held = float64(share)
	}
	t.held = max(1, t.held/2)
	t.pause = min(max(firstPause, 2*t.pause), lastPause)
	t.until = now.Add(t.pause)
}

// went takes in that an event ran.
func (t *throttle) went(share int) {
	if t.held == 0 {
		return
	}
	t.pause = 0
	if t.held += 1 / t.held; t.held >= float64(share) {
		t.held = 0
	}
}

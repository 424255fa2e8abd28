package pace_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
)

func TestCredit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ room, arcs, want int }{{0, 4, 0}, {-1, 4, 0}, {9, 0, 0}, {1, 4, 4}, {40, 16, 4}, {40, 5, 8}, {40, 1, 16}} {
		if got := pace.Credit(c.room, c.arcs); got != c.want {
			t.Errorf("room for %d in %d arcs: %d, want %d", c.room, c.arcs, got, c.want)
		}
	}
}

// Whoever waits has what is hot, unless there is room elsewhere, which it does not find for ever.
func TestPresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		delivered  uint64
		room, want bool
	}{{1, false, false}, {pace.PressAfter - 1, false, false}, {pace.PressAfter, false, true}, {pace.PressAfter, true, false}, {pace.LastCatch, true, true}} {
		if got := pace.Presses(c.delivered, c.room); got != c.want {
			t.Errorf("after %d deliveries, room elsewhere %t: %t", c.delivered, c.room, got)
		}
	}
}

// DESIGN 2: 10 ms at first, and the longer the more often it came back.
func TestAgain(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		delivered uint64
		want      time.Duration
	}{{1, 10 * ms}, {2, 10 * ms}, {4, 20 * ms}, {8, 80 * ms}, {10, 100 * ms}, {1 << 60, 100 * ms}} {
		if got := pace.Again(c.delivered); got != c.want {
			t.Errorf("after %d deliveries %v, want %v", c.delivered, got, c.want)
		}
	}
}

// Room that was there between two looks did not last out.
func TestShortage(t *testing.T) {
	t.Parallel()
	var s pace.Shortage
	at := time.Unix(1000, 0)
	for i, c := range []struct {
		after         time.Duration
		room          int
		freed         uint64
		turned, lasts bool
	}{
		{0, 1, 0, false, false}, {0, 0, 0, true, false}, {19 * time.Millisecond, 0, 0, false, false}, {20 * time.Millisecond, 0, 0, false, true},
		{21 * time.Millisecond, 0, 1, false, true}, {22 * time.Millisecond, 3, 1, true, false}, {23 * time.Millisecond, 0, 1, true, false},
		{42 * time.Millisecond, 0, 2, false, false}, {50 * time.Millisecond, 0, 2, false, false}, {62 * time.Millisecond, 0, 2, false, true},
	} {
		if turned := s.Look(c.room, c.freed, at.Add(c.after)); turned != c.turned || s.Lasts != c.lasts {
			t.Errorf("look %d: turned %t, lasts %t", i, turned, s.Lasts)
		}
	}
}

// One look that sees nobody with room proves nothing; an arc grows once in a round of statuses, towards whoever tells room.
func TestNeed(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	nobody := func(at time.Duration, delivered uint64) pace.Look {
		return pace.Look{Now: time.Hour + at, First: -1, Length: 2, Heard: true, Delivered: delivered}
	}
	var n pace.Need
	for i, c := range []struct {
		look       pace.Look
		full, grow bool
	}{
		{nobody(0, 2), false, false}, {nobody(64*ms, 3), false, false}, {nobody(65*ms, 4), true, false},
		{nobody(200*ms, 5), false, false}, // nobody looked for a while
		{nobody(265*ms, 5), true, false},
		{pace.Look{Now: time.Hour + 270*ms, First: -1, Length: 2, Delivered: 5}, false, false}, // somebody's status is late
		{pace.Look{Now: time.Hour + 280*ms, First: 1, Length: 2, Heard: true, Delivered: 5}, false, false},
		{nobody(281*ms, 5), false, false},
		{nobody(282*ms, pace.LastCatch), true, false},
		{pace.Look{Now: time.Hour + 300*ms, First: 3, Length: 2, Heard: true}, false, true},
		{pace.Look{Now: time.Hour + 700*ms, First: 3, Length: 2, Heard: true}, false, false},
		{pace.Look{Now: time.Hour + 710*ms, Hot: true, First: -1, Length: 2, Heard: true, Delivered: 5}, false, false},
		{pace.Look{Now: time.Hour + 775*ms, Hot: true, First: -1, Length: 2, Heard: true, Delivered: 5}, false, false},
		{nobody(776*ms, 5), false, false}, // for somebody had a moment ago what cools
		{pace.Look{Now: time.Hour + 780*ms, Hot: true, First: -1, Length: 2, Heard: true, Delivered: pace.LastCatch}, true, false},
		{pace.Look{Now: time.Hour + 800*ms, Here: true, First: 3, Length: 2, Heard: true}, false, false},
		{pace.Look{Now: time.Hour + 801*ms, First: 3, Length: 2, Heard: true}, false, true},
	} {
		if full, grow := n.Judge(c.look); full != c.full || grow != c.grow {
			t.Errorf("look %d: full %t, grow %t", i, full, grow)
		}
	}
	n.Longer(2 * time.Hour)
	if _, grow := n.Judge(pace.Look{Now: 2*time.Hour + 499*ms, First: 3, Length: 3, Heard: true}); grow {
		t.Error("longer still, within a round of statuses")
	}
}

// A member that was busy for less than from one telling to the next is told neither busy nor idle again.
func TestBusy(t *testing.T) {
	t.Parallel()
	var b pace.Busy
	if told, rising := b.Tell(1, true); told != 0 || !rising {
		t.Errorf("at first %d, rising %t", told, rising)
	}
	if b.Fewer(0) || !b.Above(1) || b.Below(0) {
		t.Error("it was never told busy")
	}
	b.Tell(2, true)
	if told, rising := b.Tell(2, true); told != 2 || rising {
		t.Errorf("all the time busy: %d, rising %t", told, rising)
	}
	if !b.Fewer(1) || !b.Below(1) || b.Above(2) {
		t.Error("one of two that were told busy is idle")
	}
	if told, _ := b.Tell(2, true); told != 1 {
		t.Errorf("one was idle in between: %d", told)
	}
	if told, rising := b.Tell(3, false); told != 3 || rising {
		t.Errorf("not eager: %d, rising %t", told, rising)
	}
}

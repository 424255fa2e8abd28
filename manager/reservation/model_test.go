package reservation_test

import (
	"fmt"
	"strings"
	"testing"
)

// The model: one reservation of one member, its arcs, one frontend with a stale view and a few calls, a user who changes the limit,
// a manager, and two controllers that each hold a copy of the record and what they saw. Every action that is possible in a
// state is taken, so that each step of one controller meets each delay of the other.

// bounds say how much of everything there is.
type bounds struct {
	controllers int
	calls       uint8 // by the frontend
	changes     uint8 // of the limit, 1, 0, 1, …
	crashes     uint8 // of a controller, between any two of its steps
	restarts    uint8 // of the server, which loses its memory
	neighbour   bool  // another arc is in the same shard: its controller makes the stream again after a restart
	deletes     bool  // controllers delete the stream when they know of no arc in it
	most        int   // states; more is an error of the test
}

// broken takes a part of the mechanism out.
type broken uint8

const (
	sound        broken = iota
	neverPurged         // the marker is not purged
	purgedLate          // it is purged after the look for what is left
	neverLooked         // nobody looks whether the subject is empty
	undecided           // the marker is purged and the consumer deleted before the record says that the arc closes
	markerFirst         // the marker is published before the consumer is made
	notConfirmed        // the record names a marker without a look at both
	deletedBlind        // a stream is deleted without asking whether it holds anything
	closingLast         // arcs that close are shut after the next one opened
	neverSwept          // nobody looks for what no record names
)

// explored is the graph of everything that can happen.
type explored struct {
	known  thoughts
	states []state
	ids    map[state]int32
	from   [][]int32 // by state: those that lead to it
	by     []step    // how it was reached first
	bad    string    // the first violation
	at     int32
}

type step struct {
	from int32
	what string
}

// explore takes every action in every state, breadth first, until a violation.
func explore(b bounds, how broken) *explored {
	x := &explored{known: make(thoughts), ids: make(map[state]int32)}
	x.add(first(b), -1, "")
	for i := int32(0); int(i) < len(x.states) && x.bad == ""; i++ {
		s := x.states[i]
		s.each(b, how, x.known, func(next state, what, violation string) {
			if violation != "" && x.bad == "" {
				x.bad, x.at = what+": "+violation, i
			}
			if next.normal(); next != s {
				x.add(next, i, what)
			}
		})
		if len(x.states) > b.most {
			x.bad, x.at = fmt.Sprintf("more than %d states: the bounds are too wide for a test", b.most), i
		}
	}
	if x.bad == "" {
		x.ends(b, how)
	}
	return x
}

func (x *explored) add(s state, from int32, what string) {
	id, had := x.ids[s]
	if !had {
		id = int32(len(x.states))
		x.ids[s] = id
		x.states = append(x.states, s)
		x.from = append(x.from, nil)
		x.by = append(x.by, step{from, what})
	}
	if from >= 0 {
		x.from[id] = append(x.from[id], from)
	}
}

// ends looks whether every state can still end well: gone or active as the limit says, and nothing left behind.
func (x *explored) ends(b bounds, how broken) {
	good := make([]bool, len(x.states))
	var queue []int32
	for i := range x.states {
		if x.states[i].ended(b) {
			good[i] = true
			queue = append(queue, int32(i))
		}
	}
	for len(queue) > 0 {
		i := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, from := range x.from[i] {
			if !good[from] {
				good[from] = true
				queue = append(queue, from)
			}
		}
	}
	for i, ok := range good {
		if !ok {
			x.bad, x.at = "from here nothing leads to a good end", int32(i)
			return
		}
	}
}

// story is how a state was reached.
func (x *explored) story(at int32) string {
	var lines []string
	for ; at >= 0; at = x.by[at].from {
		lines = append(lines, fmt.Sprintf("  %-42s %s", x.by[at].what, &x.states[at]))
	}
	var b strings.Builder
	for i := len(lines) - 1; i >= 0; i-- {
		b.WriteString(lines[i] + "\n")
	}
	return b.String()
}

// Nothing is lost or stranded, two epochs never take calls, and all ends as the limit says, whatever comes between.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bounds{
		"two controllers retire":          {controllers: 2, calls: 3, changes: 2, most: 100_000},
		"two controllers, reserved again": {controllers: 2, calls: 1, changes: 3, most: 400_000},
		"a controller crashes":            {controllers: 1, calls: 3, changes: 3, crashes: 1, deletes: true, most: 100_000},
		"one of two crashes":              {controllers: 2, calls: 2, changes: 2, crashes: 1, deletes: true, most: 300_000},
		"the server restarts":             {controllers: 1, calls: 3, changes: 2, restarts: 1, crashes: 1, neighbour: true, most: 100_000},
		"the server restarts under two":   {controllers: 2, calls: 1, changes: 2, restarts: 1, neighbour: true, most: 300_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := explore(b, sound)
			t.Logf("%d states", len(x.states))
			if x.bad != "" {
				t.Fatalf("%s\n%s", x.bad, x.story(x.at))
			}
		})
	}
}

// The model finds what goes wrong without each part of the mechanism.
func TestModelFindsWhatIsTakenOut(t *testing.T) {
	t.Parallel()
	two := bounds{controllers: 2, calls: 2, changes: 3, most: 900_000}
	restarts := bounds{controllers: 2, calls: 2, changes: 3, restarts: 1, neighbour: true, most: 900_000}
	deletes := bounds{controllers: 2, calls: 2, changes: 3, crashes: 1, deletes: true, most: 900_000}
	for name, c := range map[string]struct {
		b    bounds
		how  broken
		want string
	}{
		"the purge is taken out":               {two, neverPurged, "still holds calls"},
		"the purge comes after the look":       {two, purgedLate, "still holds calls"},
		"the look is taken out":                {two, neverLooked, "still holds calls"},
		"nothing is decided before the purge":  {two, undecided, "accepted where no consumer is"},
		"the marker comes before the consumer": {restarts, markerFirst, "accepted where no consumer is"},
		"the marker is not confirmed":          {restarts, notConfirmed, "accepted where no consumer is"},
		"a stream is deleted blindly":          {deletes, deletedBlind, "lost"},
		"what closes is shut late":             {two, closingLast, "two epochs take calls"},
		"nobody sweeps":                        {bounds{controllers: 2, calls: 1, changes: 2, most: 300_000}, neverSwept, "nothing leads to a good end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := explore(c.b, c.how)
			t.Logf("%d states until: %s", len(x.states), x.bad)
			if !strings.Contains(x.bad, c.want) {
				t.Errorf("found %q, want %q", x.bad, c.want)
			}
		})
	}
}

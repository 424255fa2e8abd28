package console_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

func call(function string, outcome console.Outcome) *console.Call {
	return &console.Call{Function: function, Outcome: outcome, Start: schema.StartWarm, Ended: time.Now()}
}

// TestFeed: everything is counted, few are kept, and of those that are, what failed comes first.
func TestFeed(t *testing.T) {
	t.Parallel()
	var f console.Feed
	f.Tell(call("a", console.OutcomeOK)) // nobody watches
	all, one := f.Watch(""), f.Watch("rare")
	for i := range 10_000 {
		outcome := console.OutcomeOK
		if i == 7777 || i == 3 {
			outcome = console.OutcomeLost
		}
		f.Tell(call(fmt.Sprint("busy", i), outcome))
		if i%1000 == 0 {
			f.Tell(call("rare", console.OutcomeOK))
		}
	}
	calls, failed, rows := all.Drain()
	if calls != 10_010 || failed != 2 || len(rows) != console.RowsPerTick {
		t.Errorf("%d calls, %d failed, %d rows", calls, failed, len(rows))
	}
	lost := 0
	for i, r := range rows {
		if r.Outcome == console.OutcomeLost {
			lost++
		}
		if i > 0 && r.Ended.Before(rows[i-1].Ended) {
			t.Error("rows stand out of order")
		}
	}
	if lost != 2 {
		t.Errorf("%d of the two that were lost are kept", lost)
	}
	if calls, _, rows := one.Drain(); calls != 10 || len(rows) != 10 {
		t.Errorf("of one function: %d calls, %d rows", calls, len(rows))
	}
	if calls, _, rows := all.Drain(); calls != 0 || len(rows) != 0 {
		t.Errorf("drained twice: %d calls, %d rows", calls, len(rows))
	}
	for i := range 10_000 {
		f.Tell(call("a", map[bool]console.Outcome{true: console.OutcomeOK, false: console.OutcomeLost}[i >= 200]))
	}
	_, failed, rows = all.Drain()
	lost = 0
	for _, r := range rows {
		if r.Outcome == console.OutcomeLost {
			lost++
		}
	}
	if failed != 200 || lost != console.RowsPerTick/2 {
		t.Errorf("of 200 that were lost %d are counted, and %d of %d rows are theirs", failed, lost, len(rows))
	}
	all.Leave()
	all.Leave()
	if !f.Watched() {
		t.Error("the other one still watches")
	}
	one.Leave()
	if f.Watched() {
		t.Error("nobody watches any more")
	}
}

// TestFeedChances: of calls that are all alike, the late ones of a half second are shown as the early ones are.
func TestFeedChances(t *testing.T) {
	t.Parallel()
	var f console.Feed
	w := f.Watch("")
	late := 0
	for range 200 {
		for i := range 100 {
			f.Tell(call(map[bool]string{true: "late", false: "early"}[i >= 50], console.OutcomeOK))
		}
		_, _, rows := w.Drain()
		for _, r := range rows {
			if r.Function == "late" {
				late++
			}
		}
	}
	if late < 800 || late > 1200 { // 1,000 of 2,000 expected; six standard deviations are 134
		t.Errorf("%d of 2,000 rows are of the later half", late)
	}
}

// TestFeedTogether: many tell while others come and go.
func TestFeedTogether(t *testing.T) {
	t.Parallel()
	var f console.Feed
	var wg sync.WaitGroup
	steady := f.Watch("")
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				if f.Watched() {
					f.Tell(call("a", console.OutcomeOK))
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				w := f.Watch("a")
				w.Drain()
				w.Leave()
			}
		})
	}
	wg.Wait()
	if calls, _, _ := steady.Drain(); calls != 20_000 {
		t.Errorf("%d of 20,000 calls were counted", calls)
	}
	steady.Leave()
}

// TestFeedCost: what nobody watches costs nothing, and watching allocates nothing a call.
func TestFeedCost(t *testing.T) {
	var none *console.Feed
	var f console.Feed
	c := call("a", console.OutcomeOK)
	tell := func(f *console.Feed) func() {
		return func() {
			if f.Watched() {
				f.Tell(c)
			}
		}
	}
	for name, do := range map[string]func(){"none": tell(none), "unwatched": tell(&f)} {
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s: %v allocations a call", name, n)
		}
	}
	w := f.Watch("")
	defer w.Leave()
	if n := testing.AllocsPerRun(1000, tell(&f)); n != 0 {
		t.Errorf("watched: %v allocations a call", n)
	}
}

// TestOutcomes: each code of the table, and a function's own.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, row := range schema.Table() {
		got := console.OutcomeOf(row.Code)
		want := console.OutcomeRefused
		switch {
		case row.Code == schema.CodeTimedOut:
			want = console.OutcomeTimeout
		case row.Code == schema.CodeExecutionLost:
			want = console.OutcomeLost
		case row.Status == 200:
			want = console.OutcomeError
		case row.Status == 429:
			want = console.OutcomeThrottled
		case row.Status >= 500:
			want = console.OutcomeUnavailable
		}
		if got != want {
			t.Errorf("%s is %s, want %s", row.Code, got, want)
		}
	}
	if got := console.OutcomeOf("TypeError"); got != console.OutcomeError {
		t.Errorf("a function's own error is %s", got)
	}
	if got := console.OutcomeOf(""); got != console.OutcomeOK {
		t.Errorf("no error is %s", got)
	}
}

func BenchmarkFeed(b *testing.B) {
	c := call("a", console.OutcomeOK)
	for _, watchers := range []int{0, 1, 32} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			var f console.Feed
			for range watchers {
				defer f.Watch("").Leave()
			}
			b.ReportAllocs()
			for b.Loop() {
				if f.Watched() {
					f.Tell(c)
				}
			}
		})
	}
}

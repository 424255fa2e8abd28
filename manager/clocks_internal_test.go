package manager

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// One server of a cluster is 3 s ahead of the others: no call of theirs looks old for that. Streams of a single server share what is
// known of its clock.
func TestClocks(t *testing.T) {
	t.Parallel()
	const ahead = 3 * time.Second
	arcs := []subjects.ArcCall{{Number: 3}, {Number: 4}, {Reserved: true, Number: 3}, {Reserved: true, Number: subjects.MaxShards - 1}, {Number: 11}}
	for name, clustered := range map[string]bool{"cluster": true, "one server": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c clocks
			c.reset(clustered)
			for second := range 3 {
				now := time.Duration(second) * 1100 * time.Millisecond
				for i, arc := range arcs {
					stamp := server + int64(now)
					if clustered && arc.Number%subjects.UnreservedStreams == 3 && !arc.Reserved {
						stamp += int64(ahead)
					}
					age, sure := c.of(&arc).judge(stamp, uint64(100*i+second), now, budget)
					if age != 0 {
						t.Errorf("at %v: a call on %s that just came is %v old", now, arc.ArcName(), age)
					}
					// The first on each server is in doubt for a second.
					if want := second > 0; sure != want {
						t.Errorf("at %v: call %d on %s, sure %v", now, i, arc.ArcName(), sure)
					}
				}
			}
			if got, want := c.claimed(3), uint64(402); clustered && got != want || !clustered && got != 0 {
				t.Errorf("claimed up to %d", got)
			}
			latest := server + int64(time.Minute)
			if clustered {
				latest += int64(ahead)
			}
			if at, known := c.stamp(time.Minute); !known || at != latest {
				t.Errorf("the latest clock says %d, %v; want %d", at, known, latest)
			}
			if c.reset(clustered); !clustered {
				_, _ = c.of(&arcs[0]).judge(server, 1, 0, budget)
				if _, sure := c.of(&arcs[3]).judge(server+int64(2*time.Second), 1, 2*time.Second, budget); !sure {
					t.Error("a stream of a server whose clock is known is in doubt")
				}
			}
		})
	}
}

package manager

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// A member that is taken again at once is told as idle where no call may go cold while one is idle, and as busy where theta asks which
// part of them is busy.
func TestBusyMembersAsTold(t *testing.T) {
	t.Parallel()
	for theta, want := range map[float64]int{1: 3, 0.9: 4} {
		o := shrunk(t, 4, 4)
		o.m.view.Store(&view{fabric: schema.Fabric{Theta: theta}})
		o.m.shares.byEpoch = map[uint64]*stake{7: {}}
		tell := func() (busy int, rising bool) {
			g, _ := o.m.pool.Group(o.home)
			a, rising := o.m.arcStatus(&g, true)
			return a.Busy, rising
		}
		var members []string
		for range 4 {
			d := o.m.pool.Warm(o.begin, o.home, &claim{})
			members = append(members, d.Environment)
		}
		tell()
		if busy, rising := tell(); busy != 4 || rising {
			t.Fatalf("theta %v: %d of four are told busy, rising %v", theta, busy, rising)
		}
		o.m.pool.Finished(o.begin, members[0], true)
		idler := o.m.idler(o.home)
		o.m.pool.Parked(o.begin, members[0], 0)
		if d := o.m.pool.Warm(o.begin.Add(time.Millisecond), o.home, &claim{}); !idler || d.Action != pool.Run {
			t.Fatalf("idler %v, %+v", idler, d)
		}
		if busy, rising := tell(); busy != want || rising != (want < 4) {
			t.Errorf("theta %v: %d are told busy, want %d; rising %v", theta, busy, want, rising)
		}
	}
}

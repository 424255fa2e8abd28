package manager

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// A caught call is kept for its grace once; on a reserved arc also when a member had refused it before.
func TestPatience(t *testing.T) {
	t.Parallel()
	const grace = 2 * time.Millisecond
	for _, c := range []struct {
		reserved  bool
		delivered uint64
		age       time.Duration
		want      time.Duration
		kept      bool
	}{
		{reserved: true, delivered: 1, age: time.Second, want: grace, kept: true},
		{reserved: true, delivered: 2, age: grace / 4, want: 3 * grace / 4, kept: true},
		{reserved: true, delivered: 2, age: grace},
		{reserved: true, delivered: 2, age: 0}, // not known
		{delivered: 1, want: grace, kept: true},
		{delivered: 2, age: grace / 4},
	} {
		claim := &claim{target: subjects.ArcCall{Reserved: c.reserved}, ack: subjects.Ack{Delivered: c.delivered}, age: c.age}
		if got, kept := claim.patience(grace); got != c.want || kept != c.kept {
			t.Errorf("%+v: %v, %v", c, got, kept)
		}
	}
}

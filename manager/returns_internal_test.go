package manager

import (
	"strconv"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

func TestReturnsOfFrontends(t *testing.T) {
	t.Parallel()
	var r returns
	for i, step := range []struct {
		id, incarnation string
		reconnects      uint64
		back            bool
	}{
		{"f1", "a", 0, false}, // new
		{"f1", "a", 0, false},
		{"f1", "a", 1, true},
		{"f1", "a", 1, false},
		{"f1", "a", 3, true},
		{"f1", "a", 2, false}, // overtaken on its way
		{"f1", "a", 3, false},
		{"f1", "b", 0, false}, // another life has no calls of the first
		{"f1", "b", 1, true},
		{"f2", "c", 7, true}, // who knows since when
		{"f2", "c", 7, false},
	} {
		s := &schema.FrontendStatus{ID: step.id, Incarnation: step.incarnation, Reconnects: step.reconnects}
		if back := r.told(s, time.Duration(i)); back != step.back {
			t.Errorf("step %d, %+v: back %v", i, step, back)
		}
	}
}

func TestReturnsAreBounded(t *testing.T) {
	t.Parallel()
	var r returns
	for i := range maxReturns + 10 {
		r.told(&schema.FrontendStatus{ID: strconv.Itoa(i)}, time.Second)
	}
	if len(r.byID) != maxReturns {
		t.Errorf("%d frontends are remembered", len(r.byID))
	}
	if !r.told(&schema.FrontendStatus{ID: "new", Reconnects: 1}, time.Second+returnsKept+1) || len(r.byID) != 1 {
		t.Errorf("one that comes when the others are gone: %d are remembered", len(r.byID))
	}
}

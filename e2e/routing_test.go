package e2e_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/subjects"
)

// TestRouting is S02: two frontends compute the arcs of 1,000 functions and limits alike, also after a restart.
func TestRouting(t *testing.T) {
	t.Parallel()
	t.Run("S02", func(t *testing.T) {
		cfg := deploy.Config{
			DataDir: filepath.Join(t.TempDir(), "data"), HTTP: "127.0.0.1:0", NATS: "127.0.0.1:0", Managers: 8, Frontends: 2,
			Capacity: 320, Driver: deploy.DriverNull, Set: map[string]string{"t": "5"},
		}
		var first []string
		for start := range 2 {
			f, err := deploy.Up(withDeadline(t), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(f.Frontends()); n != 2 {
				t.Fatalf("%d frontends", n)
			}
			for i, fe := range f.Frontends() {
				eventually(t, "the frontend sees all managers", func() bool { return len(fe.Ring().Members) == 8 })
				arcs := arcsOf(fe)
				if first == nil {
					first = arcs
				}
				if !slices.Equal(arcs, first) {
					t.Errorf("start %d: frontend %d computes other arcs than the first one", start, i)
				}
			}
			if err := f.Stop(withDeadline(t)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// arcsOf writes down both arcs of 1,000 functions as a frontend's view of the fabric gives them.
func arcsOf(f *frontend.Frontend) []string {
	fabric := f.Fabric()
	ring := subjects.NewRing(fabric.Vnodes, f.Ring().Members)
	arcs := make([]string, 0, 1000)
	for i := range 1000 {
		name, limit := fmt.Sprintf("function-%d", i), 1+i*7%60
		nn := subjects.UnreservedArc("default", name, "", fabric.Arcs)
		unreserved := ring.Unreserved(nil, nn, f.ArcLength(nn))
		reserved := ring.Reserved(nil, "default", name, "1", limit, fabric.T)
		if want := subjects.ReservedLength(limit, fabric.T, len(ring.Managers())); len(reserved) != want {
			arcs = append(arcs, fmt.Sprintf("%s: length %d, want %d", name, len(reserved), want))
		}
		arcs = append(arcs, fmt.Sprint(name, nn, unreserved, limit, reserved))
	}
	return arcs
}

//go:build linux && (amd64 || arm64)

package native_test

import (
	"testing"

	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// TestStock: sandboxes are kept ready as demand wants them, those who take one find it, and none is kept where none may be.
func TestStock(t *testing.T) {
	t.Parallel()
	d := limited(t, 0, 0, 0).(*native.Driver)
	drivertest.Eventually(t, "one is ready", func() bool { return d.Stock().Ready >= 1 })
	const burst = 3
	take := func() {
		for range burst {
			e, err := d.New(t.Context(), driver.Spec{ID: "taken"})
			if err != nil {
				t.Fatal(err)
			}
			e.Kill()
			ended(t, e)
		}
	}
	take()
	drivertest.Eventually(t, "as many are ready as were taken at once", func() bool {
		s := d.Stock()
		if s.Ready < burst {
			take() // the second in which they were taken may have been two
		}
		return s.Ready >= burst
	})
	before := d.Stock()
	take()
	after := d.Stock()
	if after.Taken+after.Missed != before.Taken+before.Missed+burst || after.Taken == before.Taken {
		t.Errorf("before %+v, after %+v", before, after)
	}
	// What nobody wants any more goes, and is counted; one is kept.
	drivertest.Eventually(t, "there is one too many", func() bool {
		s := d.Stock()
		return s.Ready > 1 || s.Discarded > 0
	})
	native.Forget(d)
	drivertest.Eventually(t, "one is left", func() bool {
		s := d.Stock()
		return s.Ready == 1 && s.Discarded > 0
	})
}

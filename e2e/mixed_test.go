package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
)

// TestMixed is S07: whatever calls do, nothing of them is left. The full number runs where HEARTH_LONG is set.
func TestMixed(t *testing.T) {
	t.Parallel()
	t.Run("S07", func(t *testing.T) {
		calls := 1_000
		if os.Getenv("HEARTH_LONG") != "" {
			calls = 10_000
		}
		f := fabric.Start(t, fabric.Options{Managers: 3, Capacity: 24})
		f.DeployFn("fn", "--timeout", "1s")
		c := f.Anonymous()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 7))
		crew := pool.New().WithMaxGoroutines(12).WithErrors()
		for range calls {
			kind := random.IntN(200)
			crew.Go(func() error { return mixedCall(c, kind) })
		}
		if err := crew.Wait(); err != nil {
			t.Error(err)
		}
		quiet(t, f)
	})
}

// mixedCall is a success, an error, a crash, a time-out, or a caller who does not wait, by kind of 0 to 199.
func mixedCall(c *client.Client, kind int) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	payload, failure := `"fine"`, ""
	switch {
	case kind == 0:
		payload, failure = `"hang"`, "Sandbox.Timedout"
	case kind < 3:
		payload, failure = `"exit 1"`, "Runtime.ExitError"
	case kind < 20:
		payload, failure = `"error"`, "Fn.Asked"
	case kind < 30:
		gone, leave := context.WithTimeout(ctx, time.Millisecond)
		defer leave()
		_, _ = c.Invoke(gone, client.Call{Function: "fn", Payload: []byte(payload)})
		return nil
	}
	a, err := c.Invoke(ctx, client.Call{Function: "fn", Payload: []byte(payload)})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", payload, err)
	case failure == "" && string(a.Payload) != payload:
		return fmt.Errorf("%s: answered %s", payload, a.Payload)
	case failure != "" && (a.FunctionError == nil || a.FunctionError.Type != failure):
		return fmt.Errorf("%s: answered %s, want %s", payload, a.Payload, failure)
	}
	return nil
}

package e2e_test

import (
	"archive/zip"
	"bytes"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// routed is a fabric in this process whose environments run no code, with an admin's client.
func routed(t *testing.T, cfg deploy.Config) (*deploy.Fabric, *client.Client) {
	t.Helper()
	cfg.DataDir, cfg.HTTP, cfg.NATS, cfg.Driver = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0", deploy.DriverNull
	f, err := deploy.Up(withDeadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(withDeadline(t)); err != nil {
			t.Error(err)
		}
	})
	c, err := client.Connect(withDeadline(t), client.Options{URL: f.NATSURL, Creds: f.CredsFile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c
}

// emptyFunction makes functions of which nothing is ever run, each with version 1.
func emptyFunction(t *testing.T, c *client.Client, names ...string) {
	t.Helper()
	sum, err := c.PutCode(withDeadline(t), emptyZip(t))
	if err != nil {
		t.Fatal(err)
	}
	runtime := "provided"
	crew := pool.New().WithMaxGoroutines(8).WithErrors()
	for _, name := range names {
		crew.Go(func() error {
			if _, err := c.CreateFunction(withDeadline(t), schema.FunctionInput{
				FunctionName: name, Runtime: &runtime, Code: &schema.FunctionCode{Sha256: sum},
			}); err != nil {
				return err
			}
			_, err := c.PublishVersion(withDeadline(t), schema.FunctionInput{FunctionName: name})
			return err
		})
	}
	if err := crew.Wait(); err != nil {
		t.Fatal(err)
	}
}

// emptyZip is a package with nothing that runs in it.
func emptyZip(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if _, err := w.Create("readme"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReasons is S15: the reasons of a function's calls, as the frontends counted them, are all of its calls, and those that the
// callers were told.
func TestReasons(t *testing.T) {
	t.Parallel()
	t.Run("S15", func(t *testing.T) {
		f, c := routed(t, deploy.Config{Managers: 3, Frontends: 2, Capacity: 60})
		emptyFunction(t, c, "kept", "plain")
		if _, err := c.Reserve(withDeadline(t), "kept", "1", 4); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the reservation is ready", func() bool {
			all, err := c.Reservations(withDeadline(t), "kept")
			return err == nil && len(all) == 1 && all[0].Status == schema.ReservationReady
		})
		ctx := withDeadline(t)
		var mu sync.Mutex
		told := map[string]map[schema.Reason]uint64{"kept": {}, "plain": {}}
		const each = 800
		calls := func(n int) {
			crew := pool.New().WithMaxGoroutines(24).WithErrors()
			for i := range 2 * n {
				name := []string{"kept", "plain"}[i%2]
				crew.Go(func() error {
					a, err := c.Invoke(ctx, client.Call{Function: name, Qualifier: "1", Payload: []byte("1")})
					if err != nil {
						return err
					}
					mu.Lock()
					told[name][a.Reason]++
					mu.Unlock()
					return nil
				})
			}
			if err := crew.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		calls(each / 2)
		// What is beyond the reservation goes to its members as long as hardly one is busy, and else does not.
		if _, err := c.SetFabric(withDeadline(t), map[string]string{"theta": "0.01"}); err != nil {
			t.Fatal(err)
		}
		for done := false; !done; {
			calls(each / 8)
			mu.Lock()
			made := told["plain"][schema.ReasonUnreserved]
			done = made >= each && told["kept"][schema.ReasonScale] > 0 || made >= 10*each
			mu.Unlock()
		}
		for name, want := range told {
			counted := func() (sum frontend.Reasons) {
				for _, fe := range f.Frontends() {
					r := fe.Counters().Routed[frontend.FunctionName{Account: subjects.DefaultAccount, Function: name}]
					sum.Reserved, sum.Spillover, sum.Scale = sum.Reserved+r.Reserved, sum.Spillover+r.Spillover, sum.Scale+r.Scale
					sum.Overflow, sum.Unreserved = sum.Overflow+r.Overflow, sum.Unreserved+r.Unreserved
				}
				return sum
			}
			all := uint64(0)
			for _, n := range want {
				all += n
			}
			eventually(t, "all calls of "+name+" are counted", func() bool { return counted().Sum() >= all })
			if sum := counted(); sum.Sum() != all || sum != (frontend.Reasons{
				Reserved: want[schema.ReasonReserved], Spillover: want[schema.ReasonSpillover], Scale: want[schema.ReasonScale],
				Overflow: want[schema.ReasonOverflow], Unreserved: want[schema.ReasonUnreserved],
			}) {
				t.Errorf("%s: counted %+v, told %v", name, sum, want)
			}
		}
		if kept := told["kept"]; kept[schema.ReasonReserved] == 0 || kept[schema.ReasonScale] == 0 || kept[schema.ReasonOverflow]+kept[schema.ReasonSpillover] == 0 ||
			len(told["plain"]) != 1 || told["plain"][schema.ReasonUnreserved] == 0 {
			t.Errorf("reasons %v", told)
		}
	})
}

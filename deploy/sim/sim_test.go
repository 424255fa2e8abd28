package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy/sim"
	"github.com/hearth-run/hearth/schema"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// tenantCalls are calls of sub-tenants of a reserved function, and of others.
func tenantCalls() sim.Source {
	var b strings.Builder
	b.WriteString("at_ms,function,duration_ms,init_ms,tenant\n")
	for i := range 400 {
		fmt.Fprintf(&b, "%d,shop,%d,100,t%d\n", i*20, 10+i%90, i*i%7)
		fmt.Fprintf(&b, "%d.5,count,30,,\n", i*20)
	}
	t, err := sim.NewTrace(strings.NewReader(b.String()))
	if err != nil {
		panic(err)
	}
	return t
}

// The same calls on the same fabric give the same report, to the last digit: that of the golden file.
func TestGolden(t *testing.T) {
	t.Parallel()
	small := sim.Config{Managers: 3, Capacity: 4, Fabric: schema.DefaultFabric()}
	small.Fabric.KeepAlive = time.Second
	for name, c := range map[string]struct {
		cfg sim.Config
		src func() sim.Source
	}{
		"plain":    {sim.Config{}, func() sim.Source { return &sim.Workload{Seed: 1, Duration: 20 * time.Second} }},
		"reserved": {sim.Config{Reserve: []sim.Reservation{{Function: "f1", Limit: 6}, {Function: "f2", Limit: 4, At: 2 * time.Second}, {Function: "f1", At: 9 * time.Second}}}, func() sim.Source { return &sim.Workload{Seed: 2, Duration: 10 * time.Second, Rate: 200} }},
		"small":    {small, func() sim.Source { return &sim.Workload{Seed: 3, Duration: 5 * time.Second} }},
		"tenants":  {sim.Config{Managers: 3, Reserve: []sim.Reservation{{Function: "shop", Limit: 3}}}, tenantCalls},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got [2][]byte
			for i := range got {
				r, err := sim.Run(t.Context(), c.cfg, c.src())
				if err != nil {
					t.Fatal(err)
				}
				if got[i], err = json.MarshalIndent(r, "", "  "); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got[0], got[1]) {
				t.Errorf("two runs differ:\n%s\n%s", got[0], got[1])
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, got[0], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v (-update writes it)", err)
			}
			if !bytes.Equal(got[0], want) {
				t.Errorf("%s differs (-update rewrites it):\n%s", file, got[0])
			}
		})
	}
}

// Every call ends once and no manager holds more than it can, whatever is scarce.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		cfg := sim.Config{Managers: 1 + int(seed)%5, Capacity: 2 + int(seed*seed)%11, Frontends: 1 + int(seed)%3, Fabric: schema.DefaultFabric()}
		cfg.Fabric.Arcs = 1 + int(seed)%8
		cfg.Fabric.KeepAlive, cfg.Fabric.Reclaim, cfg.Fabric.Quiet = time.Second, 300*time.Millisecond, time.Second
		cfg.Fabric.StartBy = time.Second
		switch seed % 4 {
		case 1:
			cfg.Fabric.MaxEnvironments = 5
		case 2:
			cfg.Fabric.Growth = 3
		case 3:
			cfg.Fabric.Theta = 0.8
			cfg.Reserve = []sim.Reservation{{Function: "f1", Limit: 3}, {Function: "f1", Limit: 1, At: time.Second}, {Function: "f2", Limit: 1, At: 2 * time.Second}}
		}
		r, err := sim.Run(t.Context(), cfg, &sim.Workload{Seed: seed, Duration: 4 * time.Second, Rate: 80, Functions: 9})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		conserves(t, seed, r)
		if cfg.Fabric.MaxEnvironments > 0 && r.Environments.Most > cfg.Fabric.MaxEnvironments {
			t.Errorf("seed %d: %d environments at once", seed, r.Environments.Most)
		}
	}
}

func conserves(t *testing.T, seed uint64, r *sim.Report) {
	t.Helper()
	x := r.Reasons
	if n := x.Reserved + x.Spillover + x.Scale + x.Overflow + x.Unreserved; r.Calls.Ran+r.Calls.Refused != r.Calls.Total || r.Calls.Ran != n ||
		x.Refused != r.Calls.Refused || r.Starts.Cold+r.Starts.Specialised+r.Starts.Warm != n {
		t.Errorf("seed %d: %+v %+v %+v", seed, r.Calls, r.Reasons, r.Starts)
	}
	for _, m := range r.PerManager {
		if m.MostPlaces > r.Capacity || m.Utilisation > 1 {
			t.Errorf("seed %d: %+v of %d places", seed, m, r.Capacity)
		}
	}
}

// lines is a source of calls that are written down.
type lines []sim.Call

func (l *lines) Next() (sim.Call, error) {
	if len(*l) == 0 {
		return sim.Call{}, io.EOF
	}
	c := (*l)[0]
	*l = (*l)[1:]
	return c, nil
}

// Unix time, hours without a call and lines out of order make no difference.
func TestOrderAndGaps(t *testing.T) {
	t.Parallel()
	calls := lines{
		{At: 3 * time.Hour, Function: "f", Run: time.Second}, {At: 0, Function: "f", Run: time.Second}, {At: 2 * time.Second, Function: "f", Run: time.Second},
	}
	moved := make(lines, 3)
	for i, c := range []int{1, 2, 0} {
		moved[i] = calls[c]
		moved[i].At += 1_700_000_000 * time.Second
	}
	one, err := sim.Run(t.Context(), sim.Config{}, &calls)
	if err != nil {
		t.Fatal(err)
	}
	two, err := sim.Run(t.Context(), sim.Config{}, &moved)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(one)
	b, _ := json.Marshal(two)
	if !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
	if one.Starts.Cold != 2 || one.Starts.Warm != 1 || one.Environments.Expired != 1 || one.Seconds < 3*3600 || one.Messages["manager_status"] < 3*3600*2*8 {
		t.Errorf("%s", a)
	}
}

// A call that comes too late to be put in its place is refused by its line.
func TestTooFarOutOfOrder(t *testing.T) {
	t.Parallel()
	n := 0
	_, err := sim.Run(t.Context(), sim.Config{}, source(func() (sim.Call, error) {
		n++
		at := time.Duration(n) * time.Microsecond
		if n == 70_000 {
			at = 0
		}
		return sim.Call{At: at, Function: "f", Line: n + 1}, nil
	}))
	var line *sim.LineError
	if !errors.As(err, &line) || line.Line != 70_001 || line.Field != "at_ms" || !strings.Contains(err.Error(), "sort") {
		t.Errorf("%v", err)
	}
}

type source func() (sim.Call, error)

func (s source) Next() (sim.Call, error) { return s() }

func TestRefusals(t *testing.T) {
	t.Parallel()
	one := func() sim.Source { return &lines{{Function: "f", Run: time.Second}} }
	for _, c := range []struct {
		cfg  sim.Config
		src  sim.Source
		says string
	}{
		{sim.Config{Managers: -1, Capacity: 1e9}, one(), `managers: is "-1"; 1 to 256; capacity: is "1000000000"`},
		{sim.Config{Hop: time.Hour}, one(), `hop: is "1h0m0s"`},
		{sim.Config{Reserve: []sim.Reservation{{Function: "a b", Limit: 1}}}, one(), `reserve: is "a b"; a name`},
		{sim.Config{Reserve: []sim.Reservation{{Function: "f", Limit: 321}}}, one(), "what fits into the 320 places"},
		{sim.Config{Reserve: []sim.Reservation{{Function: "f", Limit: 1}, {Function: "f", Limit: 2}}}, one(), "one limit for each function and time"},
		{sim.Config{Fabric: schema.Fabric{Theta: 7}}, one(), `fabric: is "`},
		{sim.Config{}, &lines{}, "at least one"},
	} {
		if _, err := sim.Run(t.Context(), c.cfg, c.src); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, wants %q", err, c.says)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := sim.Run(ctx, sim.Config{}, one()); !errors.Is(err, stopped) {
		t.Errorf("%v", err)
	}
}

// The all-knowing scheduler: what its rules say of calls that are few enough to count by hand.
func TestKnowing(t *testing.T) {
	t.Parallel()
	const s = time.Second
	at := func(at time.Duration, function string, run time.Duration) sim.Call {
		return sim.Call{At: at, Function: function, Run: run, Init: s}
	}
	for name, c := range map[string]struct {
		places  int
		calls   lines
		made    int
		seconds float64
		refused int
		wait    time.Duration
	}{
		"one after the other": {places: 2, calls: lines{at(0, "f", s), at(3*s, "f", s), at(6*s, "f", s)}, made: 1, seconds: 7, wait: s},
		"one waits for another rather than an init": {places: 2, calls: lines{at(0, "f", s), at(3*s, "f", s), at(3500*time.Millisecond, "f", s)},
			made: 1, seconds: 5, wait: s},
		"a longer one is not waited for":              {places: 2, calls: lines{at(0, "f", 9*s), at(3*s, "f", s)}, made: 2, seconds: 12, wait: s},
		"what is used last makes way":                 {places: 2, calls: lines{at(0, "f", s), at(0, "g", s), at(4*s, "h", s), at(8*s, "g", s), at(20*s, "f", s)}, made: 4, seconds: 2 + 9 + 2 + 2, wait: s},
		"nobody makes way: it waits":                  {places: 1, calls: lines{at(0, "f", 4*s), at(2*s, "g", s)}, made: 2, seconds: 5 + 2, wait: 4 * s},
		"after the start-by it is refused":            {places: 1, calls: lines{at(0, "f", 30*s), at(2*s, "g", s)}, made: 1, seconds: 31, refused: 1, wait: s},
		"after the keep-alive it is gone":             {places: 9, calls: lines{at(0, "f", s), at(time.Hour, "f", s)}, made: 2, seconds: 4, wait: s},
		"larger than a manager":                       {places: 1, calls: lines{{Function: "f", MemoryMB: 512, Run: s}}, refused: 1},
		"a sub-tenant's environment is nobody else's": {places: 9, calls: lines{{Function: "f", Tenant: "a", Run: s, Init: s}, {At: 5 * s, Function: "f", Tenant: "b", Run: s}}, made: 2, seconds: 4, wait: s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := sim.Run(t.Context(), sim.Config{Managers: 1, Capacity: c.places}, &c.calls)
			if err != nil {
				t.Fatal(err)
			}
			if k := r.Knowing; k.Made != c.made || k.Seconds != c.seconds || k.Refused != c.refused || k.WaitP99 != float64(c.wait/time.Millisecond) || !k.Exact {
				t.Errorf("%+v", k)
			}
		})
	}
}

// A fabric that makes nothing ahead of calls and refuses none made more than the all-knowing scheduler in all of these workloads. That
// is no law (see its rules), but how it has been.
func TestKnowingMakesFewer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		r, err := sim.Run(t.Context(), sim.Config{Managers: 4}, &sim.Workload{Seed: seed, Duration: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if k := r.Knowing; k.Made > r.Environments.Made || k.Made < 20 || k.Seconds > r.Environments.Seconds || k.Refused+r.Calls.Refused > 0 {
			t.Errorf("seed %d: %+v beside %+v", seed, k, r.Environments)
		}
	}
}

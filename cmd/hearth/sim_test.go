package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/sim"
)

const simTrace = "at_ms,function,duration_ms,init_ms\n0,count,20,100\n500,count,20,\n510,count,20,\n900,resize,50,\n"

func TestSim(t *testing.T) {
	t.Parallel()
	r := surroundings{stdin: simTrace}.run(t, "sim", "--trace", "-", "--managers", "3", "--reserve", "resize=2")
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	golden(t, "sim.txt", r.stdout)

	file := filepath.Join(t.TempDir(), "calls.csv")
	if err := os.WriteFile(file, []byte(simTrace), 0o600); err != nil {
		t.Fatal(err)
	}
	r = alone(t, "sim", "--trace", file, "--managers", "3", "--reserve", "resize=2@100ms", "--set", "theta=0.9", "--json")
	var report sim.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != exitOK || strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	if report.Calls.Total != 4 || report.Managers != 3 || report.Reasons.Reserved != 1 || report.Environments.Members != 2 || report.Knowing.Made != 2 {
		t.Errorf("%s", r.stdout)
	}
}

// Every key of the JSON is named in the help.
func TestSimHelpNamesItsKeys(t *testing.T) {
	t.Parallel()
	help := alone(t, "sim", "--help").stdout
	r := surroundings{stdin: simTrace}.run(t, "sim", "--trace", "-", "--reserve", "count=1", "--json")
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				if !strings.Contains(help, key) {
					t.Errorf("the help does not name %q", key)
				}
				if key != "messages" {
					walk(inner)
				}
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	var report any
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v\n%s%s", err, r.stdout, r.stderr)
	}
	walk(report)
}

// The environment gives what flags do not, and a seed gives the same calls again.
func TestSimByEnvironment(t *testing.T) {
	t.Parallel()
	s := surroundings{env: map[string]string{"HEARTH_DURATION": "2s", "HEARTH_SEED": "7", "HEARTH_RESERVE": "f1=2\nf2=1", "HEARTH_JSON": "true"}}
	one := s.run(t, "sim")
	two := alone(t, "sim", "--duration", "2s", "--seed", "7", "--reserve", "f1=2", "--reserve", "f2=1", "--json")
	if one.code != exitOK || one != two || !strings.Contains(one.stdout, `"function":"f2"`) {
		t.Errorf("%+v\n%+v", one, two)
	}
}

func TestSimRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, stdin, says string }{
		{"--managers 0", "", "--managers is 0; 1 to 256"},
		{"--capacity 0", "", "--capacity is 0; 1 to 100000"},
		{"--frontends 65", "", "--frontends is 65; 1 to 64"},
		{"--init 0s", "", "--init is 0s; 1us to 1m0s"},
		{"--hop -1s", "", "--hop is -1s"},
		{"--lag 2m", "", "--lag: is \"2m0s\"; 0s to 1m0s"},
		{"--functions 0", "", "--functions is 0"},
		{"--rate NaN", "", "--rate is NaN; above 0"},
		{"--duration 0s", "", "--duration is 0s"},
		{"--seed -1", "", "invalid argument"},
		{"--set tetha=1", "", "did you mean theta?"},
		{"--reserve f", "", "NAME=N or NAME=N@D is wanted"},
		{"--reserve f=-1", "", "NAME=N or NAME=N@D is wanted"},
		{"--reserve f=1@x", "", "NAME=N or NAME=N@D is wanted"},
		{"--reserve f!=1", "", "--reserve: is \"f!\"; a name"},
		{"--reserve f1=2 --reserve f1=3", "", "one limit for each function and time"},
		{"--reserve f1=400", "", "--reserve f1: is \"400\"; what fits into the 320 places"},
		{"--trace /nowhere/at/all", "", "--trace /nowhere/at/all: no such file or directory; a CSV file is wanted"},
		{"--trace - --seed 3", simTrace, "leave one of them out"},
		{"--trace -", "", "--trace -, line 1: is missing"},
		{"--trace -", "at_ms,function,duration_ms\n", "--trace -: calls: at least one"},
		{"--trace -", simTrace + "-4,count,3,\n", `--trace -, line 6: at_ms is "-4"; milliseconds`},
		{"x", "", `does not take "x"`},
	} {
		r := surroundings{stdin: c.stdin}.run(t, append([]string{"sim"}, strings.Fields(c.args)...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
			t.Errorf("%s: exit %d, %s, wants %q", c.args, r.code, r.stderr, c.says)
		}
	}
}

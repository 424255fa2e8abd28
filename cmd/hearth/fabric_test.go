package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"
)

// running is a `hearth up` inside this test, and the surroundings of a user whose fabric it is.
type running struct {
	surroundings
	readyLine
	stop func() result
}

// up starts a fabric on free ports, of bare processes, as any user may; the test's cleanup stops it.
func up(t *testing.T, flags ...string) *running {
	t.Helper()
	r := &running{surroundings: surroundings{config: t.TempDir()}}
	ready := filepath.Join(t.TempDir(), "ready.json")
	args := append([]string{"up", "--data", filepath.Join(t.TempDir(), "data"), "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--ready-file", ready, "--log-level", "warn", "--ephemeral", "--driver", "process"}, flags...)
	ready = lastReadyFile(args)
	ctx, interrupt := context.WithCancelCause(context.Background())
	ended := make(chan struct{})
	var got result
	var loop conc.WaitGroup
	loop.Go(func() {
		defer close(ended)
		got = r.runContext(ctx, t, args...)
	})
	r.stop = func() result {
		interrupt(errInterrupted)
		loop.Wait()
		return got
	}
	t.Cleanup(func() { r.stop() })
	eventually(t, "the fabric is ready", func() bool {
		select {
		case <-ended:
			t.Fatalf("exit %d: %s", got.code, got.stderr)
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &r.readyLine) == nil
	})
	return r
}

// lastReadyFile is the ready file that counts.
func lastReadyFile(args []string) (file string) {
	for i, arg := range args {
		if arg == "--ready-file" {
			file = args[i+1]
		}
	}
	return file
}

// must runs a command that has to succeed and gives its data.
func (r *running) must(t *testing.T, args ...string) string {
	t.Helper()
	got := r.run(t, args...)
	if got.code != exitOK {
		t.Fatalf("hearth %s: exit %d\n%s%s", strings.Join(args, " "), got.code, got.stdout, got.stderr)
	}
	return got.stdout
}

// buildFunction builds a function of the source tree.
func buildFunction(t *testing.T, what string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bootstrap")
	if err := goBuild(t.Context(), what, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestCommandsOnARunningFabric(t *testing.T) {
	t.Parallel()
	f := up(t, "--managers", "2", "--capacity", "8", "--set", "keep-alive=5m")
	bootstrap := buildFunction(t, "./examples/echo")

	// The credential and the address are found by the note that `up` left.
	first := decode[deployed](t, f.must(t, "deploy", "echo", bootstrap, "--runtime", "provided", "--json"))
	if !first.Created || !first.Changed || first.Version != "$LATEST" || first.State != "Active" || len(first.CodeSHA256) != 64 || first.Files != 1 {
		t.Errorf("%+v", first)
	}
	again := decode[deployed](t, f.must(t, "deploy", "echo", bootstrap, "--runtime", "provided", "--json"))
	if again.Created || again.Changed || again.CodeSHA256 != first.CodeSHA256 {
		t.Errorf("an unchanged deploy: %+v", again)
	}
	live := decode[deployed](t, f.must(t, "deploy", "echo", bootstrap, "--memory", "256", "--env", "KEY=secret", "--alias", "live", "--json"))
	if live.Created || !live.Changed || live.Version != "1" || live.Alias != "live" {
		t.Errorf("%+v", live)
	}

	t.Run("invoke", func(t *testing.T) { invokeOn(t, f) })
	t.Run("logs", func(t *testing.T) { logsOn(t, f) })
	t.Run("ls and describe", func(t *testing.T) { listOn(t, f) })
	t.Run("ring", func(t *testing.T) {
		ring := decode[struct {
			Managers []struct{ ID, State string }
			Arcs     []struct {
				Subject string
				Ranks   []string
			}
		}](t, f.must(t, "ring", "echo", "--json"))
		if len(ring.Managers) != 2 || len(ring.Arcs) != 1 || len(ring.Arcs[0].Ranks) != 2 {
			t.Errorf("%+v", ring)
		}
		if table := f.must(t, "ring"); !strings.Contains(table, "MANAGER") || !strings.Contains(table, "no call waiting") {
			t.Error(table)
		}
	})
	t.Run("fabric", func(t *testing.T) {
		if got := f.must(t, "fabric", "get", "keep-alive"); got != "5m0s\n" {
			t.Errorf("what --set gave is %q", got)
		}
		values := decode[map[string]string](t, f.must(t, "fabric", "set", "reclaim=1m", "theta=0.5", "--json"))
		if values["reclaim"] != "1m0s" || values["theta"] != "0.5" || values["keep-alive"] != "5m0s" {
			t.Errorf("%v", values)
		}
		config := f.must(t, "config", "fabric get", "--json")
		if want := `"flag":"server","value":"` + f.NATS + `","source":"running fabric, process `; !strings.Contains(config, want) {
			t.Errorf("config has no %s: %s", want, config)
		}
		golden(t, "fabric-get.txt", f.must(t, "fabric", "get"))
		golden(t, "fabric-get.txt", f.must(t, "fabric")) // alone it is the same
		if alone, get := f.must(t, "fabric", "--json"), f.must(t, "fabric", "get", "--json"); alone != get {
			t.Errorf("alone it prints %s, and get %s", alone, get)
		}
		if r := f.run(t, "fabric", "gte"); r.code != exitUsage || !strings.Contains(r.stderr, "did you mean get?") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	t.Run("token of others", func(t *testing.T) { // against the keys of both managers, over NATS
		r := f.run(t, "token", "verify", "eyJhbGciOiJFZERTQSIsImtpZCI6IngiLCJ0eXAiOiJoZWFydGgtZW52K2p3dCJ9.e30.c2ln")
		if r.code != exitUsage || !strings.Contains(r.stderr, "unknown-key") || !strings.Contains(r.stderr, "among the 2 of the set") {
			t.Errorf("exit %d, %s", r.code, r.stderr)
		}
	})
	t.Run("completion", func(t *testing.T) { completionOn(t, f) })
	t.Run("trace", func(t *testing.T) { traceOn(t, f) })
	t.Run("loglevel", func(t *testing.T) { levelOn(t, f) })
	t.Run("a misspelt function", func(t *testing.T) {
		for _, command := range []string{"invoke", "describe", "rm", "ring"} {
			got := f.run(t, command, "ehco")
			if got.code != exitUsage || !strings.Contains(got.stderr, "did you mean echo?") {
				t.Errorf("%s: exit %d: %s", command, got.code, got.stderr)
			}
		}
	})
	t.Run("rm", func(t *testing.T) { removeOn(t, f) })

	got := f.stop()
	if got.code != exitOK || got.stdout != "ready "+f.HTTP+" "+f.NATS+"\n" {
		t.Errorf("up ended with %d: %q\n%s", got.code, got.stdout, got.stderr)
	}
	if strings.Count(got.stderr, "hearth: ") != 1 || !strings.Contains(got.stderr, "hearth: driver process: ") {
		t.Errorf("up said %q, want one line, on its driver", got.stderr)
	}
	if running, err := f.app(t).notes(); err != nil || len(running) != 0 {
		t.Errorf("its note stayed: %v, %v", running, err)
	}
}

func invokeOn(t *testing.T, f *running) {
	payload := `{"b": [1, 2], "a": "ü"}`
	if got := f.must(t, "invoke", "echo", "--payload", payload); got != payload {
		t.Errorf("the answer came as %q", got)
	}
	stdin := *f
	stdin.stdin = "no JSON at all"
	if got := stdin.must(t, "invoke", "echo:live", "--payload", "-"); got != "no JSON at all" {
		t.Errorf("standard input came back as %q", got)
	}
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("[7]"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := f.must(t, "invoke", "echo:1", "--payload", "@"+file, "--json", "--timeout", "20s")
	got := decode[invocation](t, text)
	if string(got.Payload) != "[7]" || got.Status != "ok" || got.Version != "1" || got.Function != "echo" || got.RequestID == "" ||
		got.Arc == "" || got.Reason != "unreserved" || got.Manager == "" || got.Environment == "" || got.Rank == nil || got.Attempt != 1 {
		t.Errorf("%s", text)
	}
	keys := regexp.MustCompile(`"(\w+)":`).FindAllString(text, -1)
	golden(t, "invoke-keys.txt", strings.Join(keys, "\n")+"\n")

	got = decode[invocation](t, f.run(t, "invoke", "echo:7", "--json").stdout)
	if got.Status != "refused" || got.Error == nil || got.Error.Code != "ResourceNotFoundException" {
		t.Errorf("an unknown version: %+v", got)
	}
	got = decode[invocation](t, f.run(t, "invoke", "echo", "--tenant", "*", "--json").stdout) // refused on this side
	if got.Status != "refused" || got.Error == nil || got.Error.Code != "InvalidParameterValueException" || got.Tenant != "*" {
		t.Errorf("a bad sub-tenant: %+v", got)
	}
	if r := f.run(t, "invoke", "echo:liev"); r.code != exitUsage || !strings.Contains(r.stderr, "did you mean echo:live?") {
		t.Errorf("a misspelt alias: exit %d: %s", r.code, r.stderr)
	}
	if r := f.run(t, "reserve", "ehco:1", "1"); r.code != exitUsage || !strings.Contains(r.stderr, "did you mean echo?") {
		t.Errorf("a reservation of a misspelt function: exit %d: %s", r.code, r.stderr)
	}
	if r := f.run(t, "invoke", "echo", "--tenant", "t"); r.code != exitUsage || !strings.Contains(r.stderr, "TenantId") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "readme"), []byte("nothing to run"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.must(t, "deploy", "broken", folder, "--runtime", "provided")
	r := f.run(t, "invoke", "broken")
	if r.code != 1 || !strings.Contains(r.stdout, `"errorType":"Runtime.InvalidEntrypoint"`) || strings.Count(r.stderr, "\n") != 1 ||
		!strings.Contains(r.stderr, "executable `bootstrap`") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got = decode[invocation](t, f.run(t, "invoke", "broken", "--json").stdout)
	if got.Status != "function-error" || got.Error == nil || got.Error.Type != "Runtime.InvalidEntrypoint" {
		t.Errorf("%+v", got)
	}
	f.must(t, "rm", "broken")
}

func listOn(t *testing.T, f *running) {
	line := decode[functionLine](t, f.must(t, "ls", "--json"))
	if line.Function != "echo" || line.MemoryMB != 256 || line.TimeoutS != 3 || line.Runtime != "provided" || line.Env != nil && line.Env[0] != "KEY" {
		t.Errorf("%+v", line)
	}
	described := f.must(t, "describe", "echo", "--json")
	got := decode[struct {
		Versions []functionLine
		Aliases  []aliasLine
		Env      []string
	}](t, described)
	if len(got.Versions) != 1 || len(got.Aliases) != 1 || got.Aliases[0].Alias != "live" || got.Aliases[0].Version != "1" ||
		len(got.Env) != 1 || strings.Contains(described, "secret") {
		t.Error(described)
	}
	if table := f.must(t, "ls"); !strings.HasPrefix(table, "FUNCTION") || !strings.Contains(table, "256 MB") {
		t.Error(table)
	}
	if text := f.must(t, "describe", "echo"); !strings.Contains(text, "ALIAS") || !strings.Contains(text, "KEY") || strings.Contains(text, "secret") {
		t.Error(text)
	}
}

func removeOn(t *testing.T, f *running) {
	if r := f.run(t, "rm", "echo:1"); r.code != exitUsage || !strings.Contains(r.stderr, "alias live") {
		t.Errorf("a version that an alias names: exit %d: %s", r.code, r.stderr)
	}
	for _, what := range []string{"echo:live", "echo:1", "echo"} {
		if got := f.must(t, "rm", what); !strings.HasPrefix(got, "removed ") {
			t.Errorf("%s: %q", what, got)
		}
		if r := f.run(t, "rm", what); r.code != exitUsage {
			t.Errorf("%s again: exit %d: %s", what, r.code, r.stderr)
		}
	}
	if r := f.run(t, "ls"); r.stdout != "" || !strings.Contains(r.stderr, "`hearth deploy`") {
		t.Errorf("nothing is left: %q, %q", r.stdout, r.stderr)
	}
}

// The demo is what a newcomer sees first: every step is right, and the figures add up.
func TestDemo(t *testing.T) {
	t.Parallel()
	r := alone(t, "demo", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	calls, left, steps, customers := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for _, line := range lines[:len(lines)-1] {
		s := decode[demoStep](t, line)
		if !s.OK {
			t.Errorf("%s", line)
		}
		steps[s.Step]++
		switch s.Step {
		case stepCall:
			calls[s.Function+" by "+s.Door]++
			customers[s.Tenant]++
		case stepLeftOut:
			left[s.Function]++
		}
	}
	sum := decode[struct{ Summary demoSummary }](t, lines[len(lines)-1]).Summary
	if sum.Calls == 0 || sum.OK != sum.Calls || sum.Cold+sum.Specialised+sum.Warm != sum.Calls || sum.P99 < sum.P50 || sum.RatioCore <= 0 {
		t.Errorf("%+v", sum)
	}
	if steps[stepEvents] != 1 || steps[stepDeadLetter] != 1 || steps[stepBurst] != 1 || sum.Calls < demoBurst {
		t.Errorf("steps %v, %d calls", steps, sum.Calls)
	}
	may := map[string]bool{stepTenants: strings.Contains(r.stderr, "bare processes")}
	for function, need := range map[string]string{"count": "node", "sums": "python3"} {
		_, err := exec.LookPath(need)
		may[function] = err != nil
	}
	for function := range left {
		if !may[function] {
			t.Errorf("%s was left out, and this host can run it: %s", function, r.stdout)
		}
	}
	if n := steps[stepTenants]; n+left[stepTenants] != 1 || n == 1 && (customers[customerA] != 2 || customers[customerB] != 1 || sum.Specialised == 0) {
		t.Errorf("steps %v, calls by customers %v, %+v", steps, customers, sum)
	}
	for _, function := range []string{"resize", "echo"} {
		if calls[function+" by nats"] == 0 || calls[function+" by http"] == 0 {
			t.Errorf("%s was not called by every door: %v", function, calls)
		}
	}
}

// One short measurement by the real processes: the figures are there, none of them is judged.
func TestBenchOfItsOwn(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--driver", "null", "--concurrency", "2", "--duration", "500ms", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := decode[benchResult](t, r.stdout)
	if got.Errors != 0 || got.Function.Calls == 0 || got.Core.Calls == 0 || got.RatioP50 <= 0 || got.RatioRate <= 0 || got.Concurrency != 2 ||
		got.Function.P99 < got.Function.P50 || got.Driver != "null" {
		t.Errorf("%s", r.stdout)
	}
}

// The twin without NATS is measured in the same rounds, by the same package.
func TestBenchAgainstTheBareHop(t *testing.T) {
	t.Parallel()
	r := alone(t, "bench", "--own", "--twin", "hop", "--concurrency", "2", "--connections", "1", "--duration", "500ms", "--json")
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := decode[benchResult](t, r.stdout)
	if got.Errors != 0 || got.Hop == nil || got.Hop.Calls < 2*2*got.Rounds || got.Function.Calls == 0 || got.Core.Calls == 0 || got.Connections != 1 {
		t.Fatalf("%s", r.stdout)
	}
	if *got.RatioSum <= 0 || *got.RatioSum > got.RatioP50 || *got.RatioHop <= 0 {
		t.Errorf("the ratio to core and hop together lies below that to core alone: %s", r.stdout)
	}
}

// Ctrl-C while a call runs: the command ends with 130 and says how to find the call, which goes on.
func TestInterruptedCall(t *testing.T) {
	t.Parallel()
	f := up(t, "--capacity", "2", "--drain-timeout", "0s")
	hangs := buildFunction(t, "./e2e/fn")
	f.must(t, "deploy", "hangs", hangs, "--runtime", "provided", "--timeout", "60s")
	ctx, interrupt := context.WithCancelCause(t.Context())
	var got result
	var call conc.WaitGroup
	call.Go(func() { got = f.runContext(ctx, t, "invoke", "hangs", "--payload", `"hang"`) })
	eventually(t, "the call runs", func() bool {
		ring := decode[struct {
			Managers []struct{ Environments struct{ Busy int } }
		}](t, f.must(t, "ring", "--json"))
		return ring.Managers[0].Environments.Busy == 1
	})
	interrupt(errInterrupted)
	call.Wait()
	if got.code != exitInterrupted || !regexp.MustCompile(`^hearth: interrupted; the call of hangs goes on as request [0-9a-f-]{36}\n$`).MatchString(got.stderr) {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	// The fabric is stopped while the call runs: it drains no longer than it was told.
	f.must(t, "rm", "hangs")
}

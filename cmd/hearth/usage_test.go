package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// commands are all commands, with the words that call them.
func commands(root *cobra.Command) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		all[cmd.CommandPath()] = cmd
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for path, cmd := range commands(surroundings{}.app(t).root()) {
		if cmd.Hidden || strings.Contains(path, "completion") || path == "hearth help" {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			r := alone(t, append(strings.Fields(path)[1:], "--help")...)
			if r.code != exitOK || r.stderr != "" {
				t.Errorf("exit %d: %s", r.code, r.stderr)
			}
			golden(t, "help/"+strings.ReplaceAll(path, " ", "-")+".txt", r.stdout)
		})
	}
}

// CLI, Habits: an example for every command and a use for every flag.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	all := commands(surroundings{}.app(t).root())
	for path, cmd := range all {
		if cmd.Hidden || strings.HasPrefix(path, "hearth completion ") {
			continue
		}
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no short help", path)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("--%s of %s has no help", f.Name, path)
			}
		})
	}
}

func TestBadUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"depoly", "did you mean deploy?"},
		{"completion bsh", "did you mean bash?"},
		{"qqqq", "`hearth --help` lists them"},
		{"deploy", "misses NAME and PATH"},
		{"deploy x", "misses PATH"},
		{"deploy x y z", `does not take "z"`},
		{"invoke", "misses NAME"},
		{"ls x", `does not take "x"`},
		{"ring a b", `does not take "b"`},
		{"reserve", "misses NAME:VERSION"},
		{"limit", "misses NAME"},
		{"limit count x", "0 or more"},
		{"limit count 3 --delete", "not both"},
		{"limit count 0 --per-tenant", "1 or more"},
		{"limit count x --per-tenant", "1 or more"},
		{"limit count 3 --per-tenant --delete", "not both"},
		{"reserve count 3", "wants a version"},
		{"reserve count:1", "misses N, or --delete"},
		{"reserve count:1 -- -3", "0 or more"},
		{"reserve count:1 3 --delete", "not both"},
		{"reserve count:1 -1", "-1 is below 0, which hearth reserve does not take; use: hearth reserve NAME:VERSION [N]"},
		{"reserve count:1 -12.5 --wait", "-12.5 is below 0"},
		{"reserve count:1 -- -1", "N is \"-1\""},
		{"limit count -30", "-30 is below 0, which hearth limit does not take"},
		{"up --manager 3", "did you mean --managers?"},
		{"up --managers", "flag needs an argument"},
		{"up --managers x", "invalid argument"},
		{"up --managers 0", "--managers is 0; 1 to 64"},
		{"up --capacity -1", "--capacity is -1"},
		{"up --driver nul", "did you mean null?"},
		{"up --set theta", "KEY=VALUE is wanted"},
		{"up --set tetha=1", "did you mean theta?"},
		{"up --set theta=7", "a number above 0, at most 1"},
		{"up --drain-timeout -1s", "--drain-timeout is -1s"},
		{"up --log-level loud", "debug, info, warn or error"},
		{"up --log-format xml", "text or json"},
		{"up --server nats://x --nats 127.0.0.1:1", "leave one of them out"},
		{"up --context x", "up takes no --context"},
		{"up --http here", "--http: is \"here\""},
		{"up --driver process --http 0.0.0.0:0 --nats 0.0.0.0:0", "--nats: is \"0.0.0.0:0\"; a loopback address"},
		{"up -x", "unknown shorthand flag"},
		{"manager --id a/b", "--id is \"a/b\"; 1 to 64"},
		{"manager --capacity -1", "--capacity is -1"},
		{"manager --driver nul", "did you mean null?"},
		{"manager --set tetha=1", "did you mean theta?"},
		{"manager --drain-timeout -1s", "--drain-timeout is -1s"},
		{"manager m1", `does not take "m1"`},
		{"frontend --http none --context nowhere/at/all", "`nats context ls` lists them"},
		{"frontend --id _", "--id is \"_\""},
		{"frontend --http 0.0.0.0:0", "--http: is \"0.0.0.0:0\"; a loopback address"},
		{"frontend --http here", "--http: is \"here\""},
		{"frontend --managers 2", "there is no flag --managers"},
		{"drain", "misses MANAGER"},
		{"doctor --driver nativ", "did you mean native?"},
		{"doctor x", `does not take "x"`},
		{"doctor --only hots", "did you mean host?"},
		{"doctor --role manager", "--id is \"\""},
		{"doctor --id m7", "leave --id out"},
		{"doctor --role root", "--role is \"root\""},
		{"credential", "misses ROLE"},
		{"credential manger m1", "did you mean manager?"},
		{"credential manager", "the id of a manager is \"\""},
		{"credential client a/b", "the id of a client is \"a/b\""},
		{"credential admin me", "an admin has no name"},
		{"credential client shop --data d --out shop.nk", "leave one of them out"},
		{"credential admin --data /nowhere/at/all", "is no data folder of a `hearth up`"},
		{"fabric sett", "did you mean set?"},
		{"fabric get thet", "did you mean theta?"},
		{"fabric set", "misses KEY=VALUE"},
		{"fabric set t=0 arcs=x", "t: is \"0\""},
		{"fabric set t=0 arcs=x", "arcs: is \"x\""},
		{"fabric set t=2 t=3", "t stands twice"},
		{"invoke a/b", "NAME: is"},
		{"invoke x --payload {", "--payload is no JSON"},
		{"invoke x --payload @/nowhere/at/all", "no such file"},
		{"invoke x --timeout -1s", "--timeout is -1s"},
		{"invoke x --tenant *", "TenantId"},
		{"invoke x --async --log", "leave them out with --async"},
		{"invoke x --async --timeout 1s", "leave them out with --async"},
		{"invoke x --id 7", "add --async"},
		{"events", "misses NAME"},
		{"events a/b", "NAME: is"},
		{"events x --limit -1", "--limit is -1"},
		{"deadletters sho", "did you mean show?"},
		{"deadletters show", "misses ID"},
		{"deadletters redrive", "one of them"},
		{"deadletters redrive 1 --all", "one of them"},
		{"deadletters rm --function x --all", "one of them"},
		{"deploy x . --runtime provided --retries 3", "--retries: is \"3\""},
		{"deploy x . --runtime provided --max-age 59s", "--max-age: is \"59s\"; whole seconds, 1m to 6h; "},
		{"deploy x . --runtime provided --retry-delay 1500ms", "--retry-delay: is \"1.5s\"; whole seconds, 1s to 15m; "},
		{"deploy x . --runtime provided --on-failure x", "--on-failure: is \"x\""},
		{"deploy x . --runtime provided --on-failure arn:aws:sqs:us-east-1:000000000000:q", "queues"},
		{"describe a:b", "NAME: is"},
		{"logs", "misses NAME"},
		{"logs a/b", "NAME: is"},
		{"logs x --since -1s", "--since is -1s"},
		{"logs x --tenant *", "TenantId"},
		{"rm a:b:c:d", "NAME: is"},
		{"trace", "misses REQUEST-ID"},
		{"trace 17", "REQUEST-ID is \"17\"; a UUID"},
		{"deploy a/b . --runtime provided", "NAME: is"},
		{"deploy x . --runtime wasm", "--runtime: is \"wasm\""},
		{"deploy x . --runtime pyton", "python3.13), did you mean python?"},
		{"deploy x . --runtime provided --memory 1", "--memory: is \"1\""},
		{"deploy x . --runtime provided --timeout 1500ms", "--timeout: is \"1.5s\""},
		{"deploy x . --runtime provided --timeout 1h", "--timeout: is \"3600\""},
		{"deploy x . --runtime provided --tenancy each", "--tenancy: is \"each\""},
		{"deploy x . --runtime provided --egress here", "--egress: is \"here\""},
		{"deploy x . --runtime provided --alias 7", "--alias: is \"7\""},
		{"deploy x . --runtime provided --env AWS_REGION=x", "--env AWS_REGION: is reserved"},
		{"deploy x . --runtime nodejs --handler=", "--handler: required"},
		{"deploy x /nowhere/at/all --runtime provided", "PATH: is"},
		{"bench --concurrency 0", "--concurrency is 0"},
		{"bench --duration 11m", "--duration is 11m"},
		{"bench --driver docker", "--driver is"},
		{"bench --payload {", "--payload is no JSON"},
		{"bench --own --function x", "leave one of them out"},
		{"bench --loop leen", "did you mean lean?"},
		{"bench --function x --loop aws", "leave it out with --function"},
		{"bench --connections 2000", "--connections is 2000; 1 to 1024"},
		{"bench --own --twin hopp", "did you mean hop?"},
		{"bench --twin hop", "add --own"},
		{"bench --own --twin hop --driver null", "leave out --driver"},
		{"bench-hop", "started by `hearth bench`"},
		{"bench --events", "add --own"},
		{"bench --own --events --drain 1", "--drain is 1; 2 to 2000000"},
		{"bench --own --driver null --reservations 5000", "--reservations is 5000; 1 to 4096"},
		{"bench --driver null --reservations 5", "add --own"},
		{"bench --own --reservations 5", "add --driver null"},
		{"bench --own --driver null --reservations 5 --concurrency 2", "leave out --concurrency"},
		{"bench-fabric", "started by `hearth bench`"},
		{"bench --own --events --driver null --drain 0", "leave one of them out"},
		{"bench --own --events --running 0", "--running is 0; 1 to 128"},
		{"bench --own --events --duration 2m", "up to 1m0s with --events"},
		{"bench --own --events --twin hop", "leave it out with --events"},
		{"bench --own --events --payload 1", "leave it out with --events"},
		{"bench-events", "started by `hearth bench`"},
		{"config upp", "did you mean up?"},
		{"ls --prefix Upper", "give another with --prefix"},
		{"bench-echo", "started by `hearth bench`"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			r := alone(t, strings.Fields(c.args)...)
			if r.code != exitUsage {
				t.Errorf("exit %d, want %d", r.code, exitUsage)
			}
			if !strings.HasPrefix(r.stderr, "hearth: ") || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%q: want one line that says %q", r.stderr, c.says)
			}
			if r.stdout != "" {
				t.Errorf("data of a refused command: %q", r.stdout)
			}
		})
	}
}

// A value of a variable may be a secret: it stands in no error.
func TestBadVariableIsNotRepeated(t *testing.T) {
	t.Parallel()
	r := alone(t, "deploy", "x", ".", "--runtime", "provided", "--env", "hunter2", "--env", "1A=hunter3")
	if r.code != exitUsage || strings.Contains(r.stderr, "hunter") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"ls", "ring", "describe x", "rm x", "invoke x", "invoke x --async", "events x", "deadletters ls", "deadletters redrive 1", "deadletters rm 1", "fabric get", "fabric set t=3", "bench --function x", "frontend --http 127.0.0.1:0"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			r := alone(t, append(strings.Fields(args), "--server", "nats://127.0.0.1:1")...)
			if r.code != exitUnreachable || !strings.Contains(r.stderr, "`hearth up`") || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("exit %d: %q", r.code, r.stderr)
			}
		})
	}
}

func TestInvokeTellsARefusalAsJSONToo(t *testing.T) {
	t.Parallel()
	r := alone(t, "invoke", "x", "--json", "--server", "nats://127.0.0.1:1")
	if r.code != exitUnreachable || !strings.Contains(r.stdout, `"status":"unavailable"`) || !strings.Contains(r.stdout, `"code":"Unavailable"`) {
		t.Errorf("exit %d: %s", r.code, r.stdout)
	}
}

// Every row of the table of errors decides the exit code, whatever wraps the error.
func TestExitCodesAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	for _, row := range schema.Table() {
		code, advice := verdict(&connectError{&schema.Error{Code: row.Code, Message: "m"}})
		if code != row.Exit || advice != row.Advice {
			t.Errorf("%s ends with %d and %q, want %d and %q", row.Code, code, advice, row.Exit, row.Advice)
		}
	}
	if code, _ := verdict(context.DeadlineExceeded); code != exitUnreachable {
		t.Errorf("the client's own time-out ends with %d", code)
	}
	if code, _ := verdict(context.Canceled); code != 5 {
		t.Errorf("anything else ends with %d", code)
	}
}

// A throttled call says why, when to come again and what to do, as text and as JSON.
func TestThrottledCallSaysWhy(t *testing.T) {
	t.Parallel()
	status, text := schema.ErrorHeaders(&schema.Error{
		Code: schema.CodeThrottled, Reason: schema.ThrottleRate, Retry: 3 * time.Second, Message: "function f got all it may get",
	})
	err := fmt.Errorf("call f: %w", schema.ParseErrorHeaders(status, text)) // as it comes from the fabric
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr}
	if code := a.exit(t.Context(), err); code != 3 {
		t.Errorf("exit %d", code)
	}
	want := "function f got all it may get (" + schema.ThrottleRate + ", retry after 3s); " + schema.CodeThrottled.Row().Advice
	if !strings.Contains(stderr.String(), want) {
		t.Errorf("told: %s\nwant: %s", &stderr, want)
	}
	cmd := a.invoke()
	cmd.SetContext(t.Context())
	if err := cmd.Flags().Set("json", "true"); err != nil {
		t.Fatal(err)
	}
	if got := a.noAnswer(cmd, client.Call{Function: "f"}, err); got != err || !strings.Contains(stdout.String(), schema.ThrottleRate+", retry after 3s") {
		t.Errorf("as JSON: %s", &stdout)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	r := surroundings{}.runContext(ctx, t, "ls", "--server", "nats://127.0.0.1:1")
	if r.code != exitInterrupted {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func TestErrorsAreOneHarmlessLine(t *testing.T) {
	t.Parallel()
	got := oneLine("a\nb\r\tc\x1b[31md\u009b2J\xff ")
	if got != "a b  c?[31md?2J?" {
		t.Errorf("%q", got)
	}
}

// TestComplaintsAreShort: what was wrong and what to do survive, megabytes of a function's message do not.
func TestComplaintsAreShort(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	a := &app{stderr: &stderr}
	a.complain("f failed: %s; --log shows more", strings.Repeat("é", 1<<20))
	line := stderr.String()
	if len(line) > longestLine+32 || !strings.HasPrefix(line, "hearth: f failed: é") || !strings.HasSuffix(line, "é; --log shows more\n") {
		t.Errorf("%d bytes: %.40q ... %q", len(line), line, line[len(line)-40:])
	}
}

// TestAdviceIsForThePlatformsFindings: a function that calls its error by a code of ours is not spoken for.
func TestAdviceIsForThePlatformsFindings(t *testing.T) {
	t.Parallel()
	failure := schema.FunctionError{Type: string(schema.CodeOutOfMemory)}
	if got := adviceFor(&failure, true); got != "; "+schema.CodeOutOfMemory.Row().Advice {
		t.Errorf("found by the platform: %q", got)
	}
	failure.Posted = true
	if got := adviceFor(&failure, true); got != "" {
		t.Errorf("posted by the function: %q", got)
	}
}

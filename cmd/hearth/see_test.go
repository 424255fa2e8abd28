package main

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// traceOn tells the stories of calls of function echo.
func traceOn(t *testing.T, f *running) {
	call := decode[invocation](t, f.must(t, "invoke", "echo", "--json"))
	story := decode[schema.Story](t, f.must(t, "trace", call.RequestID, "--json"))
	var steps []string
	for _, s := range story.Steps {
		steps = append(steps, s.Node.Kind+" "+s.What)
	}
	all := strings.Join(steps, ", ")
	if story.Status != schema.StoryOK || story.Function != "echo" || story.RequestID != call.RequestID || story.Tries != 1 || len(story.Silent) > 0 ||
		!strings.HasPrefix(all, "frontend admitted, frontend decided, frontend published, ") || !strings.Contains(all, "manager claimed, ") || !strings.Contains(all, "manager environment, ") ||
		!strings.Contains(all, "manager started, manager finished") {
		t.Errorf("%s: %+v", all, story)
	}
	text := f.must(t, "trace", strings.ToUpper(call.RequestID))
	for _, says := range []string{call.RequestID + "  echo:", "  ok", "AFTER", "manager " + call.Manager, "goes to unreserved arc " + call.Arc, "runs in environment " + call.Environment} {
		if !strings.Contains(text, says) {
			t.Errorf("%q is not told:\n%s", says, text)
		}
	}
	if strings.Contains(text, "CLOCK") {
		t.Errorf("there is one clock here:\n%s", text)
	}
	const nobody = "0b1fe5b4-9e7e-4b1c-8a4e-2f6f3a1b6c11"
	r := f.run(t, "trace", nobody)
	if r.code != exitUsage || !strings.Contains(r.stderr, "its last 10000 calls") || !strings.Contains(r.stderr, "`hearth logs NAME --request "+nobody) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// A story of several hosts says whose times may be compared, and no terminal obeys what stands in it.
func TestPrintStory(t *testing.T) {
	t.Parallel()
	node := func(kind, id, clock string) schema.StoryNode {
		return schema.StoryNode{Kind: kind, ID: id, Clock: clock}
	}
	s := &schema.Story{
		RequestID: "8476a536", Function: "resize", Version: "3", Tenant: "acme", Status: schema.StoryIsUnknown, Tries: 2, Left: 3,
		Silent: []string{"manager m3"}, Other: []string{"count"}, Others: []schema.StoryOther{{Function: "count", Tenant: "acme"}}, Node: node("frontend", "f1", "aa"),
		Steps: []schema.StoryStep{
			{Node: node("frontend", "f1", "aa"), What: "admitted", Text: "taken over NATS"},
			{Node: node("manager", "m2", "bb"), What: "given_back", Text: "bad \x1b[31m text"},
		},
	}
	var stdout, stderr buffer
	a := surroundings{}.app(t)
	a.stdout, a.stderr = &stdout, &stderr
	if err := a.printStory(s); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"8476a536  resize:3 for sub-tenant acme  unknown, 2 publications", "CLOCK  AFTER", "A      +0.000 ms  frontend f1  admitted    taken over NATS",
		"B      +0.000 ms  manager m2   given back  bad ?[31m text",
	} {
		if !strings.Contains(stdout.String(), says) {
			t.Errorf("%q is not told:\n%s", says, stdout.String())
		}
	}
	for _, says := range []string{"cannot be compared", "3 more delivery steps are left out", "manager m3", ": count for sub-tenant acme", "10,000 other calls"} {
		if !strings.Contains(stderr.String(), says) {
			t.Errorf("%q is not told:\n%s", says, stderr.String())
		}
	}
}

// levelOn changes from which level on the one process of this fabric logs, which was started with warn.
func levelOn(t *testing.T, f *running) {
	levels := func(args ...string) map[string]string {
		out := map[string]string{}
		for _, line := range strings.Split(strings.TrimSpace(f.must(t, append([]string{"loglevel", "--json"}, args...)...)), "\n") {
			n := decode[schema.NodeLevel](t, line)
			out[n.ID] = n.Level
		}
		return out
	}
	all := levels("all")
	if len(all) != 3 || all["m1"] != "warn" || all["m2"] != "warn" {
		t.Errorf("%v", all)
	}
	if got := levels("m1", "error", "--for", "1h"); len(got) != 1 || got["m1"] != "error" {
		t.Errorf("%v", got)
	}
	if got := levels("m2"); got["m2"] != "error" {
		t.Errorf("another node of the process: %v", got)
	}
	if text := f.must(t, "loglevel", "all", "warn"); strings.Count(text, "warn") != 3 || !strings.HasPrefix(text, "NODE") {
		t.Error(text)
	}
	r := f.run(t, "loglevel", "m3")
	if r.code != exitUsage || !strings.Contains(r.stderr, "did you mean m1?") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// completionOn completes what the fabric knows.
func completionOn(t *testing.T, f *running) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"invoke", ""}, "echo\n"}, {[]string{"describe", ""}, "echo\n"}, {[]string{"rm", ""}, "echo\n"}, {[]string{"ring", ""}, "echo\n"},
		{[]string{"deploy", ""}, "echo\n"}, {[]string{"logs", ""}, "echo\n"},
		{[]string{"invoke", "echo:"}, "echo:$LATEST\necho:1\necho:live\n"}, {[]string{"reserve", ""}, "echo:\n"}, {[]string{"reserve", "echo:"}, "echo:1\necho:live\n"},
		{[]string{"drain", ""}, "m1\tactive\nm2\tactive\n"}, {[]string{"worker", "--manager", ""}, "m1\tactive\nm2\tactive\n"},
		{[]string{"loglevel", "m1", ""}, "debug\ninfo\n"}, {[]string{"up", "--log-format", ""}, "text\njson\n"}, {[]string{"trace", ""}, ":4\n"},
	} {
		if got := f.must(t, append([]string{"__complete"}, c.args...)...); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s completes to %q, want %q", strings.Join(c.args, " "), got, c.want)
		}
	}
	if got := f.must(t, "__complete", "loglevel", ""); !strings.Contains(got, "m1\n") || !strings.Contains(got, "all\n") {
		t.Errorf("loglevel completes to %q", got)
	}
}

// Each shell gets a script of its own.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for shell, says := range map[string]string{"bash": "complete -o default", "zsh": "#compdef hearth", "fish": "complete -c hearth"} {
		if r := alone(t, "completion", shell); r.code != exitOK || !strings.Contains(r.stdout, says) || r.stderr != "" {
			t.Errorf("%s: exit %d, %d bytes, %s", shell, r.code, len(r.stdout), r.stderr)
		}
	}
}

// Where nobody answers, as at a port at which something listens and says nothing, a key that was pressed completes to nothing, and says
// nothing.
func TestCompletionWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	for _, server := range []string{"nats://" + l.Addr().String(), "nats://127.0.0.1:1"} {
		for _, args := range [][]string{{"invoke", "echo:"}, {"drain", ""}, {"reserve", ""}, {"ls", "--server", server, "--context", ""}} {
			r := surroundings{env: map[string]string{"HEARTH_SERVER": server}}.run(t, append([]string{"__complete"}, args...)...)
			if r.code != exitOK || !strings.HasPrefix(r.stdout, ":") || strings.Contains(r.stderr, "hearth:") {
				t.Errorf("%s at %s: exit %d, %q, %q", strings.Join(args, " "), server, r.code, r.stdout, r.stderr)
			}
		}
	}
}

// Every command that prints data can print it as JSON.
func TestEveryCommandPrintsJSON(t *testing.T) {
	t.Parallel()
	speech := map[string]string{ // what has no data to print, or prints what has one form alone
		"hearth": "help", "hearth up": "a role", "hearth manager": "a role", "hearth worker": "a role", "hearth frontend": "a role",
		"hearth token": "help",
	}
	for path, cmd := range commands(surroundings{}.app(t).root()) {
		if cmd.Hidden || !cmd.Runnable() || speech[path] != "" || strings.HasPrefix(path, "hearth completion") || path == "hearth help" {
			continue
		}
		if cmd.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", path)
		}
	}
}

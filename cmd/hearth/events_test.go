package main

import (
	"os"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// The commands on events against a running fabric: sent, failed, seen among the dead letters, redriven, removed.
func TestEventsOnARunningFabric(t *testing.T) {
	t.Parallel()
	f := up(t, "--capacity", "4")
	bootstrap := buildFunction(t, "./examples/echo")
	f.must(t, "deploy", "echo", bootstrap, "--runtime", "provided")
	broken := t.TempDir() // a function that always fails: there is nothing to run
	writeFile(t, broken+"/readme", "nothing to run")
	f.must(t, "deploy", "broken", broken, "--runtime", "provided", "--retries", "0", "--max-age", "1m")

	described := f.must(t, "describe", "broken", "--json")
	if events := decode[struct{ Events *eventsLine }](t, described).Events; events == nil || events.Retries == nil || *events.Retries != 0 || *events.MaxAgeS != 60 {
		t.Errorf("described as %s", described)
	}
	if out := decode[deployed](t, f.must(t, "deploy", "broken", broken, "--runtime", "provided", "--retries", "0", "--json")); out.Changed {
		t.Errorf("nothing changed: %+v", out)
	}
	if text := f.must(t, "describe", "broken"); !strings.Contains(text, "retries") || !strings.Contains(text, "1m0s") {
		t.Error(text)
	}
	if r := f.run(t, "deploy", "echo", bootstrap, "--on-failure", "ehco"); r.code != exitUsage || !strings.Contains(r.stderr, "--on-failure") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}

	text := f.must(t, "invoke", "echo", "--payload", "[7]", "--async", "--id", "order-7", "--json")
	first := decode[sent](t, text)
	if first.Status != "accepted" || first.Function != "echo" || len(first.RequestID) != 36 || first.Sequence == 0 || first.Duplicate {
		t.Errorf("%s", text)
	}
	again := decode[sent](t, f.must(t, "invoke", "echo", "--payload", "[7]", "--async", "--id", "order-7", "--json"))
	if !again.Duplicate || again.Sequence != first.Sequence || again.RequestID != "" {
		t.Errorf("%+v", again)
	}
	if r := f.run(t, "invoke", "echo", "--async", "--id", "order-7"); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "accepted before") {
		t.Errorf("exit %d: %q, %q", r.code, r.stdout, r.stderr)
	}
	counts := func(function string) schema.EventsOutput {
		return decode[schema.EventsOutput](t, f.must(t, "events", function, "--json"))
	}
	eventually(t, "the event is done", func() bool {
		out := counts("echo")
		return out.Waiting+out.Running+out.Retrying == 0
	})
	if out := counts("echo"); out.DeadLetters != 0 || out.Events == nil {
		t.Errorf("%+v", out)
	}

	payload := `{"n":12345678901234567890,"a":"<1.10>"}` // has to come out as it is
	request := strings.TrimSpace(f.must(t, "invoke", "broken", "--payload", payload, "--async"))
	f.must(t, "invoke", "broken", "--payload", `{"n":2}`, "--tenant", "none-here", "--async")
	eventually(t, "both are dead letters", func() bool {
		out := counts("broken")
		return out.DeadLetters == 2 && out.Running == 0 // an event is acknowledged after its dead letter
	})
	if text := f.must(t, "events", "broken"); !strings.Contains(text, "broken: 0 waiting, 0 running, 0 waiting for another try, 2 dead letters") {
		t.Error(text)
	}
	lines := strings.Split(strings.TrimSpace(f.must(t, "deadletters", "ls", "broken", "--json")), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), lines)
	}
	one, two := decode[schema.DeadLetterItem](t, lines[0]), decode[schema.DeadLetterItem](t, lines[1])
	if two.RequestID == request {
		one, two = two, one
	}
	if one.RequestID != request || one.Reason != schema.DeadRetriesExhausted || one.Attempts != 1 || one.Error == nil || one.Error.Code != "Runtime.InvalidEntrypoint" ||
		string(one.Payload) != payload {
		t.Errorf("%s", lines)
	}
	if text := f.must(t, "deadletters"); !strings.Contains(text, "REASON") || !strings.Contains(text, "InvalidEntrypoint") || !strings.Contains(text, "none-here") {
		t.Error(text)
	}
	if text := f.must(t, "deadletters", "show", one.ID); !strings.Contains(text, payload) || !strings.Contains(text, request) ||
		!strings.Contains(text, one.Error.Code+": "+one.Error.Message+"\n") {
		t.Error(text)
	}

	// The function is made whole, and what failed runs.
	f.must(t, "deploy", "broken", bootstrap)
	if text := f.must(t, "deadletters", "redrive", one.ID); text != "redriven 1 dead letter\n" {
		t.Errorf("%q", text)
	}
	if r := f.run(t, "deadletters", "redrive", one.ID); r.code != exitUsage || !strings.Contains(r.stderr, "not there: "+one.ID) {
		t.Errorf("twice: exit %d: %s", r.code, r.stderr)
	}
	eventually(t, "the redriven one is done", func() bool {
		out := counts("broken")
		return out.Waiting+out.Running+out.Retrying == 0 && out.DeadLetters == 1
	})
	f.must(t, "rm", "broken")
	if text := f.must(t, "deadletters", "rm", "--function", "broken", "--json"); text != `{"done":1,"missing":[],"failed":[]}`+"\n" {
		t.Errorf("of a function that is gone: %q", text)
	}
	if r := f.run(t, "deadletters", "ls"); r.stdout != "" || !strings.Contains(r.stderr, "no dead letters") {
		t.Errorf("%q, %q", r.stdout, r.stderr)
	}
	if r := f.run(t, "deadletters", "show", two.ID); r.code != exitUsage || !strings.HasSuffix(r.stderr, "`hearth deadletters ls` lists what there is\n") ||
		strings.Contains(r.stderr, "qualifier") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if r := f.run(t, "events", "ehco"); r.code != exitUsage || !strings.Contains(r.stderr, "did you mean echo?") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

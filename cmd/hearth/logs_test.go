package main

import (
	"context"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/schema"
)

// logsOn is `logs` on a running fabric whose function echo was called.
func logsOn(t *testing.T, f *running) {
	invocation := decode[struct {
		RequestID string `json:"request_id"`
	}](t, f.must(t, "invoke", "echo", "--json"))
	eventually(t, "the call is in the log", func() bool {
		return strings.Contains(f.must(t, "logs", "echo"), "REPORT RequestId: "+invocation.RequestID)
	})
	for line := range strings.Lines(f.must(t, "logs", "echo", "--request", invocation.RequestID, "--json")) {
		if l := decode[schema.LogLineItem](t, line); l.RequestID != invocation.RequestID || l.Function != "echo" || !l.Platform {
			t.Errorf("%+v", l)
		}
	}

	// --follow shows what comes, and ends with Ctrl-C.
	ctx, interrupt := context.WithCancelCause(t.Context())
	defer interrupt(nil)
	var stdout, stderr buffer
	a := f.app(t)
	a.stdout, a.stderr = &stdout, &stderr
	var loop conc.WaitGroup
	code := -1
	loop.Go(func() { code = a.run(ctx, []string{"logs", "echo:1", "--follow", "--since", "1ms"}) })
	eventually(t, "it waits", func() bool { return strings.Contains(stderr.String(), "no line of echo yet; waiting") })
	f.must(t, "invoke", "echo:1")
	eventually(t, "it shows the new call", func() bool {
		return strings.Contains(stdout.String(), "  START RequestId: ") && strings.Contains(stdout.String(), " Version: 1")
	})
	interrupt(errInterrupted)
	loop.Wait()
	if code != exitInterrupted {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

package main

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/natstest"
)

// Of two deploys of one function that overlap one wins, and the other is told, however far it was: here it had read the function and was
// storing its code.
func TestTwoDeploysAtOnce(t *testing.T) {
	t.Parallel()
	f := up(t, "--capacity", "4")
	folder := func(text string) string {
		dir := t.TempDir()
		writeFile(t, dir+"/bootstrap", "#!/bin/sh\n# "+text)
		return dir
	}
	f.must(t, "deploy", "f", folder("before"), "--runtime", "provided")
	proxy := natstest.StartProxy(t, f.NATS)
	var answers atomic.Int32
	proxy.HoldSubjects(func(string) bool { return answers.Add(1) > 1 }) // the first is what the function is
	var slow conc.WaitGroup
	var late result
	slow.Go(func() {
		late = f.run(t, "deploy", "f", folder("late"), "--runtime", "provided", "--server", proxy.URL, "--creds", f.Creds)
	})
	eventually(t, "the slow deploy stores its code", func() bool { return answers.Load() > 1 })
	f.must(t, "deploy", "f", folder("quick"), "--runtime", "provided")
	proxy.Release()
	slow.Wait()
	if late.code != exitUsage || !strings.Contains(late.stderr, "changed it meanwhile") {
		t.Errorf("exit %d: %s%s", late.code, late.stdout, late.stderr)
	}
}

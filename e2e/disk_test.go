package e2e_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestDiskFull fills the disk of a fabric under events: those that were accepted run, others are refused by name, sync calls go
// on, and when there is room again all goes on by itself.
//
// Broken to see it fail: no watch over the disk ([deploy.Up]): nobody hears that events are not taken, and none is ever again.
func TestDiskFull(t *testing.T) {
	if os.Getenv("HEARTH_LONG") == "" {
		t.Skip("takes a disk of its own and half a minute; with HEARTH_LONG=1")
	}
	t.Parallel()
	d := fabric.StartDisk(t, 24<<20)
	f := fabric.Start(t, fabric.Options{Disk: d, Managers: 2, Capacity: 16})
	f.DeployFn("fn")
	l := newLedger(t, &f.Door, newRecord(t))
	c := f.Anonymous()
	work := loaded(4, func(ctx context.Context) { l.handIn(ctx, "fn", "nap 3") })
	defer work.stop()
	calls := loaded(2, func(context.Context) { l.call("fn", "nap 3", patience) })
	defer calls.stop()
	l.accepts(t, 100)
	calls.more(t, 20) // something is warm

	d.Fill(t, 0)
	eventually(t, "events are refused", func() bool { return schema.CodeOf(send(t, c)) == schema.CodeCapacityExceeded })
	if err := send(t, c); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("refused with %v, which does not say why", err)
	}
	if r := f.CLI("invoke", "fn", "--async", "--payload", "1"); r.Code != 3 || !strings.Contains(r.Stderr, "disk") {
		t.Errorf("the command exits with %d and says %s", r.Code, r.Stderr)
	}
	resp, body := post(t, f, "fn", strings.NewReader("1"), http.Header{"X-Amz-Invocation-Type": {"Event"}})
	if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(body), "disk") {
		t.Errorf("over HTTP: %d %s", resp.StatusCode, body)
	}
	// Whoever is the first that a stream cannot take hears nothing and is told to look at the disk; the next are refused by name.
	packaged, big := t.TempDir(), make([]byte, 1<<20)
	_, _ = rand.Read(big)
	if err := os.WriteFile(filepath.Join(packaged, "bootstrap"), big, 0o700); err != nil {
		t.Fatal(err)
	}
	unheard := f.CLI("deploy", "other", packaged, "--runtime", "provided")
	if unheard.Code == 0 || !strings.Contains(unheard.Stderr, "disk") {
		t.Errorf("a package exits with %d and says %s", unheard.Code, unheard.Stderr)
	}
	if r := f.CLI("deploy", "other", packaged, "--runtime", "provided"); r.Code != 3 || !strings.Contains(r.Stderr, "disk") {
		t.Errorf("the package again exits with %d and says %s", r.Code, r.Stderr)
	}
	calls.more(t, 200)
	calls.stop()
	// Calls go on in what is warm; an environment that has to be made may find no room for its files, and says so.
	unmade := end(failed + "Runtime.InitError")
	l.onlyEnds(t, fine, unmade)

	d.Clear(t)
	eventually(t, "packages are taken", func() bool { return f.CLI("deploy", "other", packaged, "--runtime", "provided").Code == 0 })
	eventually(t, "events are accepted", func() bool { return send(t, c) == nil })
	l.accepts(t, 50)
	work.stop()
	// The server has started anew: until managers have set it up, calls are refused as S58 says, and did not run.
	eventually(t, "calls are answered", func() bool { return l.call("fn", "", patience) == fine })
	l.onlyEnds(t, fine, unmade, refused+"503 Unavailable")
	awaitDrained(t, f.Admin())
	l.settle(t)
	l.settle(t)
}

// send hands in an event that leaves no record. Whoever published before anybody knew that the disk is full hears nothing.
func send(t *testing.T, c *client.Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.Send(ctx, client.Event{Function: "fn", Payload: []byte(`"after"`)})
	return err
}

// awaitDrained waits until no event of the function waits, runs, or is dead, as the fabric itself tells.
func awaitDrained(t *testing.T, admin *client.Client) {
	t.Helper()
	eventually(t, "no event is left", func() bool {
		e := listEvents(t, admin, "fn")
		if e.DeadLetters > 0 {
			t.Fatalf("%d dead letters", e.DeadLetters)
		}
		return e.Waiting+e.Running+e.Retrying == 0
	})
}

package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestServerRestarts is S58 without reservations (with one: [TestReservedServerRestarts]): the NATS server is killed and started
// again while calls run and wait for environments that are being made, over NATS and over HTTP.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	t.Run("S58", func(t *testing.T) {
		f := fabric.StartSpread(t, fabric.SpreadOptions{Capacity: 12, Frontends: 2, Set: []string{"start-by=60s"}})
		f.DeployFn("fn", "--timeout", "60s")
		file := filepath.Join(reachable(t), "go")
		f.DeployFn("slow", "--env", "FN_INIT=wait", "--env", "FN_WAIT="+file)
		l := newLedger(t, &f.Door, newRecord(t))
		g := newGate(t)
		running := l.beginAll(t, 6, "fn", g.words())
		g.wait(t, len(running))
		runningHTTP := l.postAll(f.Frontends[0], 2, "fn", g.words())
		g.wait(t, 2)
		waiting := l.beginAll(t, 4, "slow", "")
		waitingHTTP := l.postAll(f.Frontends[1], 4, "slow", "")
		eventually(t, "the calls are claimed", func() bool { return claimed(f.Ring("")) == 8 })

		f.Server.Kill()
		f.Server.Start()
		for _, e := range waiting {
			if got := l.await(withDeadline(t), e); got != refused+"503 Unavailable" {
				t.Errorf("call %s waited when the server was killed: %s", e.tag, got)
			}
		}
		for _, c := range waitingHTTP {
			if got := c.await(t); got != "503" {
				t.Errorf("call %s over HTTP waited when the server was killed: %s", c.tag, got)
			}
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		g.open()
		for _, e := range running {
			if got := l.await(withDeadline(t), e); got != fine {
				t.Errorf("call %s ran when the server was killed: %s", e.tag, got)
			}
		}
		for _, c := range runningHTTP {
			if got := c.await(t); got != "200" {
				t.Errorf("call %s over HTTP ran when the server was killed: %s", c.tag, got)
			}
		}
		// Once more, now under load: whose answer was on its way hears nothing, and no call runs twice.
		work := loaded(4, func(context.Context) { l.call("fn", "nap 20", 5*time.Second) })
		defer work.stop()
		work.more(t, 100)
		f.Server.Kill()
		f.Server.Start()
		work.more(t, 100)
		work.stop()
		for i := range 20 {
			if e := l.call([]string{"fn", "slow"}[i%2], "", patience); e != fine {
				t.Errorf("call %d after the restart: %s", i, e)
			}
		}
		quiet(t, f)
		runs := l.runs(t)
		for _, c := range waitingHTTP {
			if len(runs[c.tag]) != 0 {
				t.Errorf("call %s was refused and ran", c.tag)
			}
		}
		l.settle(t)
	})
}

// posted is a call by plain HTTP.
type posted struct {
	tag    string
	end    chan string   // its status, with the function's error, or why there is none
	reason schema.Reason // why it went where it did; read after end
	start  schema.Start  // how it found its environment; read after end
}

func (p *posted) await(t testing.TB) string {
	t.Helper()
	select {
	case end := <-p.end:
		return end
	case <-withDeadline(t).Done():
		return "nothing"
	}
}

// postAll makes so many calls at once through a frontend's listener.
func (l *ledger) postAll(f *fabric.Role, n int, function, words string) []*posted {
	all := make([]*posted, n)
	for i := range all {
		p := &posted{tag: l.tag("h"), end: make(chan string, 1)}
		all[i] = p
		go func() { // ends with the call
			end, header := l.post(context.Background(), f, function, p.tag, words)
			p.reason, p.start = schema.Reason(header.Get(schema.HeaderReason)), schema.Start(header.Get(schema.HeaderStart))
			p.end <- end
		}()
	}
	return all
}

// post makes one call through a frontend's listener and gives its status, with the function's error behind it, and the headers.
func (l *ledger) post(ctx context.Context, f *fabric.Role, function, tag, words string) (end string, header http.Header) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.HTTP+"/2015-03-31/functions/"+function+"/invocations",
		strings.NewReader(l.payload(tag, words)))
	if err != nil {
		return err.Error(), nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), nil
	}
	end = strings.Fields(resp.Status)[0]
	if resp.Header.Get("X-Amz-Function-Error") != "" {
		end += " " + string(body)
	}
	return end, resp.Header
}

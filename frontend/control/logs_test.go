package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// write puts a batch of lines into the stream, as a worker does.
func (b *bundle) write(t *testing.T, function, version, tenant string, lines ...schema.LogLine) {
	t.Helper()
	for i := range lines {
		if lines[i].Time.IsZero() {
			lines[i].Time = time.Now()
		}
	}
	data, err := schema.Marshal(schema.LogLines{V: schema.Version, Manager: "m1", Environment: "e1", Lines: lines})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(t.Context(), b.Names.Log(subjects.DefaultAccount, function, version, tenant), data); err != nil {
		t.Fatal(err)
	}
}

func says(text ...string) (lines []schema.LogLine) {
	for _, text := range text {
		lines = append(lines, schema.LogLine{Text: []byte(text)})
	}
	return lines
}

// page is one answer of GetLogs.
func (b *bundle) page(t *testing.T, in schema.LogsInput) schema.LogsOutput {
	t.Helper()
	m := b.ask(t, subjects.DefaultAccount, "GetLogs", text(t, in))
	if code := m.Header.Get(schema.HeaderErrorCode); code != "" {
		t.Fatalf("GetLogs: %s %s", code, m.Header.Get(schema.HeaderError))
	}
	var out schema.LogsOutput
	if err := json.Unmarshal(m.Data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// allLogs pages to the end and gives the texts.
func (b *bundle) allLogs(t *testing.T, in schema.LogsInput) (texts []string, cursor string) {
	t.Helper()
	for range 1000 {
		out := b.page(t, in)
		for _, l := range out.Lines {
			texts = append(texts, l.Text)
		}
		in.Cursor = out.Cursor
		if !out.More {
			return texts, out.Cursor
		}
	}
	t.Fatal("pages without end")
	return nil, ""
}

func withLogs(t *testing.T, change ...func(*control.Config)) *bundle {
	t.Helper()
	b := setup(t, change...)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "0"), nil))
	return b
}

func TestLogsFilters(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	old := time.Now().Add(-time.Hour)
	b.write(t, "f", "$LATEST", "", schema.LogLine{Text: []byte("old"), Time: old}, schema.LogLine{Text: []byte("one"), RequestID: "r1"})
	b.write(t, "g", "$LATEST", "", says("of another function")...)
	b.write(t, "f", "1", "acme", schema.LogLine{Text: []byte("two"), RequestID: "r2"})
	b.write(t, "f", "1", "globex", schema.LogLine{Kind: schema.LogStart, RequestID: "r1", Platform: true})
	since := time.Now().Add(-time.Minute)
	for _, tt := range []struct {
		in   schema.LogsInput
		want []string
	}{
		{schema.LogsInput{FunctionName: "f"}, []string{"old", "one", "two", "START RequestId: r1 Version: 1"}},
		{schema.LogsInput{FunctionName: "g"}, []string{"of another function"}},
		{schema.LogsInput{FunctionName: "f", Qualifier: "1"}, []string{"two", "START RequestId: r1 Version: 1"}},
		{schema.LogsInput{FunctionName: "f:$LATEST"}, []string{"old", "one"}},
		{schema.LogsInput{FunctionName: "f", TenantID: "acme"}, []string{"two"}},
		{schema.LogsInput{FunctionName: "f", RequestID: "r1"}, []string{"one", "START RequestId: r1 Version: 1"}},
		{schema.LogsInput{FunctionName: "f", Since: &since}, []string{"one", "two", "START RequestId: r1 Version: 1"}},
	} {
		if got, _ := b.allLogs(t, tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.in, got, tt.want)
		}
	}
	l := b.page(t, schema.LogsInput{FunctionName: "f", TenantID: "acme"}).Lines[0]
	if l.Function != "f" || l.Version != "1" || l.Tenant != "acme" || l.Manager != "m1" || l.Environment != "e1" || l.RequestID != "r2" || l.Platform {
		t.Errorf("%+v", l)
	}
}

// TestLogsPages: any size of page gives the same lines, each once, in the middle of messages too.
func TestLogsPages(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	var want []string
	for i := range 40 {
		var batch []string
		for j := range 1 + i%7 {
			batch = append(batch, fmt.Sprintf("%d.%d", i, j))
		}
		b.write(t, "f", "$LATEST", "", says(batch...)...)
		want = append(want, batch...)
	}
	for _, most := range []int{0, 1, 3, 10, 5000} {
		if got, _ := b.allLogs(t, schema.LogsInput{FunctionName: "f", MaxLines: most}); !slices.Equal(got, want) {
			t.Errorf("MaxLines %d: %q", most, got)
		}
	}
}

// TestHostileLogs: bytes of any kind, lines as long as they come, and messages that no worker wrote.
func TestHostileLogs(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	long := strings.Repeat("\x01", 256<<10) // six bytes of JSON each: more than an answer has room for
	for range 3 {
		b.write(t, "f", "$LATEST", "", says(long)...)
	}
	b.write(t, "f", "$LATEST", "", says("\xff\xfe\x1b[31m\x00</script>")...)
	if _, err := b.js.Publish(t.Context(), b.Names.Log("default", "f", "1", ""), []byte("\xc1 no msgpack")); err != nil {
		t.Fatal(err)
	}
	b.write(t, "f", "$LATEST", "", says("last")...)
	got, _ := b.allLogs(t, schema.LogsInput{FunctionName: "f"})
	if len(got) != 5 || got[3] != "\uFFFD\x1b[31m\x00</script>" || got[4] != "last" || len(got[0]) < 64<<10 {
		t.Errorf("%d lines, %.80q", len(got), got[max(0, len(got)-2):])
	}
	for _, in := range []string{`{"FunctionName":"f","Cursor":"x"}`, `{"FunctionName":"f","Cursor":"1.0.0"}`, `{"FunctionName":"f","MaxLines":5001}`,
		`{"FunctionName":"f","WaitSeconds":21}`, `{"FunctionName":"f","TenantId":"*"}`, `{"FunctionName":"f.>"}`, `{"FunctionName":"f","Qualifier":"*"}`} {
		b.refused(t, schema.CodeInvalidParameter, "GetLogs", in)
	}
}

// The headers of a message that somebody wrote are not taken for what the server says of it.
func TestLogsWithForgedHeaders(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	for _, h := range []nats.Header{
		{"Status": {"404"}}, {"Status": {"408"}}, {"Status": {"204"}, "Nats-Num-Pending": {"0"}}, {"Nats-Sequence": {"1"}, "Nats-Subject": {"hearth.log.default.g.1._"}},
	} {
		data, err := schema.Marshal(schema.LogLines{V: schema.Version, Lines: says("forged")})
		if err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: b.Names.Log(subjects.DefaultAccount, "f", "1", ""), Header: h, Data: data}
		if _, err := b.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		b.write(t, "f", "1", "", says("true")...)
	}
	out := b.page(t, schema.LogsInput{FunctionName: "f"})
	for i, l := range out.Lines {
		if want := []string{"forged", "true"}[i%2]; l.Text != want || l.Function != "f" {
			t.Errorf("line %d is %q of %s, want %q", i, l.Text, l.Function, want)
		}
	}
	if len(out.Lines) != 8 || out.More {
		t.Errorf("%d lines, more: %v", len(out.Lines), out.More)
	}
}

func TestLogsOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	b.refused(t, schema.CodeNotFound, "GetLogs", schema.LogsInput{FunctionName: "nobody", WaitSeconds: 20})
	b.refused(t, schema.CodeNotFound, "GetLogs", schema.LogsInput{FunctionName: "f", Qualifier: "live"})
	b.refused(t, schema.CodeNotFound, "GetLogs", schema.LogsInput{FunctionName: "f", Qualifier: "7"})
	b.write(t, "f", "$LATEST", "", says("last words")...)
	b.must(t, "DeleteFunction", object{"FunctionName": "f"})
	got, cursor := b.allLogs(t, schema.LogsInput{FunctionName: "f"})
	if !slices.Equal(got, []string{"last words"}) {
		t.Errorf("lines of a deleted function: %q", got)
	}
	if out := b.page(t, schema.LogsInput{FunctionName: "f", Cursor: cursor}); len(out.Lines) != 0 {
		t.Errorf("%+v", out)
	}
}

// TestLogsCursor goes on after a restart of the server, and says where lines are gone.
func TestLogsCursor(t *testing.T) {
	t.Parallel()
	b := withLogs(t)
	b.write(t, "f", "$LATEST", "", says("1", "2")...)
	_, cursor := b.allLogs(t, schema.LogsInput{FunctionName: "f"})
	b.Restart(t)
	natstest.Eventually(t, patience, func() bool { return b.nc.IsConnected() }, "the connection is back")
	natstest.Eventually(t, patience, func() bool {
		_, err := b.js.Stream(t.Context(), b.Names.Stream(topology.Logs))
		return err == nil
	}, "the stream is back")
	b.write(t, "f", "$LATEST", "", says("3")...)
	var out schema.LogsOutput
	natstest.Eventually(t, patience, func() bool {
		m, err := b.nc.Request(b.Names.API(subjects.DefaultAccount, "GetLogs"), []byte(text(t, schema.LogsInput{FunctionName: "f", Cursor: cursor})),
			time.Second) // nobody listens until the service's connection is back too
		return err == nil && json.Unmarshal(m.Data, &out) == nil && len(out.Lines) > 0
	}, "the service is back")
	if len(out.Lines) != 1 || out.Lines[0].Text != "3" || out.Behind {
		t.Errorf("after a restart: %+v", out)
	}
	stream, err := b.js.Stream(t.Context(), b.Names.Stream(topology.Logs))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.write(t, "f", "$LATEST", "", says("4")...)
	if out := b.page(t, schema.LogsInput{FunctionName: "f", Cursor: cursor}); len(out.Lines) != 1 || out.Lines[0].Text != "4" || !out.Behind {
		t.Errorf("after lines were lost: %+v", out)
	}
	if err := b.js.DeleteStream(t.Context(), b.Names.Stream(topology.Logs)); err != nil {
		t.Fatal(err)
	}
	b.Ensure(t, schema.DefaultFabric())
	b.write(t, "f", "$LATEST", "", says("5")...)
	if out := b.page(t, schema.LogsInput{FunctionName: "f", Cursor: cursor}); len(out.Lines) != 1 || out.Lines[0].Text != "5" || !out.Behind {
		t.Errorf("of a stream that was made again: %+v", out)
	}
}

// TestLogsWait: who waits hears of a new line, holds up nobody, and is answered when the service stops.
func TestLogsWait(t *testing.T) {
	t.Parallel()
	b := withLogs(t, func(c *control.Config) { c.Workers, c.Waiting = 1, 4 })
	wait := schema.LogsInput{FunctionName: "f", WaitSeconds: 20}
	var wg conc.WaitGroup
	answers := make(chan *nats.Msg, 16)
	ask := func(in schema.LogsInput) {
		wg.Go(func() {
			m, err := b.nc.Request(b.Names.API(subjects.DefaultAccount, "GetLogs"), []byte(text(t, in)), patience+patience)
			if err != nil {
				t.Error(err)
			}
			answers <- m
		})
	}
	for range 3 {
		ask(wait)
	}
	other := wait
	other.RequestID = "r"
	ask(other)
	stream, err := b.js.Stream(t.Context(), b.Names.Stream(topology.Logs))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Consumers == 4
	}, "four wait")
	// The one worker is free, and who finds no seat is answered at once.
	if out := b.page(t, wait); len(out.Lines) != 0 || out.Cursor == "" {
		t.Errorf("without a seat: %+v", out)
	}
	b.write(t, "f", "$LATEST", "", says("new")...)
	for range 3 {
		var out schema.LogsOutput
		m := <-answers
		if m == nil || json.Unmarshal(m.Data, &out) != nil || len(out.Lines) != 1 || out.Lines[0].Text != "new" {
			t.Fatalf("answer %+v", m)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.service.Stop(ctx); err != nil {
		t.Error(err)
	}
	var out schema.LogsOutput
	if m := <-answers; m == nil || json.Unmarshal(m.Data, &out) != nil || len(out.Lines) != 0 || out.Cursor == "" {
		t.Errorf("when the service stopped: %+v", m)
	}
	wg.Wait()
	natstest.Eventually(t, patience, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Consumers == 0
	}, "no consumer is left")
}

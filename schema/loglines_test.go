package schema_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/hearth-run/hearth/schema"
)

// TestLogLinesComeBack: what the encoder writes is what the tags say, on random lines.
func TestLogLinesComeBack(t *testing.T) {
	t.Parallel()
	// plain is a line without its encoder.
	type plain schema.LogLine
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	text := func() string { return strings.Repeat("x\x00", rng.IntN(3)) }
	for range 500 {
		l := schema.LogLine{Time: time.Unix(1_790_000_000, int64(rng.IntN(1e9))), RequestID: text(), Kind: schema.LogKind(rng.IntN(7)),
			Platform: rng.IntN(2) == 0, JSON: rng.IntN(2) == 0, Cut: rng.IntN(2) == 0, Failed: rng.IntN(2) == 0,
			Bytes: rng.Int64N(3), Count: rng.Int64N(3), Text: []byte(text()), Duration: time.Duration(rng.IntN(2)) * time.Hour,
			Init: time.Duration(rng.IntN(2)), MemoryMB: 128 * rng.IntN(2), UsedMB: 30 * rng.IntN(2), ErrorType: text(), ErrorMessage: text()}
		if len(l.Text) == 0 {
			l.Text = nil
		}
		b, err := schema.Marshal(schema.LogLines{V: schema.Version, Manager: "m", Environment: "e", Lines: []schema.LogLine{l}})
		if err != nil {
			t.Fatal(err)
		}
		var back schema.LogLines
		if err := schema.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if len(back.Lines) != 1 || !back.Lines[0].Time.Equal(l.Time) {
			t.Fatalf("%+v came back as %+v", l, back)
		}
		back.Lines[0].Time = l.Time
		if !reflect.DeepEqual(back.Lines[0], l) {
			t.Fatalf("%+v came back as %+v", l, back.Lines[0])
		}
		byTags, err := msgpack.Marshal([]plain{plain(l)})
		if err != nil {
			t.Fatal(err)
		}
		byHand, err := msgpack.Marshal([]schema.LogLine{l})
		if err != nil {
			t.Fatal(err)
		}
		if len(byHand) > len(byTags) {
			t.Fatalf("%x is longer than what the tags say, %x", byHand, byTags)
		}
		var read []plain
		if err := msgpack.Unmarshal(byHand, &read); err != nil || read[0].ErrorMessage != l.ErrorMessage || read[0].MemoryMB != l.MemoryMB || read[0].UsedMB != l.UsedMB {
			t.Fatalf("read by the tags: %+v, %v", read, err)
		}
	}
}

func TestLogLineTexts(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 1, 2, 3, 4e6, time.UTC)
	report := schema.LogLine{Time: at, RequestID: "ID", Kind: schema.LogReport, Duration: 12340 * time.Microsecond, MemoryMB: 128}
	cold, late, gone := report, report, report
	cold.Init, cold.UsedMB = 80120*time.Microsecond, 30
	late.ErrorType, late.ErrorMessage = "Sandbox.Timedout", "Task timed out after 3.00 seconds"
	gone.ErrorType, gone.ErrorMessage = "Runtime.ExitError", "Runtime exited with error: exit status 1"
	const text = "REPORT RequestId: ID\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\t"
	for _, tt := range []struct {
		line schema.LogLine
		want []string
	}{
		{schema.LogLine{Text: []byte("a\x1bb")}, []string{"a\x1bb"}},
		{schema.LogLine{Kind: schema.LogStart, RequestID: "ID"}, []string{"START RequestId: ID Version: 7"}},
		{report, []string{"END RequestId: ID", text}},
		{cold, []string{"END RequestId: ID", text + "Max Memory Used: 30 MB\tInit Duration: 80.12 ms\t"}},
		{late, []string{"END RequestId: ID", text + "Status: timeout", "2026-11-27T01:02:03.004Z ID Task timed out after 3.00 seconds"}},
		{gone, []string{"END RequestId: ID", text + "Status: error\tError Type: Runtime.ExitError",
			"RequestId: ID Error: Runtime exited with error: exit status 1", "Runtime.ExitError"}},
		{schema.LogLine{Kind: schema.LogInitStart, Text: []byte("nodejs22.x")}, []string{"INIT_START Runtime Version: nodejs22.x"}},
		{schema.LogLine{Kind: schema.LogInitReport, Init: 206720 * time.Microsecond, ErrorType: "Runtime.ExitError", ErrorMessage: "why"},
			[]string{"INIT_REPORT Init Duration: 206.72 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError", "Runtime.ExitError: why"}},
		{schema.LogLine{Kind: schema.LogInitReport, Init: time.Second}, nil},
		{schema.LogLine{Kind: schema.LogDone, RequestID: "ID"}, nil},
		{schema.LogLine{Kind: schema.LogDropped, Text: []byte("why"), Count: 3, Bytes: 9}, []string{"why"}},
		{schema.LogLine{Kind: schema.LogEgress, Text: []byte("why"), Count: 3}, []string{"why"}},
	} {
		if got := tt.line.Texts(schema.LogFunction{Name: "f", Version: "7"}); !slices.Equal(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestLogLineJSON: the same in Lambda's JSON form, with the level that each has.
func TestLogLineJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 1, 2, 3, 4e6, time.FixedZone("", 3600))
	call := schema.LogLine{Time: at, RequestID: "ID", Duration: 12340567 * time.Nanosecond}
	kind := func(l schema.LogLine, kind schema.LogKind, change ...func(*schema.LogLine)) schema.LogLine {
		l.Kind, l.JSON, l.Platform = kind, true, true
		for _, f := range change {
			f(&l)
		}
		return l
	}
	late := func(l *schema.LogLine) {
		l.ErrorType, l.ErrorMessage = "Sandbox.Timedout", "Task timed out after 3.00 seconds"
	}
	const head = `{"time":"2026-11-27T00:02:03.004Z","type":"platform.`
	for _, tt := range []struct {
		line   schema.LogLine
		tenant string
		level  schema.LogLevel
		want   string
	}{
		{kind(call, schema.LogStart), "", schema.LevelInfo, `start","record":{"requestId":"ID","version":"7"}}`},
		{kind(call, schema.LogStart), "a<b>&c", schema.LevelInfo, `start","record":{"requestId":"ID","version":"7","tenantId":"a<b>&c"}}`},
		{kind(call, schema.LogDone), "", schema.LevelDebug,
			`runtimeDone","record":{"requestId":"ID","status":"success","metrics":{"durationMs":12.341,"producedBytes":0}}}`},
		{kind(call, schema.LogDone, late, func(l *schema.LogLine) { l.Bytes = 5 }), "", schema.LevelWarn, `runtimeDone","record":{"requestId":"ID","status":"timeout",` +
			`"errorType":"Sandbox.Timedout","errorMessage":"Task timed out after 3.00 seconds","metrics":{"durationMs":12.341,"producedBytes":5}}}`},
		{kind(call, schema.LogReport, func(l *schema.LogLine) { l.MemoryMB, l.UsedMB, l.Init = 128, 30, 80*time.Millisecond }), "t", schema.LevelInfo,
			`report","record":{"requestId":"ID","status":"success","metrics":{"durationMs":12.341,"billedDurationMs":13,"memorySizeMB":128,` +
				`"maxMemoryUsedMB":30,"initDurationMs":80},"tenantId":"t"}}`},
		{kind(call, schema.LogReport, func(l *schema.LogLine) { l.Failed = true }), "", schema.LevelWarn,
			`report","record":{"requestId":"ID","status":"error","metrics":{"durationMs":12.341,"billedDurationMs":13}}}`},
		{kind(call, schema.LogReport, func(l *schema.LogLine) { l.ErrorType = "Hearth.ExecutionLost" }), "", schema.LevelWarn,
			`report","record":{"requestId":"ID","status":"failure","errorType":"Hearth.ExecutionLost","metrics":{"durationMs":12.341,"billedDurationMs":13}}}`},
		{kind(schema.LogLine{Time: at}, schema.LogInitStart, func(l *schema.LogLine) { l.Text = []byte("python3.13") }), "", schema.LevelInfo,
			`initStart","record":{"initializationType":"on-demand","phase":"init","runtimeVersion":"python3.13","functionName":"f","functionVersion":"7"}}`},
		{kind(schema.LogLine{Time: at, Reserved: true}, schema.LogInitStart), "", schema.LevelInfo,
			`initStart","record":{"initializationType":"provisioned-concurrency","phase":"init","runtimeVersion":"","functionName":"f","functionVersion":"7"}}`},
		{kind(schema.LogLine{Time: at, Reserved: true, Init: time.Second}, schema.LogInitReport), "", schema.LevelDebug,
			`initReport","record":{"initializationType":"provisioned-concurrency","phase":"init","status":"success","metrics":{"durationMs":1000}}}`},
		{kind(schema.LogLine{Time: at, Init: time.Second}, schema.LogInitReport), "", schema.LevelDebug,
			`initReport","record":{"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":1000}}}`},
		{kind(schema.LogLine{Time: at, Init: time.Second, ErrorType: "Runtime.ExitError"}, schema.LogInitReport), "", schema.LevelWarn,
			`initReport","record":{"initializationType":"on-demand","phase":"init","status":"error","errorType":"Runtime.ExitError","metrics":{"durationMs":1000}}}`},
		{kind(schema.LogLine{Time: at, Text: []byte("too many"), Count: 3, Bytes: 9}, schema.LogDropped), "", schema.LevelWarn,
			`logsDropped","record":{"reason":"too many","droppedRecords":3,"droppedBytes":9}}`},
		{kind(schema.LogLine{Time: at, Text: []byte("why"), RequestID: "ID", Count: 3}, schema.LogEgress), "acme", schema.LevelWarn,
			`egressRefused","record":{"requestId":"ID","reason":"why","times":3,"tenantId":"acme"}}`},
	} {
		got := tt.line.Texts(schema.LogFunction{Name: "f", Version: "7", Tenant: tt.tenant})
		if want := head + tt.want; len(got) != 1 || got[0] != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := tt.line.Level(); got != tt.level {
			t.Errorf("%s is of level %d, want %d", tt.want, got, tt.level)
		}
	}
	// A function's own line is what it is, whatever it says and whatever the format.
	forged := schema.LogLine{JSON: true, Text: []byte(head + `report"}`)}
	if got := forged.Texts(schema.LogFunction{}); len(got) != 1 || got[0] != head+`report"}` || forged.Kind.Type() != "" {
		t.Errorf("got %s", got)
	}
}

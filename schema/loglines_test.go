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
		l := schema.LogLine{Time: time.Unix(1_790_000_000, int64(rng.IntN(1e9))), RequestID: text(), Kind: schema.LogKind(rng.IntN(3)),
			Platform: rng.IntN(2) == 0, Cut: rng.IntN(2) == 0, Text: []byte(text()), Duration: time.Duration(rng.IntN(2)) * time.Hour,
			Init: time.Duration(rng.IntN(2)), MemoryMB: 128 * rng.IntN(2), ErrorType: text(), ErrorMessage: text()}
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
		if err := msgpack.Unmarshal(byHand, &read); err != nil || read[0].ErrorMessage != l.ErrorMessage || read[0].MemoryMB != l.MemoryMB {
			t.Fatalf("read by the tags: %+v, %v", read, err)
		}
	}
}

func TestLogLineTexts(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 1, 2, 3, 4e6, time.UTC)
	report := schema.LogLine{Time: at, RequestID: "ID", Kind: schema.LogReport, Duration: 12340 * time.Microsecond, MemoryMB: 128}
	cold, late, gone := report, report, report
	cold.Init = 80120 * time.Microsecond
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
		{cold, []string{"END RequestId: ID", text + "Init Duration: 80.12 ms\t"}},
		{late, []string{"END RequestId: ID", text + "Status: timeout", "2026-11-27T01:02:03.004Z ID Task timed out after 3.00 seconds"}},
		{gone, []string{"END RequestId: ID", text + "Status: error\tError Type: Runtime.ExitError",
			"RequestId: ID Error: Runtime exited with error: exit status 1", "Runtime.ExitError"}},
	} {
		if got := tt.line.Texts("7"); !slices.Equal(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

package telemetry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

func TestLevelChangesWhileALoggerIsInUse(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, telemetry.LogText, slog.LevelWarn)
	if err != nil {
		t.Fatal(err)
	}
	child := log.With("node", "m1").WithGroup("g") // made before the change
	level := telemetry.LevelOf(child)
	child.Info("one")
	level.Set(slog.LevelDebug, 0)
	child.Debug("two")
	level.Set(slog.LevelError, time.Hour)
	child.Warn("three")
	if until := level.Until(); time.Until(until) > time.Hour || time.Until(until) <= 0 {
		t.Errorf("until %v", until)
	}
	level.Set(slog.LevelError, time.Nanosecond) // has passed by now
	child.Debug("four")
	if until := level.Until(); !until.IsZero() {
		t.Errorf("until %v", until)
	}
	if got := out.String(); strings.Contains(got, "one") || !strings.Contains(got, "msg=two node=m1") || strings.Contains(got, "three") || !strings.Contains(got, "four") {
		t.Error(got)
	}
	if telemetry.LevelOf(slog.New(slog.DiscardHandler)) != nil {
		t.Error("a level of a logger that has none")
	}
	if _, err := telemetry.NewLogger(io.Discard, "xml", 0); err == nil {
		t.Error("a format that there is not")
	}
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "Warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, ok := telemetry.ParseLevel(text); !ok || got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	if _, ok := telemetry.ParseLevel("info+2"); ok {
		t.Error("info+2 is a level")
	}
}

func TestLevelHammer(t *testing.T) {
	t.Parallel()
	log, err := telemetry.NewLogger(io.Discard, telemetry.LogJSON, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	level := telemetry.LevelOf(log)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 2000 {
				level.Set(slog.LevelDebug, time.Duration(n%3)*time.Microsecond)
				log.Debug("x")
			}
		})
	}
	wg.Wait()
	level.Set(slog.LevelWarn, 0)
	if level.Level() != slog.LevelWarn {
		t.Error(level.Level())
	}
}

// Who lowers a log to errors is seen in it, for what comes after is missing there.
func TestAChangeOfTheLevelIsLoggedWhateverItIs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, telemetry.LogText, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"error", "warn", "debug", "error", "error"} {
		out.Reset()
		if _, err := telemetry.Obey(log.With("manager", "m1"), schema.StoryManager, "m1", &schema.LevelOrder{Level: level}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="log level changed" manager=m1 node="manager m1" to=`+level+" ") {
			t.Errorf("%s: %q", level, got)
		}
	}
	out.Reset()
	log.Warn("of no interest")
	if out.Len() > 0 {
		t.Errorf("from errors on it logs %q", out.String())
	}
}

// A line about a call has its request id and the id of its trace beside its own attributes, and one that is not written reads neither.
func TestLinesOfACall(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, telemetry.LogJSON, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log.Warn("answer not sent", telemetry.LogCall("8476a536", caller), "error", "closed")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line["request"] != "8476a536" || line["trace"] != trace || line["error"] != "closed" {
		t.Error(out.String())
	}
	out.Reset()
	log.Warn("untraced", telemetry.LogCall("8476a536", "nonsense"))
	if got := out.String(); !strings.Contains(got, `"request":"8476a536"`) || strings.Contains(got, "trace\":") {
		t.Error(got)
	}
}

// A line that is not written costs next to nothing.
func TestLinesOfACallAreCheapWhereTheyAreOff(t *testing.T) {
	log, err := telemetry.NewLogger(io.Discard, telemetry.LogJSON, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		log.LogAttrs(t.Context(), slog.LevelDebug, "off", telemetry.LogCall("8476a536", caller))
	}); allocs > 1 { // the pair of strings, boxed
		t.Errorf("%v allocations of a line that is not written", allocs)
	}
}

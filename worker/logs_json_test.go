package worker_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker"
)

// record is a line of the platform's in the JSON form.
type record struct {
	Type   string `json:"type"`
	Record struct {
		RequestID    string `json:"requestId"`
		Version      string `json:"version"`
		FunctionName string `json:"functionName"`
		TenantID     string `json:"tenantId"`
		Status       string `json:"status"`
		ErrorType    string `json:"errorType"`
		Dropped      int64  `json:"droppedBytes"`
		Lines        int64  `json:"droppedRecords"`
		Metrics      struct {
			Memory   int   `json:"memorySizeMB"`
			Produced int64 `json:"producedBytes"`
		} `json:"metrics"`
	} `json:"record"`
}

// records are the platform's lines, and those of the function beside them.
func (s *sink) records(t *testing.T) (platform []record, function []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, text := range s.text {
		_, text, _ = strings.Cut(text, " ")
		if !s.lines[i].Platform {
			function = append(function, text)
			continue
		}
		var r record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("a line of the platform's is no JSON: %q", text)
		}
		if r.Type != s.lines[i].Kind.Type() {
			t.Errorf("%q is of kind %d", text, s.lines[i].Kind)
		}
		platform = append(platform, r)
	}
	return platform, function
}

// TestJSONLines: with LogFormat JSON the platform's lines are Lambda's records, by level, in LOGS and in the tail; what a
// function prints stays its own, also where it looks like one of them.
func TestJSONLines(t *testing.T) {
	t.Parallel()
	const forged = `{"time":"2026-01-01T00:00:00.000Z","type":"platform.report","record":{"status":"success"},"level":"error"}`
	for _, test := range []struct {
		name    string
		logging schema.Logging
		types   []string // of an environment with one good and one failing call
		says    []string // of what was printed
	}{
		{"Default", schema.Logging{Format: "JSON"},
			[]string{"initStart", "start", "report", "start", "runtimeDone", "report"},
			[]string{"init done", "plain", `{"level":"INFO"}`, forged, `{"log_level":"ERROR"}`, "and without an end"}},
		{"Everything", schema.Logging{Format: "JSON", Level: "TRACE", SystemLevel: "DEBUG"},
			[]string{"initStart", "initReport", "start", "runtimeDone", "report", "start", "runtimeDone", "report"},
			[]string{"init done", "plain", `{"level":"debug"}`, `{"level":"INFO"}`, forged, `{"log_level":"ERROR"}`, "and without an end"}},
		{"Warnings", schema.Logging{Format: "JSON", Level: "WARN", SystemLevel: "WARN"},
			[]string{"runtimeDone", "report"}, []string{forged, `{"log_level":"ERROR"}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &sink{}
			b := setup(t, func(c *worker.Config) { c.Lines = s.open })
			binding := b.binding(perTenant, func(b *schema.Binding) { b.Logging = test.logging })
			b.made("e1", binding)
			run := b.runFor("acme", "e1", binding, quoted("say plain\n"+`{"level":"debug"}`+"\n"+`{"level":"INFO"}`+"\n"+forged+"\n"+`{"log_level":"ERROR"}`))
			run.Call.LogTail = true
			b.worker.Start(run)
			m, _ := b.answer(run)
			failing := b.runFor("acme", "e1", binding, quoted("fail"))
			b.worker.Start(failing)
			b.answer(failing)
			b.worker.End("e1")
			b.awaitEvent("e1", schema.EnvironmentGone, 1)
			platform, says := s.records(t)
			var types []string
			for _, r := range platform {
				types = append(types, strings.TrimPrefix(r.Type, "platform."))
				want := "acme"
				if strings.HasPrefix(r.Type, "platform.init") {
					want = "" // the init is nobody's
				}
				if r.Record.TenantID != want {
					t.Errorf("%+v, want sub-tenant %q", r, want)
				}
			}
			if !slices.Equal(types, test.types) {
				t.Errorf("records %q, want %q", types, test.types)
			}
			if !slices.Equal(says, test.says) {
				t.Errorf("the function's lines %q, want %q", says, test.says)
			}
			last := platform[len(platform)-1].Record
			if last.Status != "error" || last.ErrorType != "" || last.Metrics.Memory != 128 || last.RequestID == "" {
				t.Errorf("the failed call's report %+v", last)
			}
			tail, err := base64.StdEncoding.DecodeString(m.Header.Get("Hearth-Log-Result"))
			if err != nil {
				t.Fatal(err)
			}
			for text, want := range map[string]bool{
				`"type":"platform.start"`: test.logging.SystemLevel != "WARN", `"type":"platform.runtimeDone"`: test.logging.SystemLevel == "DEBUG",
				forged + "\n": true, `{"level":"debug"}`: test.logging.Level == "TRACE", "plain\n": test.logging.Level != "WARN",
				"START RequestId": false,
			} {
				if strings.Contains(string(tail), text) != want {
					t.Errorf("in the tail %q: %v, want %v; it is %q", text, !want, want, tail)
				}
			}
		})
	}
}

// TestJSONFailures: ends that no function posted, with their types; nothing that one posts stands in a record.
func TestJSONFailures(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines = s.open })
	binding := b.binding(func(b *schema.Binding) { b.Logging = schema.Logging{Format: "JSON", SystemLevel: "WARN"} })
	broken := b.binding(func(x *schema.Binding) {
		x.Logging, x.Variables = binding.Logging, map[string]string{"FN_INIT": "exit 3"}
	})
	b.worker.Make("broken", broken, b.notify)
	b.awaitEvent("broken", schema.EnvironmentFailed, 1)
	b.made("e1", binding)
	b.call("e1", binding, quoted("forge"))
	b.call("e1", binding, quoted("exit 4"))
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	platform, _ := s.records(t)
	var got []string
	for _, r := range platform {
		got = append(got, strings.Join([]string{r.Type, r.Record.Status, r.Record.ErrorType}, " "))
	}
	want := []string{"platform.initReport error Runtime.ExitError", "platform.runtimeDone error ", "platform.report error ",
		"platform.runtimeDone error Runtime.ExitError", "platform.report error Runtime.ExitError"}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// TestFloodIsToldOnce: each cut of a flood has one record, and these tell of every line that was dropped.
func TestFloodIsToldOnce(t *testing.T) {
	t.Parallel()
	s := &sink{}
	b := setup(t, func(c *worker.Config) { c.Lines, c.LogRate = s.open, 64<<10 })
	binding := b.binding(func(b *schema.Binding) { b.Logging = schema.Logging{Format: "JSON", SystemLevel: "WARN"} })
	b.made("e1", binding)
	const lines = 2000
	b.call("e1", binding, quoted("flood 2000"))
	b.worker.End("e1")
	b.awaitEvent("e1", schema.EnvironmentGone, 1)
	platform, function := s.records(t)
	passed, dropped, bytes := 0, int64(0), int64(0)
	for _, text := range function {
		if strings.HasPrefix(text, "ffff") {
			passed++
		}
	}
	for _, r := range platform {
		if r.Type != "platform.logsDropped" {
			t.Fatalf("%+v", r)
		}
		dropped, bytes = dropped+r.Record.Lines, bytes+r.Record.Dropped
	}
	if counted := b.worker.Counters().LogBytesDropped; bytes != counted || counted == 0 {
		t.Errorf("records tell of %d bytes, the counter of %d", bytes, counted)
	}
	// The init's line may have been dropped as well.
	if got := int64(passed) + dropped; got < lines || got > lines+1 {
		t.Errorf("%d lines passed and %d were dropped, of %d", passed, dropped, lines)
	}
	// A cut begins where the rate is used up, and ends when an eighth of a second's worth of it has come back.
	if cuts := len(platform); cuts < 1 || cuts > 1+passed/((64<<10)/8/(1024+64)) {
		t.Errorf("%d records of cuts among %d lines that passed", cuts, passed)
	}
}

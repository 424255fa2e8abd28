package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// What a role that logs JSON says beside its log is JSON too, and said whatever its level is.
func TestComplaintsOfARoleThatLogsJSON(t *testing.T) {
	t.Parallel()
	for format, want := range map[string][]string{
		"text": {"hearth: driver process: bare", "console http://127.0.0.1:1/console"},
		"json": {`"msg":"driver process: bare"`, `"msg":"console","url":"http://127.0.0.1:1/console"`},
	} {
		var out bytes.Buffer
		a := &app{stderr: &out}
		if _, err := a.logger("error", format); err != nil {
			t.Fatal(err)
		}
		a.complain("driver %s: %s", "process", "bare")
		a.tellAddress("console", "http://127.0.0.1:1/console")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%s: %q", format, lines)
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) || (format == "json") != json.Valid([]byte(line)) {
				t.Errorf("%s: %s, want %s", format, line, want[i])
			}
		}
	}
}

package schema_test

import (
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// TestMark: what goes into the byte comes out of it, and a byte of whatever build is no end that is not there.
func TestMark(t *testing.T) {
	t.Parallel()
	own := &schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeTimedOut), Posted: true}}
	failed := func(kind string) *schema.Outcome { return &schema.Outcome{Error: &schema.FunctionError{Type: kind}} }
	for _, start := range []schema.Start{"", schema.StartCold, schema.StartSpecialised, schema.StartWarm} {
		for _, c := range []struct {
			outcome *schema.Outcome
			end     schema.Mark
			failed  bool
		}{
			{nil, schema.MarkNone, false}, {&schema.Outcome{}, schema.MarkOK, false},
			{failed("TypeError"), schema.MarkFailed, true}, {failed(string(schema.CodeTimedOut)), schema.MarkTimedOut, true},
			{own, schema.MarkFailed, true},
		} {
			m := schema.MarkOf(start, c.outcome)
			if m.Start() != start || m.End() != c.end || m.Failed() != c.failed {
				t.Errorf("%s, %+v: %s, %d, %v", start, c.outcome, m.Start(), m.End(), m.Failed())
			}
		}
	}
	for code, want := range map[schema.Code]schema.Code{schema.CodeTimedOut: schema.CodeTimedOut, "TypeError": "", "": ""} {
		f := schema.FunctionError{Type: string(code)}
		posted := schema.FunctionError{Type: string(code), Posted: true}
		if f.PlatformCode() != want || posted.PlatformCode() != "" {
			t.Errorf("%q is the platform's %q, and posted %q", code, f.PlatformCode(), posted.PlatformCode())
		}
	}
	e := schema.Ends{Tokens: []uint64{1, 2}, Marks: []byte{7}}
	if e.Mark(0) != 7 || e.Mark(1) != 0 {
		t.Errorf("marks %d and %d", e.Mark(0), e.Mark(1))
	}
	for b := range 256 {
		m := schema.Mark(b)
		if m.Start() == "" && b&3 != 0 || int(m.End())|b&3 != b {
			t.Errorf("byte %d", b)
		}
	}
}

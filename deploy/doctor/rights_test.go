package doctor

import "testing"

// What one pattern has of another: all, some, or nothing.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b              string
		covers, back, any bool
	}{
		{"a.b", "a.b", true, true, true}, {"a.b", "a.c", false, false, false}, {"a.*", "a.b", true, false, true}, {"a.>", "a.b.c", true, false, true},
		{"a.>", "a", false, false, false}, {"a.>", "a.*", true, false, true}, {"a.*", "a.>", false, true, true}, {">", "a", true, false, true},
		{"*", "a.b", false, false, false}, {"*.b", "a.*", false, false, true}, {"a.*.c", "a.b.>", false, false, true}, {"a.>", "b.>", false, false, false},
		{"a.b queue", "a.b", true, true, true}, {"a.>", "a.>", true, true, true},
	} {
		if got := covers(tt.a, tt.b); got != tt.covers {
			t.Errorf("%q covers %q: %v", tt.a, tt.b, got)
		}
		if got := covers(tt.b, tt.a); got != tt.back {
			t.Errorf("%q covers %q: %v", tt.b, tt.a, got)
		}
		if overlap(tt.a, tt.b) != tt.any || overlap(tt.b, tt.a) != tt.any {
			t.Errorf("%q and %q overlap: %v, want %v", tt.a, tt.b, !tt.any, tt.any)
		}
	}
}

package subjects_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"resize": "resize", "a_b-C9": "a_b-C9", "": "=", "_": "=5F", "__": "__", "=": "=3D", "=5F": "=3D5F", "a.b": "a=2Eb", "*": "=2A",
		">": "=3E", "$LATEST": "=24LATEST", "a b": "a=20b", "ü": "=C3=BC", "\x00": "=00", "a/../b": "a=2F=2E=2E=2Fb",
	} {
		if got := subjects.Escape(name); got != token {
			t.Errorf("Escape(%q) = %q, want %q", name, got, token)
		}
		if got, ok := subjects.Unescape(token); !ok || got != name {
			t.Errorf("Unescape(%q) = %q, %v, want %q", token, got, ok, name)
		}
	}
}

func TestUnescapeKnowsOneSpelling(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "_", "=4", "=2e", "=41", "a=5F", "=5F=5F", "==", "a=", "a.b", "a b", "*", ">", "=G0", "ü", "=3D="} {
		if name, ok := subjects.Unescape(token); ok {
			t.Errorf("Unescape(%q) = %q", token, name)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("resize", "=5F")
	f.Add("_", "")
	f.Add("a.b", "a=2Eb")
	f.Add("\xff*>", "=FF=2A=3E")
	f.Fuzz(func(t *testing.T, a, b string) {
		token := subjects.Escape(a)
		if token == "" || token == subjects.Absent || strings.ContainsAny(token, ".*> \t\r\n\x00/\\") {
			t.Fatalf("Escape(%q) = %q: no token", a, token)
		}
		if back, ok := subjects.Unescape(token); !ok || back != a {
			t.Fatalf("%q became %q, and that %q, %v", a, token, back, ok)
		}
		if a != b && token == subjects.Escape(b) {
			t.Fatalf("%q and %q share the token %q", a, b, token)
		}
		// b read as a token: whatever is accepted is the spelling that Escape gives.
		if name, ok := subjects.Unescape(b); ok && subjects.Escape(name) != b {
			t.Fatalf("Unescape(%q) = %q, whose spelling is %q", b, name, subjects.Escape(name))
		}
	})
}

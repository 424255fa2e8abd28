package console_test

import (
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/subjects"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                     "",
		"plain-name_1 $LATEST": "plain-name_1 $LATEST",
		"größe 数 عربي עברית 🔥 é": "größe 数 عربي עברית 🔥 é",
		"a\u202egnp.exe":           `a\u202egnp.exe`,
		"a\u200bb\u200dc\ufeffd":   `a\u200bb\u200dc\ufeffd`,
		"\u2066x\u2069\u200f":      `\u2066x\u2069\u200f`,
		"a\nb\tc\rd\x00\x1b[0m":    `a\nb\tc\rd\x00\x1b[0m`,
		"\u00a0\u2028\u3164\u034f": `\u00a0\u2028\u3164\u034f`,
		"\xff\xc3":                 `\xff\xc3`,
		"\U000e0041":               `\U000e0041`,
		"\ufffd":                   "\ufffd",
	} {
		if got := console.Visible(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range evil {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := console.Visible(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q becomes %q, no UTF-8", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q becomes %q, which hides %U", s, got, r)
			}
		}
	})
}

// TestCommand: each word arrives as it was, in a shell that is asked, and what a terminal would act on is no command.
func TestCommand(t *testing.T) {
	t.Parallel()
	for _, word := range []string{
		"plain", "", "two words", "it's", `"double"`, "$HOME `id` $(id)", "a;b&c|d>e<f", "-n", "--all", "\\", "'", "''", "*", "~", "!x", "#x", "a=b", "größe", "{a,b}",
	} {
		line := console.Command("printf", "%s", word)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is quoted as %s, which the shell reads as %q (%v)", word, line, out, err)
		}
	}
	for _, word := range []string{"a\nb", "a\rb", "\x1b[201~rm", "\x00", "\u202e", "\x7f", "\xff"} {
		if line := console.Command("echo", word); line != "" {
			t.Errorf("%q gives the command %q", word, line)
		}
	}
	for _, name := range evil {
		if line := console.Command("hearth", "logs", name); strings.ContainsAny(line, "\n\r\x1b\x00") {
			t.Errorf("%q gives the command %q", name, line)
		}
	}
}

// TestCommandsOfNames: a name that reads like a flag stays a name, and flags stand before it.
func TestCommandsOfNames(t *testing.T) {
	t.Parallel()
	names, err := subjects.NewNames("other")
	if err != nil {
		t.Fatal(err)
	}
	usual, other := serve(t, &fabric{}).console, console.New(&fabric{}, names, slog.New(slog.DiscardHandler))
	for name, want := range map[string]string{
		"resize":  "hearth logs --follow resize",
		"--all":   "hearth logs --follow -- --all",
		"-":       "hearth logs --follow -- -",
		"=ls":     "hearth logs --follow '=ls'",
		"two - 2": "hearth logs --follow 'two - 2'",
	} {
		if got := usual.Hearth([]string{"logs", "--follow"}, name); got != want {
			t.Errorf("%q gives %s, want %s", name, got, want)
		}
	}
	if got := other.Hearth([]string{"trace"}, "-x"); got != "hearth trace --prefix=other -- -x" {
		t.Errorf("of another prefix: %s", got)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "", 40 * time.Microsecond: "0.04 ms", 1500 * time.Microsecond: "1.5 ms", 123456 * time.Microsecond: "123 ms", 1234 * time.Millisecond: "1.2 s",
		75 * time.Second: "1m15s",
	} {
		if got := console.Took(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{3 * time.Second: "3s", time.Minute: "1m", 15 * time.Minute: "15m", 6 * time.Hour: "6h", 90 * time.Second: "1m30s"} {
		if got := console.Span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

package control_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the service answers")

// TestGolden plays the scripts in testdata: each is a conversation with a fabric of its own. A line `> Operation {json}`
// asks, the lines up to the next one are the answer. Lines of `#` say what it is about. In requests ${zip:TEXT} is the
// hash of a zip that is put into the store first, and ${revision} the RevisionId of the last answer that had one. In
// answers each RevisionId has a number, so that one can see where it stays and where it changes.
func TestGolden(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".script"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, setup(t), string(want))
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compare(t, path, string(want), string(got))
		})
	}
}

var (
	zipHole  = regexp.MustCompile(`\$\{zip:([^}]*)\}`)
	revision = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	seconds  = regexp.MustCompile(`("LastModified": )1[0-9]{9}(\.[0-9]+)?`)
	moment   = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[.0-9]*(Z|\+0000)`)
)

func play(t *testing.T, b *bundle, script string) []byte {
	t.Helper()
	var out bytes.Buffer
	numbers := make(map[string]string)
	last := ""
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "#") || line == "\n" {
			out.WriteString(line)
			continue
		}
		ask, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		out.WriteString(line)
		operation, request, _ := strings.Cut(strings.TrimSpace(ask), " ")
		account := subjects.DefaultAccount
		if a, op, ok := strings.Cut(operation, "/"); ok {
			account, operation = a, op
		}
		request = zipHole.ReplaceAllStringFunc(request, func(hole string) string {
			return b.putZip(t, zipHole.FindStringSubmatch(hole)[1])
		})
		request = strings.ReplaceAll(request, "${revision}", last)
		m := b.ask(t, account, operation, request)
		if status := m.Header.Get(schema.HeaderErrorCode); status != "" {
			fmt.Fprintf(&out, "%s %s\n", status, m.Header.Get(schema.HeaderError))
		}
		var body bytes.Buffer
		if len(m.Data) > 0 {
			if err := json.Indent(&body, m.Data, "", "  "); err != nil {
				t.Fatalf("%s answered %q: %v", operation, m.Data, err)
			}
			var seen struct{ RevisionId string }
			if json.Unmarshal(m.Data, &seen) == nil && seen.RevisionId != "" {
				last = seen.RevisionId
			}
		}
		if body.Len() == 0 {
			body.WriteString("(nothing)")
		}
		out.Write(body.Bytes())
		out.WriteByte('\n')
	}
	masked := revision.ReplaceAllStringFunc(out.String(), func(id string) string {
		if numbers[id] == "" {
			numbers[id] = fmt.Sprintf("revision-%d", len(numbers)+1)
		}
		return numbers[id]
	})
	return []byte(seconds.ReplaceAllString(moment.ReplaceAllString(masked, "TIME"), "${1}SECONDS"))
}

func compare(t *testing.T, path, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Fatalf("%s:%d:\n got %s\nwant %s\n(run with -update to rewrite it)", path, i+1, b, a)
		}
	}
}

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// record is the function's own note of its runs, by the tag of a call: the proof of what ran once, twice or never,
// whatever became of its answer.
type record struct{ path string }

func newRecord(t testing.TB) *record {
	t.Helper()
	r := &record{path: filepath.Join(reachable(t), "runs")}
	if err := os.WriteFile(r.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.path, 0o666); err != nil {
		t.Fatal(err)
	}
	return r
}

// reachable is a folder of the test into which functions can look: they run as a user of their own where the test is root,
// and the folders of t.TempDir are closed to others.
func reachable(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hearth-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// payload has the function note its run under a tag, and then do what the words say.
func (r *record) payload(tag, words string) string {
	return fmt.Sprintf("%q", strings.TrimSpace(strings.Join([]string{"record", r.path, tag, words}, " ")))
}

// runs are the request ids of each tag's runs.
func (r *record) runs(t testing.TB) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	runs := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		tag, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("the record has a line %q", line)
		}
		runs[tag] = append(runs[tag], id)
	}
	return runs
}

package e2e_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// record is the function's own note of its runs, by request id: the proof of what ran once, twice or never, whatever
// became of its answer.
type record struct{ path string }

func newRecord(t testing.TB) *record {
	t.Helper()
	r := &record{path: filepath.Join(t.TempDir(), "runs")}
	if err := os.WriteFile(r.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Functions run as a user of their own where the test is root.
	if err := os.Chmod(r.path, 0o666); err != nil {
		t.Fatal(err)
	}
	return r
}

// payload has the function note its run, and then do what the words say.
func (r *record) payload(words string) string {
	return fmt.Sprintf("%q", strings.TrimSpace("record "+r.path+" "+words))
}

// runs are how often each request has run.
func (r *record) runs(t testing.TB) map[string]int {
	t.Helper()
	b, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	runs := map[string]int{}
	for line := range strings.Lines(string(b)) {
		runs[strings.TrimSpace(line)]++
	}
	return runs
}

// newRequestID names a call before it is made.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

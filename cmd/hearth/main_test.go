package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/worker/driver/process"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/unpack"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain is also the binary that `bench` starts again, and the keeper of the process driver.
func TestMain(m *testing.M) {
	unpack.Main()
	egress.Main()
	process.Main()
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		ctx, stop := untilInterrupted(context.Background())
		code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	// nats.go 1.55.0 leaks this one where an object store is done before it has started: CleanupPublisher clears the channel
	// that it is about to read (jetstream/publish.go:566), and it reads nil for ever.
	goleak.VerifyTestMain(m, natstest.Clients())
}

// result is how a run of the command ended.
type result struct {
	code           int
	stdout, stderr string
}

// surroundings are what a run of the command sees: nothing of the real user.
type surroundings struct {
	env    map[string]string
	config string // folder
	stdin  string
}

func (s surroundings) app(t *testing.T) *app {
	t.Helper()
	if s.config == "" {
		s.config = t.TempDir()
	}
	return &app{
		stdin:     strings.NewReader(s.stdin),
		lookup:    func(name string) (string, bool) { v, ok := s.env[name]; return v, ok },
		configDir: func() (string, error) { return s.config, nil },
	}
}

func (s surroundings) run(t *testing.T, args ...string) result {
	t.Helper()
	return s.runContext(t.Context(), t, args...)
}

func (s surroundings) runContext(ctx context.Context, t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr buffer
	a := s.app(t)
	a.stdout, a.stderr = &stdout, &stderr
	return result{a.run(ctx, args), stdout.String(), stderr.String()}
}

// alone runs the command where there is nothing.
func alone(t *testing.T, args ...string) result {
	t.Helper()
	return surroundings{}.run(t, args...)
}

// buffer is a bytes.Buffer that goroutines may share.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// eventually waits for a condition under a deadline.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within 30 s", what)
		case <-tick.C:
		}
	}
}

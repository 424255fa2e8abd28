package frontend

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a start waits for is told after a second, then every ten, each time as it is then; a quick start says nothing.
func TestWaitingIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out said
		log := slog.New(slog.NewTextHandler(&out, nil))
		var w waiting
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		w.on("bucket functions")
		go func() {
			defer close(done)
			w.tell(ctx, log)
		}()
		lines := func() int {
			synctest.Wait()
			return strings.Count(out.String(), "\n")
		}
		for _, step := range []struct {
			d    time.Duration
			want int
		}{{waitFirst - 1, 0}, {1, 1}, {waitAgain - 1, 1}, {1, 2}} {
			time.Sleep(step.d)
			if got := lines(); got != step.want {
				t.Errorf("%d lines, want %d: %s", got, step.want, &out)
			}
			if step.want == 1 {
				w.on("key ring")
			}
		}
		first, second, _ := strings.Cut(out.String(), "\n")
		if !strings.Contains(first, "bucket functions") || !strings.Contains(first, "hearth manager") || !strings.Contains(second, "key ring") {
			t.Error(out.String())
		}
		cancel()
		<-done
	})
}

// said is what was logged, for who logs and who reads.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

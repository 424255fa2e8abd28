package deploy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestServerLogIsBounded: whoever makes the server complain does not fill the disk, and nothing is left out unsaid.
func TestServerLogIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newServerLog(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			log.Errorf("Publish Violation - Subject %q", "x")
		}
		if n := strings.Count(out.String(), "Violation"); n != logBurst {
			t.Errorf("%d lines of 1000, want %d", n, logBurst)
		}
		out.Reset()
		time.Sleep(time.Second)
		log.Warnf("slow consumer")
		if text := out.String(); !strings.Contains(text, "lines=990") || !strings.Contains(text, "level=WARN msg=\"slow consumer\"") {
			t.Errorf("a second later it says %s", text)
		}
	})
}

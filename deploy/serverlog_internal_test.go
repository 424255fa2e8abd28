package deploy

import (
	"log/slog"
	"testing"
)

// TestServerLogKnowsBrokenStreams: a stream that takes nothing any more is told from one whose consumer alone is in trouble. The
// lines are those of nats-server 2.15.2; e2e's TestDiskFull has it say them.
func TestServerLogKnowsBrokenStreams(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		format     string
		values     []any
		some, this bool
	}{
		{"Filestore [EV] Critical write error: %v", []any{"no space left on device"}, true, true},
		{"Filestore [EV_1] Critical write error: %v", []any{"no space left on device, not even for [EV]"}, true, false},
		{"JetStream stream '%s > %s' critical write error: %v", []any{"$G", "EV", "no space left"}, true, true},
		{"JetStream stream '%s > %s' critical write error: %v", []any{"EV", "OTHER", "no space left"}, true, false},
		{"JetStream consumer '%s > %s > %s' critical write error: %v", []any{"$G", "EV", "c", "no space left"}, true, false},
		{"JetStream failed to store a msg on stream '%s > %s': %v", []any{"$G", "EV", "no space left"}, false, false},
	} {
		l := newServerLog(slog.New(slog.DiscardHandler))
		l.Errorf(k.format, k.values...)
		if some, this := l.breaking(), l.broke("EV"); some != k.some || this != k.this {
			t.Errorf("%s %v: broken %v, this stream %v", k.format, k.values, some, this)
		}
	}
}

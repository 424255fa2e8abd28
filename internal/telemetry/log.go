package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Formats of the log.
const (
	LogText = "text"
	LogJSON = "json"
)

// Attributes of lines that concern one call.
const (
	LogRequest = "request" // its request id
	LogTrace   = "trace"   // its trace id, where its caller or this fabric traces it
)

// LogCall is the attributes of a line that concerns a call: its request id, and the id of its trace, if traceparent is one. Making it
// costs nothing; only a line that is written reads the two.
func LogCall(requestID, traceparent string) slog.Attr {
	return slog.Attr{Value: slog.AnyValue(callOf{requestID, traceparent})}
}

type callOf struct{ requestID, traceparent string }

// LogValue is a group without a name: its attributes stand beside those of the line.
func (c callOf) LogValue() slog.Value {
	if id := traceID(c.traceparent); id != "" {
		return slog.GroupValue(slog.String(LogRequest, c.requestID), slog.String(LogTrace, id))
	}
	return slog.GroupValue(slog.String(LogRequest, c.requestID))
}

// traceID is the trace id of a traceparent, "" of what is none.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}

// NewLogger makes a logger whose level can be changed while it is in use ([LevelOf]). format is [LogText] or [LogJSON].
func NewLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	l := &Level{}
	l.Set(level, 0)
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case LogText:
		return slog.New(levelled{slog.NewTextHandler(w, options), l}), nil
	case LogJSON:
		return slog.New(levelled{slog.NewJSONHandler(w, options), l}), nil
	}
	return nil, fmt.Errorf("log format %q: %s or %s", format, LogText, LogJSON)
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(text string) (slog.Level, bool) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(text, l.String()) {
			return l, true
		}
	}
	return 0, false
}

// Level is from which level on a process logs. It is safe for concurrent use; the zero value is info.
type Level struct {
	now   atomic.Int64 // slog.Level
	until atomic.Int64 // Unix ns; 0: for good

	mu   sync.Mutex // orders changes
	then int64      // what it is again after until; guarded by mu
}

// Level is the level of now: what [slog.Leveler] asks.
func (l *Level) Level() slog.Level {
	if until := l.until.Load(); until != 0 && time.Now().UnixNano() >= until {
		l.mu.Lock() // nobody is needed who waits for that moment
		if l.until.CompareAndSwap(until, 0) {
			l.now.Store(l.then)
		}
		l.mu.Unlock()
	}
	return slog.Level(l.now.Load())
}

// Set changes the level, for so long and then back to what it was last set to for good; 0: for good.
func (l *Level) Set(level slog.Level, lasting time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lasting <= 0 {
		l.until.Store(0)
		l.then = int64(level)
		l.now.Store(l.then)
		return
	}
	l.now.Store(int64(level))
	l.until.Store(time.Now().Add(lasting).UnixNano())
}

// Until is when the level goes back; zero: it stays.
func (l *Level) Until() time.Time {
	l.Level()
	if until := l.until.Load(); until != 0 {
		return time.Unix(0, until).UTC()
	}
	return time.Time{}
}

// LevelOf is the level of a logger that [NewLogger] made, or that was made of one by With; nil of any other.
func LevelOf(log *slog.Logger) *Level {
	if h, ok := log.Handler().(levelled); ok {
		return h.level
	}
	return nil
}

// levelled is a handler that knows its level.
type levelled struct {
	slog.Handler
	level *Level
}

// Enabled asks for the level as it is now.
func (h levelled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs keeps the level.
func (h levelled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelled{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup keeps the level.
func (h levelled) WithGroup(name string) slog.Handler {
	return levelled{h.Handler.WithGroup(name), h.level}
}

package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog gives what the embedded server has to say to slog: warnings and errors as such, the rest for debugging. The
// first thing that is fatal to it is kept: the server does not return it. What it says of its clients is said at most
// logBurst times a second: anybody on this host may do forbidden things as often as he likes, each is a line, and logs lie
// on disks.
type serverLog struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	second time.Time  // when the present second began
	said   int        // in it
	unsaid int        // lines left out since the last one

	broken map[string]bool // streams that store nothing any more, as this server says

	once  sync.Once
	fatal chan struct{} // closed when cause is set
	cause error
}

const logBurst = 10

var _ server.Logger = (*serverLog)(nil)

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("part", "nats-server"), fatal: make(chan struct{})}
}

// Noticef logs what the server tells of its life.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf logs a warning.
func (l *serverLog) Warnf(format string, v ...any) { l.say(slog.LevelWarn, format, v) }

// Errorf logs an error.
func (l *serverLog) Errorf(format string, v ...any) {
	if strings.Contains(format, writeError) {
		l.breaks(fmt.Sprintf(format, v...))
	}
	l.say(slog.LevelError, format, v)
}

// writeError is in the line by which the server says that it could not write to a stream. It keeps the error: from then on this
// stream takes nothing and answers nobody until the server starts again, also when there is room again. Nothing but this line
// tells of it in time (nats-server 2.15.2, setWriteErr of filestore.go and stream.go).
const writeError = "ritical write error"

// breaks notes the stream that a line is about. Lines about consumers name their stream too, which still takes messages.
func (l *serverLog) breaks(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = make(map[string]bool)
	}
	about, _, _ := strings.Cut(line, writeError)
	name := about
	if !strings.HasPrefix(about, "JetStream consumer ") {
		for _, word := range strings.FieldsFunc(about, func(r rune) bool { return strings.ContainsRune(" []'>", r) }) {
			if word != "C" && word != "c" { // of "Critical"
				name = word
			}
		}
	}
	l.broken[name] = true
}

// breaking reports whether there is anything that the server could not write to.
func (l *serverLog) breaking() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.broken) > 0
}

// broke reports whether this stream takes nothing because the server could not write to it.
func (l *serverLog) broke(stream string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken[stream]
}

// say logs a line, unless too many came in this second; the next one tells how many were left out.
func (l *serverLog) say(level slog.Level, format string, v []any) {
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second, l.said = now, 0
	}
	if l.said++; l.said > logBurst {
		l.unsaid++
		l.mu.Unlock()
		return
	}
	unsaid := l.unsaid
	l.unsaid = 0
	l.mu.Unlock()
	if unsaid > 0 {
		l.log.Warn("lines of the NATS server left out", "lines", unsaid)
	}
	l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
}

// Fatalf keeps what the server cannot go on after. It must not end the process: functions run in it.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.once.Do(func() {
		l.cause = fmt.Errorf(format, v...)
		close(l.fatal)
	})
	l.log.Error(fmt.Sprintf(format, v...))
}

// Debugf logs for debugging.
func (l *serverLog) Debugf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Tracef is never asked for.
func (l *serverLog) Tracef(string, ...any) {}

package deploy

import (
	"context"
	"fmt"
	"log/slog"
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
func (l *serverLog) Errorf(format string, v ...any) { l.say(slog.LevelError, format, v) }

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

package deploy

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog gives what the embedded server has to say to slog: warnings and errors as such, the rest for debugging. The
// first thing that is fatal to it is kept: the server does not return it.
type serverLog struct {
	log   *slog.Logger
	once  sync.Once
	fatal chan struct{} // closed when cause is set
	cause error
}

var _ server.Logger = (*serverLog)(nil)

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("part", "nats-server"), fatal: make(chan struct{})}
}

// Noticef logs what the server tells of its life.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf logs a warning.
func (l *serverLog) Warnf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }

// Errorf logs an error.
func (l *serverLog) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }

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

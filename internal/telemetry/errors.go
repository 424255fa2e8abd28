package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
)

// errorsEvery is how often it is logged that spans or metrics are not sent: an exporter says so with each batch.
const errorsEvery = time.Minute

// LogErrors has what OpenTelemetry complains of (a collector that is not there) logged as warnings, a line a minute at most. It is a
// setting of the process: the last call counts.
func LogErrors(log *slog.Logger) { otel.SetErrorHandler(&rarely{log: log}) }

type rarely struct {
	log *slog.Logger

	mu     sync.Mutex
	last   time.Time
	unsaid int
}

var _ otel.ErrorHandler = (*rarely)(nil)

// Handle implements otel.ErrorHandler.
func (r *rarely) Handle(err error) {
	now := time.Now()
	r.mu.Lock()
	if !r.last.IsZero() && now.Sub(r.last) < errorsEvery {
		r.unsaid++
		r.mu.Unlock()
		return
	}
	unsaid := r.unsaid
	r.last, r.unsaid = now, 0
	r.mu.Unlock()
	r.log.Warn("telemetry", "error", text(err.Error()), "unsaid", unsaid)
}

package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/lifecycle"
)

// metricsListener tells the metrics of a role that serves no other HTTP. Its door is guarded as a frontend's (SECURITY 6).
type metricsListener struct {
	server *http.Server
	serves conc.WaitGroup
}

// tellMetrics adds a listener for them to a role, where it is asked for.
func (u *up) tellMetrics(n *Node, address string) {
	if address == "" {
		return
	}
	l := &metricsListener{}
	n.parts.Add("metrics", lifecycle.Func{
		OnStart: func(ctx context.Context) error {
			at, err := listen(ctx, address, "metrics", "--metrics")
			if err != nil {
				return err
			}
			n.Metrics = urlOf("http", at.Addr()) + "/metrics"
			l.start(at, frontend.Guard(at.Addr(), nil, u.cfg.Metrics), u.cfg.Logger)
			return nil
		},
		OnStop: l.stop,
	})
}

func (l *metricsListener) start(at net.Listener, metrics http.Handler, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	l.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	l.serves.Go(func() {
		if err := l.server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not told any more", "error", err)
		}
	})
}

func (l *metricsListener) stop(ctx context.Context) error {
	if l.server == nil {
		return nil
	}
	err := l.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("wait for who reads metrics: %w", err), l.server.Close())
	}
	l.serves.Wait()
	return err
}

// badMetrics refuses an address that is none, or is not for this host alone.
func badMetrics(address string, wrong func(field, got, allowed string)) {
	if address == "" {
		return
	}
	if host, ok := hostOf(address); !ok {
		wrong("Metrics", address, aListener)
	} else if !loopback(host) {
		wrong("Metrics", address, "a loopback address: whoever reads metrics there says no credential. Elsewhere they go by OTLP: "+
			"OTEL_EXPORTER_OTLP_ENDPOINT")
	}
}

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
	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/internal/lifecycle"
)

// seenListener shows metrics, or the console, of a process that serves no other HTTP, or lets nobody in there without a credential.
// Whoever is on this host looks: who wants that says so by its flag. Its door is guarded as a frontend's (SECURITY 6).
type seenListener struct {
	server *http.Server
	conns  frontend.Conns
	serves conc.WaitGroup
}

// maxSeen is the most connections of such a listener: dozens of browsers, and no more of the process's descriptors than that for whoever
// on this host opens them.
const maxSeen = 256

// tellMetrics adds a listener for metrics to a role, where it is asked for; url is told where it serves.
func (u *up) tellMetrics(parts *lifecycle.Group, address string, url *string) {
	u.show(parts, "metrics", address, url, "/metrics", func(at net.Addr) (http.Handler, func()) {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", frontend.Guard(at, nil, u.cfg.Metrics))
		return mux, nil
	})
}

// showConsole adds a listener for the console of the first frontend, the same way.
func (u *up) showConsole(parts *lifecycle.Group, address string, url *string) {
	u.show(parts, "console", address, url, console.Root, func(at net.Addr) (http.Handler, func()) {
		pages, end := u.frontends[0].frontend.Pages(at, u.cfg.Hosts)
		// Not a ServeMux, which redirects where the name of a function is no clean path.
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !console.Path(r.URL.Path) {
				http.NotFound(w, r)
				return
			}
			pages.ServeHTTP(w, r)
		}), end
	})
}

// show adds a listener that serves what handle gives when it starts, of which path is where one begins to look.
func (u *up) show(parts *lifecycle.Group, name, address string, url *string, path string, handle func(net.Addr) (http.Handler, func())) {
	if address == "" {
		return
	}
	l := &seenListener{}
	parts.Add(name, lifecycle.Func{
		OnStart: func(ctx context.Context) error {
			at, err := listen(ctx, address, name, "--"+name)
			if err != nil {
				return err
			}
			*url = urlOf("http", at.Addr()) + path
			handler, end := handle(at.Addr())
			l.start(at, handler, end, u.cfg.Logger.With("listener", name))
			return nil
		},
		OnStop: l.stop,
	})
}

// start serves; end, if there is one, ends what is live when it stops.
func (l *seenListener) start(at net.Listener, handler http.Handler, end func(), log *slog.Logger) {
	l.conns.Most = maxSeen
	// What is live sets a deadline of its own for each of its writes.
	l.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ConnState: l.conns.State,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if end != nil {
		l.server.RegisterOnShutdown(end)
	}
	l.serves.Go(func() {
		if err := l.server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			log.Error("it serves no more", "error", err)
		}
	})
}

func (l *seenListener) stop(ctx context.Context) error {
	if l.server == nil {
		return nil
	}
	err := l.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("wait for who looks: %w", err), l.server.Close())
	}
	l.serves.Wait()
	return err
}

// badSeen refuses addresses that are none, or are not for this host alone.
func badSeen(metrics, console string, wrong func(field, got, allowed string)) {
	for _, one := range []struct{ field, address, elsewhere string }{
		{"Metrics", metrics, "whoever reads metrics there says no credential. Elsewhere they go by OTLP: OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"Console", console, "whoever opens the console there says no credential. From elsewhere a tunnel reaches it: ssh -L"},
	} {
		if one.address == "" {
			continue
		}
		if host, ok := hostOf(one.address); !ok {
			wrong(one.field, one.address, aListener)
		} else if !loopback(host) {
			wrong(one.field, one.address, "a loopback address: "+one.elsewhere)
		}
	}
}

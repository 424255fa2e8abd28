package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/schema"
)

const (
	headerTime  = 10 * time.Second // to send the header of a request
	idleTime    = 2 * time.Minute  // between two requests on a connection
	maxConns    = 8192             // connections; one more is closed at once
	maxRequests = 4096             // requests being served; one more is told to come back
	lookTime    = 30 * time.Second // for a look at metrics or at a page of the console, until it is read
)

// httpDoor serves the Lambda API and the health of this frontend. DESIGN 10.
type httpDoor struct {
	listener net.Listener
	server   *http.Server
	conns    atomic.Int64
	requests atomic.Int64
	lookTime time.Duration
	next     http.Handler
	log      *slog.Logger
}

func newHTTPDoor(f *Frontend, cfg Config, log *slog.Logger) *httpDoor {
	d := &httpDoor{listener: cfg.HTTP, lookTime: lookTime, log: log}
	api := lambdaapi.New(f)
	pages := f.console
	if cfg.NoConsole {
		pages = nil
	}
	// Not a ServeMux: that one answers paths which are not clean by a redirect, with no error that SDKs can read.
	d.next = newGuard(cfg.HTTP.Addr(), cfg.Hosts, cfg.Anonymous, pages, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			f.health(w, r)
			return
		case jwksPath:
			f.jwks(w, r)
			return
		case metricsPath:
			if cfg.Metrics != nil {
				serveMetrics(cfg.Metrics, w, r)
				return
			}
		}
		if pages != nil && console.Path(r.URL.Path) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	}))
	d.server = &http.Server{
		Handler: d, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: schema.MaxHeader,
		// No time-out for a whole request: a call may run for 15 minutes. The Lambda API bounds its bodies, both ways. Looks have one
		// of their own.
		ConnState: d.count,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if f.console != nil {
		d.server.RegisterOnShutdown(f.console.End) // what is live would be waited for
	}
	return d
}

// count keeps the number of connections, and closes those above the bound.
func (d *httpDoor) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if d.conns.Add(1) > maxConns {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.conns.Add(-1)
	}
}

// ServeHTTP bounds the requests in service.
func (d *httpDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer d.requests.Add(-1)
	if d.requests.Add(1) > maxRequests {
		lambdaapi.WriteError(w, "", &schema.Error{
			Code: schema.CodeThrottled, Reason: "CallerRateLimitExceeded",
			Message: fmt.Sprintf("%d requests are being served, the limit", maxRequests),
		})
		return
	}
	if r.URL.Path == metricsPath || console.Path(r.URL.Path) {
		d.bound(w)
	}
	d.next.ServeHTTP(w, r)
}

// bound keeps whoever looks and does not read from holding a goroutine for ever. The deadline stays on the connection until its last
// byte has gone, and what would come next on it, a call, must not meet it: so the connection ends, and no call pays for a deadline.
func (d *httpDoor) bound(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	// Writers without deadlines, as in tests, go without.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d.lookTime))
}

// serve accepts until the door is closed.
func (d *httpDoor) serve() {
	if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		d.log.Error("HTTP is not served any more", "error", err)
	}
}

// drain takes no more requests and waits for those in service, until ctx ends.
func (d *httpDoor) drain(ctx context.Context) error {
	if err := d.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("wait for HTTP requests: %w", err)
	}
	return nil
}

// close ends the door. Whoever is still served has a moment to take his answer, then he is cut off.
func (d *httpDoor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if d.server.Shutdown(ctx) != nil {
		_ = d.server.Close()
	}
	_ = d.listener.Close() // a door that never served has to let go of it too
}

// health answers whether this frontend takes calls.
func (f *Frontend) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		lambdaapi.WriteError(w, "", schema.Errorf(schema.CodeMethodNotAllowed, "%s /healthz", r.Method))
		return
	}
	if f.stopping.Load() || !f.serving.Load() || !f.clock.connected() {
		lambdaapi.WriteError(w, "", &schema.Error{Code: schema.CodeUnavailable, Message: "not connected to NATS, or not serving yet"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "{\"status\":\"ok\",\"frontend\":%q}\n", f.id)
}

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
	conns    Conns
	requests atomic.Int64
	lookTime time.Duration
	next     http.Handler
	log      *slog.Logger
}

func newHTTPDoor(f *Frontend, cfg Config, log *slog.Logger) *httpDoor {
	d := &httpDoor{listener: cfg.HTTP, conns: Conns{Most: maxConns}, lookTime: lookTime, log: log}
	api := lambdaapi.New(f)
	pages := f.console
	if cfg.NoConsole {
		pages = nil
	}
	// Not a ServeMux: that one answers paths which are not clean by a redirect, with no error that SDKs can read.
	d.next = newGuard(cfg.HTTP.Addr(), cfg.Hosts, cfg.Anonymous, pages, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case healthPath:
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
		ConnState: d.conns.State,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if f.console != nil {
		d.server.RegisterOnShutdown(f.console.End) // what is live would be waited for
	}
	return d
}

// Conns bounds the connections of a server, each of which is a descriptor of the whole process: one more than Most is closed at once.
type Conns struct {
	Most int64
	now  atomic.Int64
}

// State is the server's [http.Server.ConnState].
func (n *Conns) State(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if n.now.Add(1) > n.Most {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		n.now.Add(-1)
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
	switch path := r.URL.Path; {
	case path == metricsPath || console.Path(path), r.ContentLength != 0 && (path == healthPath || path == jwksPath):
		d.bound(w, r)
	}
	d.next.ServeHTTP(w, r)
}

// bound keeps whoever looks and does not read from holding a goroutine for ever, and who says that a body comes, which nobody wants, and
// sends none: net/http reads it after the handler. The deadlines stay on the connection until its last byte has gone, and what would come
// next on it, a call, must not meet them: so the connection ends, and no call pays for a deadline.
func (d *httpDoor) bound(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	// Writers without deadlines, as in tests, go without.
	until, within := http.NewResponseController(w), time.Now().Add(d.lookTime)
	_ = until.SetWriteDeadline(within)
	if r.ContentLength != 0 {
		_ = until.SetReadDeadline(within)
	}
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

// healthPath is where a frontend tells how it is. DESIGN 10.
const healthPath = "/healthz"

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

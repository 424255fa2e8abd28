package frontend

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/schema"
)

// guard stands before everything that is served over HTTP: it keeps out pages in a browser of this host, names that an
// attacker's DNS points at it, and whoever comes through a proxy (SECURITY 6). Nobody proves who he is yet, so every
// request is anonymous.
type guard struct {
	hosts     map[string]bool  // configured names, lower case
	anonymous bool             // anonymous calls are allowed at all
	loopback  bool             // the listener is bound to a loopback address
	console   *console.Console // nil: there is none
	next      http.Handler
}

func newGuard(listener net.Addr, hosts []string, anonymous bool, pages *console.Console, next http.Handler) *guard {
	g := &guard{
		hosts: make(map[string]bool, len(hosts)), anonymous: anonymous, loopback: loopbackAddr(listener.String()), console: pages, next: next,
	}
	for _, h := range hosts {
		g.hosts[strings.ToLower(strings.TrimSuffix(h, "."))] = true
	}
	return g
}

// ServeHTTP refuses, or hands on.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.check(r); err != nil {
		if g.pages(r) {
			why := console.Elsewhere
			switch {
			case !g.hostAllowed(r.Host):
			case fromPage(r, true) != nil:
				why = console.OtherSite
			case !g.anonymous:
				why = console.SwitchedOff
			}
			g.console.Refuse(w, err, why)
			return
		}
		lambdaapi.WriteError(w, "", err)
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *guard) check(r *http.Request) error {
	if !g.hostAllowed(r.Host) {
		return schema.Errorf(schema.CodeMisdirected, "host %q is not a name of this service", short(r.Host))
	}
	if err := fromPage(r, g.pages(r)); err != nil {
		return err
	}
	if r.URL.Path == jwksPath {
		return nil // what is public anybody may read, from elsewhere and through a proxy too
	}
	if !g.anonymous && r.URL.Path == metricsPath {
		return schema.Errorf(schema.CodeAccessDenied, "anonymous requests over HTTP are switched off; --metrics ADDRESS tells metrics at a listener of its own")
	}
	if !g.anonymous {
		return schema.Errorf(schema.CodeAccessDenied, "anonymous calls over HTTP are switched off; call over NATS with a credential")
	}
	if !g.loopback || !loopbackAddr(r.RemoteAddr) {
		return schema.Errorf(schema.CodeAccessDenied, "anonymous calls are served on a loopback address to this host only")
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || strings.HasPrefix(name, "X-Forwarded-") {
			return schema.Errorf(schema.CodeAccessDenied, "a request with %s comes through a proxy; anonymous calls do not", short(name))
		}
	}
	return nil
}

// pages reports whether a request is for the console.
func (g *guard) pages(r *http.Request) bool { return g.console != nil && console.Path(r.URL.Path) }

// fromPage refuses what a page in a browser sends. The console takes what its own pages send, which name themselves as the
// origin or none; a page of another port of this host is another site to it.
func fromPage(r *http.Request, own bool) error {
	for _, origin := range r.Header["Origin"] {
		if !own || origin != "http://"+r.Host {
			return schema.Errorf(schema.CodeAccessDenied, "a request with Origin comes from a page in a browser")
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "none" && !(own && site == "same-origin") {
			return schema.Errorf(schema.CodeAccessDenied, "a request with Sec-Fetch-Site %q comes from a page in a browser", short(site))
		}
	}
	return nil
}

// hostAllowed reports whether a Host names this service: a loopback address, localhost, or a configured name. A name
// that resolves to this host without being one of them is how a page reaches it (DNS rebinding).
func (g *guard) hostAllowed(host string) bool {
	if h, port, err := net.SplitHostPort(host); err == nil && digits(port) {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback() && ip.Zone() == "" || g.hosts[host]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || g.hosts[host]
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// loopbackAddr reports whether "ip:port" is on a loopback address.
func loopbackAddr(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// Guard lets through to next what the API door lets through: programs of this host, and no page in a browser.
func Guard(listener net.Addr, hosts []string, next http.Handler) http.Handler {
	return newGuard(listener, hosts, true, nil, next)
}

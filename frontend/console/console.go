package console

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Root is where the console is served; everything else of it lies below.
const Root = "/console"

// Path reports whether a path of a request is the console's.
func Path(path string) bool { return path == Root || strings.HasPrefix(path, Root+"/") }

// Fabric is what the frontend around the console knows of the fabric at hand. All methods are safe for concurrent use, and
// what they return is shared and only read.
type Fabric interface {
	// ID names the frontend.
	ID() string
	// Ring is the ring as the controller wrote it.
	Ring() schema.RingRecord
	// Managers are the latest statuses of the managers that tell theirs, by id.
	Managers() []schema.ManagerStatus
	// Functions are the names of an account's functions, sorted.
	Functions(account string) []string
	// Function is the record of a function and its revision, if there is one.
	Function(account, name string) (*schema.FunctionRecord, uint64, bool)
	// Totals are what this frontend counted since its start.
	Totals() Totals
}

// Totals are numbers of one frontend that only grow, but for InFlight.
type Totals struct {
	Calls    uint64 // requests that came to any door, and tries of events
	Refused  uint64 // answered with an error before anything ran
	Failed   uint64 // answered with a function's error, time-outs among them
	Lost     uint64 // answered with ExecutionLost
	InFlight int    // now
}

// bad are the calls that did not end well.
func (t Totals) bad() uint64 { return t.Refused + t.Failed + t.Lost }

// Operations are those of `hearth.api`; the control service is one. Errors are [schema.Error]s.
type Operations interface {
	Do(ctx context.Context, account, operation string, request []byte) ([]byte, error)
}

// Console serves the pages. It is safe for concurrent use. [Console.Run] keeps its minute of history.
type Console struct {
	fabric  Fabric
	names   subjects.Names
	account string
	log     *slog.Logger
	pages   pages
	feed    Feed
	history history
	windows atomic.Int32  // that are live
	ended   chan struct{} // closed by End
	over    atomic.Bool
	rings   ringCache
	ops     atomic.Pointer[operations]
}

type operations struct{ Operations }

// New makes the console of a frontend. It starts nothing.
func New(fabric Fabric, names subjects.Names, log *slog.Logger) *Console {
	return &Console{
		fabric: fabric, names: names, account: subjects.DefaultAccount, log: log, pages: parsePages(), ended: make(chan struct{}),
	}
}

// Operate gives the console the operations of `hearth.api`. Until then, pages that need one say that it is starting.
func (c *Console) Operate(ops Operations) { c.ops.Store(&operations{ops}) }

// Feed is where the frontend tells calls that end.
func (c *Console) Feed() *Feed { return &c.feed }

// End ends what is live, so that a server that stops has nobody to wait for; the pages stay. It is safe twice.
func (c *Console) End() {
	if !c.over.Swap(true) {
		close(c.ended)
	}
}

// Run keeps the numbers of the last minute until ctx ends.
func (c *Console) Run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	c.history.add(c.fabric.Totals())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.history.add(c.fabric.Totals())
		}
	}
}

// ServeHTTP answers one request. Who may send it is the frontend's guard to say.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		c.refuse(w, http.StatusMethodNotAllowed, "The console is read-only", "It takes GET and HEAD. What changes something is a command of hearth.")
		return
	}
	// Escaped, so that a name with a slash is one part of the path.
	parts := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.EscapedPath(), Root), "/"), "/")
	show, ok := c.route(parts)
	if !ok {
		c.refuse(w, http.StatusNotFound, "There is no such page", "The console has no page at this address.")
		return
	}
	show(w, r)
}

type handler = func(http.ResponseWriter, *http.Request)

// route finds the page of a path below the root.
func (c *Console) route(parts []string) (handler, bool) {
	show := func(build func(*http.Request) (*page, error)) handler {
		return func(w http.ResponseWriter, r *http.Request) { c.show(w, r, build) }
	}
	named := func(build func(*http.Request, string) (*page, error)) (handler, bool) {
		name, err := url.PathUnescape(parts[1])
		if err != nil {
			return nil, false
		}
		return show(func(r *http.Request) (*page, error) { return build(r, name) }), true
	}
	switch n := len(parts); {
	case n == 1:
		switch parts[0] {
		case "":
			return show(c.overview), true
		case "functions":
			return show(c.functions), true
		case "ring":
			return show(c.ring), true
		case "calls":
			return show(c.calls), true
		case "events":
			return show(c.events), true
		case "trace":
			return show(c.search), true
		case "live":
			return c.live, true
		}
	case n == 2:
		switch parts[0] {
		case "functions":
			return named(c.function)
		case "trace":
			return named(c.trace)
		case "static":
			return c.static(parts[1])
		}
	}
	return nil, false
}

// policy is what a page of the console may load and do (SECURITY 6): its own style, script and answers, and nothing else. No
// script may make markup of a text either. Where one searches, the script goes to the address that the form names.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// do runs one operation and reads its answer into out.
func (c *Console) do(ctx context.Context, account, operation string, in, out any) error {
	ops := c.ops.Load()
	if ops == nil {
		return schema.Errorf(schema.CodeUnavailable, "this frontend is starting")
	}
	request, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	ctx, cancel := context.WithTimeout(ctx, operationTime)
	defer cancel()
	answer, err := ops.Do(ctx, account, operation, request)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return nil
}

// operationTime bounds what a page waits for one operation. What does not come in time is left out, and said so.
const operationTime = 3 * time.Second

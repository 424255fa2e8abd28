package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// mostVersions is how many versions a page shows, the newest first.
const mostVersions = 50

type aliasRow struct {
	Name, Version, Second string
	Weight                int // percent of Second
}

type functionBody struct {
	Record   *schema.FunctionRecord
	Latest   *schema.VersionRecord
	Versions []schema.VersionRecord // newest first
	Older    int                    // not shown
	Aliases  []aliasRow
	Retries  int
	MaxAge   time.Duration
	Delay    time.Duration
	Limit    string

	Reservations []schema.ReservationOutput
	Events       schema.EventsOutput
	Letters      string // address
	Logs         logTail
	Failed       []string
	Tail, Redo   string // commands
	RingHref     string
	Calls        url.Values
}

// function shows one function.
func (c *Console) function(r *http.Request, name string) (*page, error) {
	rec, _, ok := c.fabric.Function(c.account, name)
	if !ok {
		return nil, schema.Errorf(schema.CodeNotFound, "no function %q", cut(name, 64))
	}
	b := functionBody{Record: rec, Latest: &rec.Latest, Retries: schema.MaxEventRetries, MaxAge: schema.MaxEventAge, Delay: schema.DefaultRetryDelay}
	switch n := rec.Concurrency; {
	case n == nil:
		b.Limit = "none of its own"
	case *n == 0:
		b.Limit = "0: it is stopped"
	default:
		b.Limit = plural(*n, "environment", "environments")
	}
	b.Versions = slices.Clone(rec.Versions)
	slices.Reverse(b.Versions)
	if b.Older = len(b.Versions) - mostVersions; b.Older > 0 {
		b.Versions = b.Versions[:mostVersions]
	}
	for _, alias := range aliasNames(rec) {
		a := rec.Aliases[alias]
		b.Aliases = append(b.Aliases, aliasRow{a.Name, a.Version, a.SecondVersion, int(a.SecondWeight*100 + 0.5)})
	}
	if e := rec.Event; e != nil {
		if e.Retries != nil {
			b.Retries = *e.Retries
		}
		if e.MaxAge > 0 {
			b.MaxAge = e.MaxAge
		}
		if e.RetryDelay > 0 {
			b.Delay = e.RetryDelay
		}
	}
	b.Letters = Root + "/events?" + url.Values{"function": {name}}.Encode()
	b.RingHref = Root + "/ring?" + url.Values{"function": {name}}.Encode()
	b.Tail, b.Redo = c.hearth("logs", name, "--follow"), c.hearth("invoke", name, "--payload", "{}", "--log")
	ctx := r.Context()
	b.Failed = together(
		func() error {
			var out schema.ListReservationsOutput
			err := c.do(ctx, c.account, "ListReservations", schema.ListReservationsInput{FunctionName: name}, &out)
			b.Reservations = out.Reservations
			return err
		},
		func() error {
			return c.do(ctx, c.account, "ListEvents", schema.EventsInput{FunctionName: name, MaxItems: 1}, &b.Events)
		},
		func() (err error) { b.Logs, err = c.tail(ctx, name); return err },
	)
	return &page{Name: "function", Title: visible(name), Live: url.Values{"page": {"calls"}, "function": {name}}, Body: b}, nil
}

// logTail is the last lines of a function.
type logTail struct {
	Lines []schema.LogLineItem
	Since time.Duration // how far back was looked
	More  bool          // there were more than a page reads: newer ones than these
}

// Bounds of a tail: lines that are shown, and that are read at most to find the last ones.
const (
	tailLines = 100
	tailPages = 4
	tailRead  = 1000 // a page
)

// tail reads the last lines. Lines are read forward from a moment, so it looks back a little first, and further where that
// was too little.
func (c *Console) tail(ctx context.Context, name string) (logTail, error) {
	var best logTail
	for _, back := range [...]time.Duration{5 * time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		t := logTail{Since: back}
		since := time.Now().Add(-back)
		in := schema.LogsInput{FunctionName: name, Since: &since, MaxLines: tailRead}
		for n := 0; ; n++ {
			var out schema.LogsOutput
			if err := c.do(ctx, c.account, "GetLogs", in, &out); err != nil {
				return best, err
			}
			t.Lines = append(t.Lines, out.Lines...)
			t.Lines = t.Lines[max(0, len(t.Lines)-tailLines):]
			if !out.More {
				break
			}
			if n+1 == tailPages {
				t.More = true
				break
			}
			in.Cursor, in.Since = out.Cursor, nil
		}
		if t.More && len(best.Lines) > 0 {
			return best, nil // too many: what a shorter look found are the last ones
		}
		best = t
		if t.More || len(t.Lines) >= tailLines/2 {
			break
		}
	}
	return best, nil
}

package console

import (
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
	Failed       []string
	Tail         string // command
	RingHref     string
	Calls        url.Values
}

// function shows one function.
func (c *Console) function(r *http.Request, name string) (*page, error) {
	rec, _, ok := c.fabric.Function(c.account, name)
	if !ok {
		return nil, schema.Errorf(schema.CodeNotFound, "no function %q", cut(name, 64))
	}
	b := functionBody{Record: rec, Latest: &rec.Latest}
	b.Retries, b.MaxAge, b.Delay = rec.Event.Numbers()
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
	b.Letters = Root + "/events?" + url.Values{"function": {name}}.Encode()
	b.RingHref = Root + "/ring?" + url.Values{"function": {name}}.Encode()
	b.Tail = c.hearth([]string{"logs", "--follow"}, name)
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
	)
	return &page{Name: "function", Title: visible(name), Live: url.Values{"page": {"calls"}, "function": {name}}, Body: b}, nil
}

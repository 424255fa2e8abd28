package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// pageSize is how many functions one page lists.
const pageSize = 100

// functionRow is one line of the list.
type functionRow struct {
	Name, Runtime, Aliases string
	MemoryMB, Versions     int
	Timeout                time.Duration
	PerTenant              bool
	Cap                    *int
	Modified               time.Time
}

type functionsBody struct {
	Query              string
	Total, Found       int
	First, Last        int // of those found, from 1
	Rows               []functionRow
	Previous, Next     string // addresses
	Page, Pages        int
	PreviousN, NextN   int
	ClearHref, FormURL string
}

// functions lists the functions of the account from what this frontend has at hand: a page of them, of those whose names
// hold what was asked for.
func (c *Console) functions(r *http.Request) (*page, error) {
	query := r.URL.Query()
	q := strings.TrimSpace(query.Get("q"))
	q = q[:min(len(q), 200)]
	names := c.fabric.Functions(c.account)
	b := functionsBody{Query: q, Total: len(names), FormURL: Root + "/functions", Page: 1}
	if q != "" {
		wanted := strings.ToLower(q)
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.Contains(strings.ToLower(name), wanted) })
	}
	b.Found = len(names)
	b.Pages = max(1, (b.Found+pageSize-1)/pageSize)
	if n, err := strconv.Atoi(query.Get("page")); err == nil {
		b.Page = min(max(1, n), b.Pages)
	}
	from := (b.Page - 1) * pageSize
	names = names[from:min(len(names), from+pageSize)]
	for _, name := range names {
		if rec, _, ok := c.fabric.Function(c.account, name); ok {
			b.Rows = append(b.Rows, functionRowOf(rec))
		}
	}
	b.First, b.Last = from+1, from+len(names)
	at := func(n int) string {
		v := url.Values{"page": {strconv.Itoa(n)}}
		if q != "" {
			v.Set("q", q)
		}
		return Root + "/functions?" + v.Encode()
	}
	if b.Page > 1 {
		b.Previous = at(b.Page - 1)
	}
	if b.Page < b.Pages {
		b.Next = at(b.Page + 1)
	}
	return &page{Name: "functions", Title: "Functions", Body: b}, nil
}

func functionRowOf(rec *schema.FunctionRecord) functionRow {
	return functionRow{
		Name: rec.Name, Runtime: rec.Latest.Runtime, MemoryMB: rec.Latest.MemoryMB, Timeout: rec.Latest.Timeout, Versions: len(rec.Versions),
		Aliases: strings.Join(aliasNames(rec), ", "), PerTenant: rec.PerTenant, Cap: rec.Concurrency, Modified: rec.Latest.Modified,
	}
}

func aliasNames(rec *schema.FunctionRecord) []string {
	names := make([]string, 0, len(rec.Aliases))
	for name := range rec.Aliases {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/schema"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// page is one page before it is rendered.
type page struct {
	Name   string // of its template, and of its place in the navigation
	Title  string
	Live   url.Values // what to ask /console/live for; nil: nothing changes while one looks
	Shape  string     // of what stands there: another one, and the page is loaded again
	Status int        // 0: 200
	Body   any        // what the template shows
}

// frame is a page with what stands around each.
type frame struct {
	*page
	Frontend string
	Now      time.Time
	Nav      []link
}

type link struct {
	Text, Href string
	Here       bool
}

// pages are the templates, each with the frame, and what the static files are called.
type pages struct {
	templates map[string]*template.Template
	assets    map[string]asset
}

type asset struct {
	body []byte
	kind string
	href string // with the hash of its content, so that it is kept for as long as it does not change
}

// parsePages reads what is embedded. Its errors are those of this source, and found by any test.
func parsePages() pages {
	p := pages{templates: make(map[string]*template.Template), assets: make(map[string]asset)}
	files, err := staticFiles.ReadDir("static")
	must(err)
	for _, f := range files {
		body, err := staticFiles.ReadFile("static/" + f.Name())
		must(err)
		sum := sha256.Sum256(body)
		p.assets[f.Name()] = asset{
			body: body, kind: mime.TypeByExtension(path.Ext(f.Name())), href: Root + "/static/" + f.Name() + "?v=" + hex.EncodeToString(sum[:6]),
		}
	}
	frame := template.Must(template.New("").Funcs(p.functions()).ParseFS(templateFiles, "templates/frame.html", "templates/parts.html"))
	files, err = templateFiles.ReadDir("templates")
	must(err)
	for _, f := range files {
		if name := f.Name(); name != "frame.html" && name != "parts.html" {
			one := template.Must(template.Must(frame.Clone()).ParseFS(templateFiles, "templates/"+name))
			p.templates[name[:len(name)-len(".html")]] = one
		}
	}
	return p
}

func must(err error) {
	if err != nil {
		panic("console: what is embedded cannot be read: " + err.Error())
	}
}

// functions are what templates call.
func (p pages) functions() template.FuncMap {
	return template.FuncMap{
		"asset": func(name string) string { return p.assets[name].href }, "see": visible, "cut": cut,
		"took": took, "span": span, "ago": ago, "count": grouped[int], "count64": grouped[uint64], "size": size, "plural": plural,
		"function": functionHref, "story": storyHref, "dict": dict,
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
		"date":  func(t time.Time) string { return t.UTC().Format(time.DateTime) },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"said":  said, "short": func(s string) string { return s[:min(len(s), 12)] },
	}
}

// dict hands several values to a part.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func functionHref(name string) string { return Root + "/functions/" + url.PathEscape(name) }
func storyHref(id string) string      { return Root + "/trace/" + url.PathEscape(id) }

// nav is the way around.
func nav(here string) []link {
	all := []link{
		{Text: "Overview", Href: Root}, {Text: "Functions", Href: Root + "/functions"}, {Text: "Ring", Href: Root + "/ring"},
		{Text: "Calls", Href: Root + "/calls"}, {Text: "Events", Href: Root + "/events"}, {Text: "Trace", Href: Root + "/trace"},
	}
	places := map[string]string{"overview": "Overview", "functions": "Functions", "function": "Functions", "ring": "Ring", "calls": "Calls",
		"events": "Events", "search": "Trace", "trace": "Trace"}
	for i := range all {
		all[i].Here = all[i].Text == places[here]
	}
	return all
}

// show builds a page and renders it whole before a byte of it is sent.
func (c *Console) show(w http.ResponseWriter, r *http.Request, build func(*http.Request) (*page, error)) {
	p, err := build(r)
	if err != nil {
		c.fail(w, err)
		return
	}
	c.render(w, p)
}

func (c *Console) render(w http.ResponseWriter, p *page) {
	var b bytes.Buffer
	f := frame{page: p, Frontend: c.fabric.ID(), Now: time.Now(), Nav: nav(p.Name)}
	if err := c.pages.templates[p.Name].ExecuteTemplate(&b, "frame", f); err != nil {
		c.log.Error("a page of the console cannot be rendered", "page", p.Name, "error", err)
		http.Error(w, "this page cannot be shown; the frontend's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	_, _ = w.Write(b.Bytes()) // the reader has gone
}

// notice is what the page of a refusal says.
type notice struct {
	Title, Text, Advice string
	Open                bool // a link to the console helps
}

func (c *Console) refuse(w http.ResponseWriter, status int, title, text string) {
	c.render(w, &page{Name: "notice", Title: title, Status: status, Body: notice{Title: title, Text: text}})
}

// fail shows why an operation failed.
func (c *Console) fail(w http.ResponseWriter, err error) {
	e := new(schema.Error)
	if !errors.As(err, &e) {
		e = &schema.Error{Code: schema.CodeInternal, Message: "this page cannot be shown"}
	}
	row := e.Code.Row()
	status := row.Status
	if status == http.StatusOK {
		status = http.StatusInternalServerError
	}
	c.render(w, &page{Name: "notice", Title: string(e.Code), Status: status, Body: notice{Title: string(e.Code), Text: e.Error(), Advice: row.Advice}})
}

// Refusal is why a request for the console is let not pass: what is said beside the error goes by it.
type Refusal uint8

// The refusals.
const (
	Elsewhere   Refusal = iota // it comes from elsewhere, or by a name that is not ours
	OtherSite                  // a page of another site led here: a link on this one is the way in
	SwitchedOff                // this listener takes no requests without a credential
)

// Refuse answers a request that the guard lets not pass, with the status of its error.
func (c *Console) Refuse(w http.ResponseWriter, err error, why Refusal) {
	secure(w.Header())
	e := new(schema.Error)
	if !errors.As(err, &e) {
		e = &schema.Error{Code: schema.CodeAccessDenied}
	}
	const title = "The console is not shown here"
	n := notice{Title: title, Text: e.Message + ".", Open: why == OtherSite}
	switch why {
	case Elsewhere:
		n.Advice = "Open it in a browser on the host of this frontend, by a loopback address or localhost. From elsewhere, a tunnel does: " +
			"ssh -L 4280:127.0.0.1:4280 HOST, then http://127.0.0.1:4280" + Root
	case OtherSite:
		n.Advice = "Another site led here, and nothing of the console is shown to other sites. Open it directly."
	case SwitchedOff:
		n.Text = "Anonymous requests over HTTP are switched off here."
		n.Advice = "Whoever started it can serve the console at a listener of its own, to everybody on that host: --console 127.0.0.1:4281"
	}
	c.render(w, &page{Name: "notice", Title: title, Status: e.Code.Row().Status, Body: n})
}

// static serves one of the embedded files.
func (c *Console) static(name string) (handler, bool) {
	a, ok := c.pages.assets[name]
	if !ok {
		return nil, false
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", a.kind)
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		_, _ = w.Write(a.body)
	}, true
}

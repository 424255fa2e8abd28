package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Bounds of what is live.
const (
	maxWindows = 32               // at once; one more is told so, and its page stays as it is
	tickTime   = time.Second / 2  // between two looks at the feed
	beatTime   = 10 * time.Second // the longest silence: a connection that nobody holds any more is found out by it
	writeTime  = 5 * time.Second  // that a reader may take for what was written
)

// figures is what changes of a page while one looks, by the keys that its elements carry: texts, and attributes of drawings.
type figures struct {
	Text  map[string]string            `json:"t,omitempty"`
	Attr  map[string]map[string]string `json:"a,omitempty"`
	Shape string                       `json:"s,omitempty"` // of the page as it would be rendered now
	Rows  []row                        `json:"r,omitempty"` // calls, the newest last
}

// row is one call for the script, which puts every member in as text.
type row struct {
	Time     string  `json:"time"`
	ISO      string  `json:"iso"`
	Function string  `json:"fn"`
	Href     string  `json:"href"`
	Version  string  `json:"ver"`
	Tenant   string  `json:"ten"`
	Outcome  Outcome `json:"out"`
	Code     string  `json:"code"`
	Start    string  `json:"start"`
	Reason   string  `json:"why"`
	Arc      string  `json:"arc"`
	Manager  string  `json:"mgr"`
	Took     string  `json:"took"`
	ID       string  `json:"id"`
	Story    string  `json:"story"`
}

func rowOf(c *Call) row {
	r := row{
		Time: c.Ended.UTC().Format("15:04:05.000"), ISO: c.Ended.UTC().Format(time.RFC3339Nano), Function: cut(c.Function, 64), Href: functionHref(c.Function),
		Version: cut(c.Version, 32), Tenant: cut(c.Tenant, 40), Outcome: c.Outcome, Code: cut(c.Code, 60), Start: string(c.Start),
		Reason: string(c.Reason), Arc: cut(c.Arc, 80), Manager: cut(c.Manager, 40), Took: took(c.Took), ID: cut(c.RequestID, 40),
	}
	if c.RequestID != "" {
		r.Story = storyHref(c.RequestID)
	}
	return r
}

// live sends what changes of one page as server-sent events, until the reader goes, the frontend ends or a write hangs.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	look, every := c.looks(r)
	if look == nil {
		c.refuse(w, http.StatusNotFound, "There is no such page", "Nothing of it is live.")
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	if c.windows.Add(1) > maxWindows {
		c.windows.Add(-1)
		w.Header().Set("Retry-After", "10")
		c.refuse(w, schema.CodeThrottled.Row().Status, "Too many windows", fmt.Sprintf("%d windows of this console are live, the limit; the page itself stays.", maxWindows))
		return
	}
	defer c.windows.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	next, leave := look(ctx)
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Connection", "close") // the last deadline stays on it
	s := &stream{w: w, control: http.NewResponseController(w)}
	if s.write([]byte("retry: 2000\n\n")) != nil {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if s.tell(next()) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			_ = s.write([]byte("event: end\ndata: {}\n\n"))
			return
		case <-ticker.C:
		}
	}
}

// looker begins to look at something, and gives what is seen at each look and how to end.
type looker = func(context.Context) (next func() figures, leave func())

// looks is what a request wants to see, and how often; nil: nothing that there is.
func (c *Console) looks(r *http.Request) (looker, time.Duration) {
	nothing := func() {}
	switch q := r.URL.Query(); q.Get("page") {
	case "overview":
		return func(context.Context) (func() figures, func()) { return c.overviewNow, nothing }, time.Second
	case "ring":
		function := q.Get("function")
		return func(ctx context.Context) (func() figures, func()) {
			return func() figures { return c.ringNow(ctx, function) }, nothing
		}, 2 * time.Second
	case "calls":
		return func(context.Context) (func() figures, func()) {
			s := &callStream{watcher: c.feed.watch(q.Get("function")), fabric: c.fabric}
			return s.next, func() { c.feed.leave(s.watcher) }
		}, tickTime
	}
	return nil, 0
}

// callStream is the calls of one window.
type callStream struct {
	watcher *watcher
	fabric  Fabric
	calls   []Call
	half    [2]tally // the last two half seconds
	seen    tally    // since the window opened
	shown   int
}

func (s *callStream) next() figures {
	var t tally
	t, s.calls = s.watcher.drain(s.calls)
	s.half[0], s.half[1] = s.half[1], t
	s.shown += len(s.calls)
	for _, x := range [...][2]*int{
		{&s.seen.Calls, &t.Calls}, {&s.seen.Failed, &t.Failed}, {&s.seen.Cold, &t.Cold}, {&s.seen.Specialised, &t.Specialised}, {&s.seen.Warm, &t.Warm},
	} {
		*x[0] += *x[1]
	}
	f := figures{Text: map[string]string{
		"rate": grouped(s.half[0].Calls + s.half[1].Calls), "failed": grouped(s.seen.Failed), "cold": grouped(s.seen.Cold),
		"specialised": grouped(s.seen.Specialised), "warm": grouped(s.seen.Warm), "seen": grouped(s.seen.Calls),
		"shown": grouped(s.shown), "flight": grouped(s.fabric.Totals().InFlight),
	}}
	for i := range s.calls {
		f.Rows = append(f.Rows, rowOf(&s.calls[i]))
	}
	return f
}

// stream writes events, each under a deadline, and only what changed since the one before.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	text    map[string]string
	attr    map[string]string
	shape   string
	wrote   time.Time
}

func (s *stream) tell(f figures) error {
	news := figures{Rows: f.Rows}
	if s.text == nil {
		s.text, s.attr = make(map[string]string), make(map[string]string)
	}
	for k, v := range f.Text {
		if old, known := s.text[k]; known && old == v {
			continue
		}
		s.text[k] = v
		if news.Text == nil {
			news.Text = make(map[string]string)
		}
		news.Text[k] = v
	}
	for k, attrs := range f.Attr {
		all, err := json.Marshal(attrs)
		if err != nil || s.attr[k] == string(all) {
			continue
		}
		s.attr[k] = string(all)
		if news.Attr == nil {
			news.Attr = make(map[string]map[string]string)
		}
		news.Attr[k] = attrs
	}
	if f.Shape != s.shape {
		s.shape, news.Shape = f.Shape, f.Shape
	}
	if len(news.Text)+len(news.Attr)+len(news.Rows) == 0 && news.Shape == "" {
		if time.Since(s.wrote) < beatTime {
			return nil
		}
		return s.write([]byte(": beat\n\n"))
	}
	data, err := json.Marshal(news)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("data: ")
	b.Write(data) // one line: JSON escapes what would be another
	b.WriteString("\n\n")
	return s.write(b.Bytes())
}

func (s *stream) write(b []byte) error {
	// Writers without deadlines, as in tests, go without.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	s.wrote = time.Now()
	return s.control.Flush()
}

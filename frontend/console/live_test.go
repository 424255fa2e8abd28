package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

// window is a page that is live.
type window struct {
	t      testing.TB
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (s *stand) window(t testing.TB, query string) *window {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/console/live?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	w := &window{t, resp, bufio.NewScanner(resp.Body), cancel}
	t.Cleanup(w.close)
	return w
}

func (w *window) close() {
	w.cancel()
	_ = w.resp.Body.Close()
}

// figures is an event as the script reads it.
type figures struct {
	Text  map[string]string            `json:"t"`
	Attr  map[string]map[string]string `json:"a"`
	Shape string                       `json:"s"`
	Rows  []map[string]string          `json:"r"`
	end   bool
}

// next is the next event.
func (w *window) next() (f figures) {
	w.t.Helper()
	for w.lines.Scan() {
		line := w.lines.Text()
		if line == "event: end" {
			return figures{end: true}
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			w.t.Fatalf("%s: %v", data, err)
		}
		return f
	}
	w.t.Fatalf("no event: %v", w.lines.Err())
	return f
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatal(what)
		case <-ticker.C:
		}
	}
}

// TestLiveCalls: a window gets counts and few rows, with what hides shown, and leaves nothing behind.
func TestLiveCalls(t *testing.T) {
	t.Parallel()
	s := serve(t, &fabric{})
	w := s.window(t, "page=calls")
	if got := w.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("type %q", got)
	}
	wantHeaders(t, "live", w.resp)
	w.next()
	for i := range 1000 {
		c := call(evil[i%len(evil)], console.OutcomeError)
		c.Tenant, c.Code, c.Arc, c.Manager, c.RequestID, c.Version = evil[0], evil[3], evil[4], evil[5], evil[6], evil[9]
		s.console.Feed().Tell(c)
	}
	rows, seen := 0, ""
	for seen != "1,000" {
		f := w.next()
		rows += len(f.Rows)
		if text, ok := f.Text["seen"]; ok {
			seen = text
		}
		for _, r := range f.Rows {
			for key, text := range r {
				if strings.ContainsAny(text, "\u202e\u200b\u2066\x1b\x00\n") || len(text) > 800 {
					t.Errorf("%s of a row is %q", key, text)
				}
			}
			if !strings.HasPrefix(r["href"], "/console/functions/") || !strings.HasPrefix(r["story"], "/console/trace/") {
				t.Errorf("a row leads to %q and %q", r["href"], r["story"])
			}
		}
	}
	if rows == 0 || rows > 3*console.RowsPerTick {
		t.Errorf("a thousand calls at once are shown as %d rows", rows)
	}
	w.close()
	eventually(t, "the window has gone and is still fed", func() bool { return !s.console.Feed().Watched() })
}

// TestLiveOfOne: a window of one function hears of no other.
func TestLiveOfOne(t *testing.T) {
	t.Parallel()
	s := serve(t, &fabric{})
	w := s.window(t, "page=calls&function=mine")
	w.next()
	s.console.Feed().Tell(call("other", console.OutcomeOK))
	s.console.Feed().Tell(call("mine", console.OutcomeOK))
	for {
		f := w.next()
		if len(f.Rows) == 0 {
			continue
		}
		if len(f.Rows) != 1 || f.Rows[0]["fn"] != "mine" || f.Text["seen"] != "1" {
			t.Errorf("%v %v", f.Text, f.Rows)
		}
		return
	}
}

// TestLiveFigures: what a page shows and what is told of it later are the same keys, and only changes are told.
func TestLiveFigures(t *testing.T) {
	t.Parallel()
	f := hostile()
	s := serve(t, f)
	for _, page := range []string{"overview", "ring"} {
		path := map[string]string{"overview": "/console", "ring": "/console/ring"}[page]
		_, body := s.get(t, path)
		w := s.window(t, "page="+page)
		first := w.next()
		if first.Shape == "" || !strings.Contains(body, `data-shape="`+first.Shape+`"`) {
			t.Errorf("%s: shape %q is not the page's", page, first.Shape)
		}
		for _, part := range strings.Split(body, `data-t="`)[1:] {
			key, after, _ := strings.Cut(part, `"`)
			want, known := first.Text[key]
			if !known {
				t.Errorf("%s: nobody tells %q", page, key)
			} else if got, _, _ := strings.Cut(strings.TrimPrefix(after[strings.Index(after, ">"):], ">"), "<"); got != want {
				t.Errorf("%s: %s is %q on the page and then %q", page, key, got, want)
			}
		}
		for _, part := range strings.Split(body, `data-a="`)[1:] {
			if key, _, _ := strings.Cut(part, `"`); first.Attr[key] == nil {
				t.Errorf("%s: nobody tells the drawing of %q", page, key)
			}
		}
		f.mu.Lock()
		f.totals.InFlight, f.totals.Calls = 77, 1000
		f.mu.Unlock()
		if page == "overview" {
			for {
				next := w.next()
				if next.Text["flight"] == "77" {
					if next.Text["all.places"] != "" || next.Shape != "" {
						t.Errorf("told again: %v", next)
					}
					break
				}
			}
		}
		w.close()
	}
	if resp, _ := s.get(t, "/console/live?page=nothing"); resp.StatusCode != 404 {
		t.Errorf("nothing: status %d", resp.StatusCode)
	}
}

// TestLiveBound: so many windows and no more; one that closes makes room; the end of the frontend ends them all.
func TestLiveBound(t *testing.T) {
	t.Parallel()
	s := serve(t, &fabric{})
	var all []*window
	for range console.MaxWindows {
		w := s.window(t, "page=calls")
		w.next()
		all = append(all, w)
	}
	resp, body := s.get(t, "/console/live?page=calls")
	if resp.StatusCode != schema.CodeThrottled.Row().Status || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "32 windows") {
		t.Errorf("one more: status %d, %.200s", resp.StatusCode, body)
	}
	if resp, _ := s.get(t, "/console"); resp.StatusCode != 200 {
		t.Errorf("a page beside them: status %d", resp.StatusCode)
	}
	all[0].close()
	eventually(t, "one closed and no other may come", func() bool {
		w := s.window(t, "page=calls")
		defer w.close()
		return w.resp.StatusCode == 200
	})
	s.console.End()
	s.console.End()
	for _, w := range all[1:] {
		for !w.next().end {
		}
	}
	eventually(t, "windows have ended and are still fed", func() bool { return !s.console.Feed().Watched() })
}

// stuck is a connection that takes no more.
type stuck struct {
	*httptest.ResponseRecorder
	mu       sync.Mutex
	writes   int
	deadline time.Time
}

func (s *stuck) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.IsZero() {
		s.deadline = t
	}
	return nil
}

func (s *stuck) FlushError() error { return nil }

func (s *stuck) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes++; s.writes > 2 {
		return 0, errors.New("deadline exceeded")
	}
	return len(b), nil
}

// TestLiveStuck: a reader that takes nothing has a deadline on each write, and is let go of at the first that fails.
func TestLiveStuck(t *testing.T) {
	t.Parallel()
	s := serve(t, &fabric{})
	w := &stuck{ResponseRecorder: httptest.NewRecorder()}
	done := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		defer close(done)
		s.console.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/live?page=calls", nil))
	})
	defer serving.Wait()
	eventually(t, "nobody watches", s.console.Feed().Watched)
	s.console.Feed().Tell(call("a", console.OutcomeOK))
	select {
	case <-done:
	case <-time.After(patience):
		s.console.End()
		t.Fatal("it holds on to a reader that takes nothing")
	}
	if w.deadline.IsZero() {
		t.Error("a write without a deadline")
	}
	if s.console.Feed().Watched() {
		t.Error("the reader has gone and is still fed")
	}
}

// TestRates: the minute of history is that of the totals.
func TestRates(t *testing.T) {
	t.Parallel()
	f := &fabric{}
	s := serve(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.console.Run(ctx) })
	defer running.Wait()
	defer cancel()
	w := s.window(t, "page=overview")
	told := make(map[string]string)
	var line string
	until := func(is func() bool) {
		for !is() {
			next := w.next()
			maps.Copy(told, next.Text)
			if points, ok := next.Attr["spark.calls"]["points"]; ok {
				line = points
			}
		}
	}
	until(func() bool { return line != "" }) // it has counted a second in which nothing was
	f.mu.Lock()
	f.totals.Calls, f.totals.Failed = 5000, 100
	f.mu.Unlock()
	until(func() bool { return told["most"] != "0" })
	if told["calls"] != "5,000" || told["bad"] != "100" || !strings.HasPrefix(line[strings.LastIndex(line, " ")+1:], "118,") {
		t.Errorf("%v, line %s", told, line)
	}
}

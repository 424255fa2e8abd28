//go:build !race

// The browser finds no race of ours that the tests beside it do not, and it takes its time twice.

package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// chromiums are the names under which Debian has the browser.
var chromiums = []string{"chromium", "chromium-headless-shell"}

// browser is a headless Chromium, spoken to over the DevTools protocol on two pipes: nothing listens on a port, and no client
// library is needed for the dozen methods that a test sends.
type browser struct {
	t       testing.TB
	to      io.Writer
	session string

	mu      sync.Mutex
	id      int
	waiting map[int]chan answer
	loaded  chan struct{} // one token for each page that has loaded
	said    []string      // errors on the console, exceptions, what the policy blocked
}

type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// openBrowser starts a browser with one window. Where there is none the test is skipped; CI must have one.
func openBrowser(t testing.TB) *browser {
	t.Helper()
	path := ""
	for _, name := range chromiums {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no browser: install one of %s", strings.Join(chromiums, ", "))
		}
		t.Skipf("no browser: install one of %s", strings.Join(chromiums, ", "))
	}
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, mine, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "--disable-gpu",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--force-color-profile=srgb", "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, mine}
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir())
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	_ = theirs.Close()
	_ = mine.Close()
	b := &browser{t: t, to: to, waiting: make(map[int]chan answer), loaded: make(chan struct{}, 16)}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(from) })
	t.Cleanup(func() {
		_, _ = b.try("", "Browser.close", nil)
		_ = to.Close()
		gone := make(chan struct{})
		reading.Go(func() { defer close(gone); _ = cmd.Wait() })
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
		}
		cancel()
		_ = from.Close()
		reading.Wait()
	})
	var target struct {
		ID string `json:"targetId"`
	}
	b.ask("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct {
		ID string `json:"sessionId"`
	}
	b.ask("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &session)
	b.session = session.ID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.do(domain+".enable", nil, nil)
	}
	return b
}

// read takes in answers and events until the browser goes.
func (b *browser) read(from io.Reader) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for _, w := range b.waiting {
				close(w)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m struct {
			ID     int    `json:"id"`
			Method string `json:"method"`
			Params struct {
				Type  string `json:"type"`
				Args  []any  `json:"args"`
				Entry struct {
					Level  string `json:"level"`
					Source string `json:"source"`
					Text   string `json:"text"`
					URL    string `json:"url"`
				} `json:"entry"`
				Details struct {
					Text      string `json:"text"`
					Exception struct {
						Description string `json:"description"`
					} `json:"exception"`
				} `json:"exceptionDetails"`
			} `json:"params"`
			answer
		}
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			if w := b.waiting[m.ID]; w != nil {
				delete(b.waiting, m.ID)
				w <- m.answer
			}
		case m.Method == "Page.loadEventFired":
			select {
			case b.loaded <- struct{}{}:
			default:
			}
		case m.Method == "Runtime.exceptionThrown":
			b.said = append(b.said, "exception: "+m.Params.Details.Text+" "+m.Params.Details.Exception.Description)
		case m.Method == "Runtime.consoleAPICalled" && m.Params.Type != "log":
			b.said = append(b.said, "console."+m.Params.Type+": "+fmt.Sprint(m.Params.Args))
		case m.Method == "Log.entryAdded" && m.Params.Entry.Level != "info" && m.Params.Entry.Level != "verbose":
			b.said = append(b.said, m.Params.Entry.Source+" "+m.Params.Entry.Level+": "+m.Params.Entry.Text+" "+m.Params.Entry.URL)
		}
		b.mu.Unlock()
	}
}

// complaints are what the page has said that a page without fault does not, since the last time.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

func (b *browser) try(session, method string, params any) (json.RawMessage, error) {
	w := make(chan answer, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.mu.Unlock()
		return nil, errors.New("the browser is gone")
	}
	b.id++
	id := b.id
	b.waiting[id] = w
	b.mu.Unlock()
	text, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Session string `json:"sessionId,omitempty"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
	}{id, session, method, params})
	if err != nil {
		return nil, err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return nil, err
	}
	select {
	case a, ok := <-w:
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: the browser is gone", method)
		case a.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		return a.Result, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

func (b *browser) ask(session, method string, params, out any) {
	b.t.Helper()
	result, err := b.try(session, method, params)
	if err == nil && out != nil {
		err = json.Unmarshal(result, out)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// do is one method of the window.
func (b *browser) do(method string, params map[string]any, out any) {
	b.t.Helper()
	b.ask(b.session, method, params, out)
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	for len(b.loaded) > 0 {
		<-b.loaded
	}
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	select {
	case <-b.loaded:
	case <-time.After(patience):
		b.t.Fatalf("%s does not load", url)
	}
}

// eval gives the value of an expression, of which a promise is waited for.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	var out struct {
		Result struct {
			Value T `json:"value"`
		} `json:"result"`
		Details *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &out)
	if out.Details != nil {
		b.t.Fatalf("%s: %s %s", expression, out.Details.Text, out.Details.Exception.Description)
	}
	return out.Result.Value
}

// until waits for an expression to be true, as the page's own frames go.
func (b *browser) until(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !eval[bool](b, "new Promise(r => setTimeout(() => r(Boolean("+expression+")), 50))") {
		if time.Now().After(deadline) {
			b.t.Fatalf("never: %s; the page says %q", expression, eval[string](b, "document.body.innerText.slice(0, 2000)"))
		}
	}
}

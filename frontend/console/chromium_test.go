//go:build !race

package console_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

// TestChromium opens every page in a real browser: hostile names stay text, the policy blocks nothing of ours and everything
// of theirs, no page is wider than a phone, and a thousand calls a second make no page grow.
func TestChromium(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s := serve(t, hostile())
	watchPolicy := `window.blocked = []; document.addEventListener("securitypolicyviolation", (e) => window.blocked.push(e.violatedDirective + " " + e.blockedURI));`
	b.do("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchPolicy}, nil)
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true}, nil)
	for _, path := range slices.DeleteFunc(paths(), func(path string) bool { return strings.HasSuffix(path, "nowhere") }) {
		b.open(s.URL + path)
		if n := eval[int](b, "document.querySelectorAll('h1').length"); n != 1 {
			t.Errorf("%s has %d headings", path, n)
		}
		if w := eval[int](b, "document.documentElement.scrollWidth"); w > 360 {
			t.Errorf("%s is %d wide on a phone of 360: %v", path, w, eval[[]string](b, wide))
		}
		if eval[bool](b, "Boolean(window.pwned)") {
			t.Errorf("%s runs what a name says", path)
		}
		if blocked := eval[[]string](b, "window.blocked"); len(blocked) > 0 {
			t.Errorf("%s: the policy blocked %q", path, blocked)
		}
		if n := eval[int](b, "document.querySelectorAll('main :is(script, iframe, object, style, link, img[src^=x])').length"); n != 0 {
			t.Errorf("%s has %d elements of a name's making", path, n)
		}
	}
	// What would be theirs is blocked, so the list above is empty for a reason.
	b.open(s.URL + "/console")
	eval[bool](b, `(() => { const e = document.createElement("div"); e.setAttribute("style", "color:red"); document.body.append(e); return true })()`)
	b.until("window.blocked.length > 0")
	if got := eval[string](b, `(() => { try { document.body.innerHTML = "<b>x</b>"; return "written" } catch (e) { return e.name } })()`); got != "TypeError" {
		t.Errorf("markup out of a text: %s, want it refused", got)
	}
	for _, said := range b.complaints() {
		if !strings.Contains(said, "Content Security Policy") && !strings.Contains(said, "TrustedHTML") {
			t.Errorf("the page complains: %s", said)
		}
	}
	b.keyboard(s.URL)
	b.thousand(t, s)
	if said := b.complaints(); len(said) > 0 {
		t.Errorf("the pages complain: %q", said)
	}
}

// wide are the elements that stand out of a phone.
const wide = `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > 361).slice(0, 5).map((e) => e.outerHTML.slice(0, 160))`

// keyboard goes along a page without a mouse.
func (b *browser) keyboard(url string) {
	b.t.Helper()
	b.open(url + "/console/functions")
	key := func(name, text string) {
		for _, kind := range []string{"keyDown", "keyUp"} {
			p := map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": map[string]int{"Tab": 9, "Enter": 13}[name]}
			if kind == "keyDown" && text != "" {
				p["text"] = text
			}
			b.do("Input.dispatchKeyEvent", p, nil)
		}
	}
	key("Tab", "")
	if at := eval[string](b, "document.activeElement.textContent"); at != "Skip to content" {
		b.t.Errorf("the first Tab leads to %q", at)
	}
	if outline := eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
		b.t.Errorf("the focus is not seen: outline %s", outline)
	}
	key("Enter", "\r")
	b.until(`document.activeElement.id === "main"`)
	key("Tab", "")
	if at := eval[string](b, "document.activeElement.id"); at != "q" {
		b.t.Errorf("after the skip, Tab leads to %q", at)
	}
	b.do("Input.insertText", map[string]any{"text": "<script>"}, nil)
	key("Enter", "\r")
	b.until(`location.search === "?q=%3Cscript%3E" && document.querySelectorAll("tbody tr").length === 1`)
}

// thousand feeds a thousand calls a second, hostile ones among them, while the page of calls is open.
func (b *browser) thousand(t *testing.T, s *stand) {
	b.open(s.URL + "/console/calls")
	b.until(`document.getElementById("state").textContent === "Live"`)
	stop := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			for i := range 10 {
				s.console.Feed().Tell(callNumber(n*10 + i))
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	count := `document.getElementById("rows").rows.length`
	nodes := `document.getElementsByTagName("*").length`
	b.until(count + " >= 20")
	// Most of the two hundred at once, as copies of what came, so that the test need not wait for them.
	eval[int](b, `(() => { const r = document.getElementById("rows"); while (r.rows.length < 190) r.append(r.rows[0].cloneNode(true)); return 0 })()`)
	b.until(count + " === 200")
	full := eval[int](b, nodes)
	before := eval[int](b, seen)
	b.until(seen + fmt.Sprint(" >= ", before+3000))
	// Which calls are shown is chance: until those are among them whose names are looked at below.
	b.until(`["<script>", "\\u202e"].every(name => document.getElementById("rows").innerText.includes(name))`)
	close(stop)
	feeding.Wait()
	if n := eval[int](b, count); n != 200 {
		t.Errorf("%d rows", n)
	}
	if n := eval[int](b, nodes); n > full*11/10 {
		t.Errorf("the page grew from %d to %d elements", full, n)
	}
	if eval[bool](b, "Boolean(window.pwned)") {
		t.Error("a row runs what a name says")
	}
	if n := eval[int](b, "document.querySelectorAll('#rows :is(script, img, svg)').length"); n != 0 {
		t.Errorf("rows have %d elements of a name's making", n)
	}
	text := eval[string](b, `document.getElementById("rows").innerText`)
	if !strings.Contains(text, "<script>") || !strings.Contains(text, `\u202e`) || strings.Contains(text, "\u202e") {
		t.Error("hostile names are not shown as text, or with what hides")
	}
	// A window that leaves is not fed any more.
	b.open("about:blank")
	deadline := time.Now().Add(patience)
	for s.console.Feed().Watched() {
		if time.Now().After(deadline) {
			t.Fatal("the window has gone and is still fed")
		}
		eval[int](b, "new Promise(r => setTimeout(r, 20, 1))")
	}
}

// seen is how many calls the page says that it has seen.
const seen = `Number(document.querySelector('[data-t="seen"]').textContent.replaceAll(",", ""))`

// callNumber is one of many calls: most are alike, some are hostile, some failed.
func callNumber(n int) *console.Call {
	c := &console.Call{
		RequestID: fmt.Sprintf("00000000-0000-4000-8000-%012x", n), Function: "resize", Version: "7", Ended: time.Now(), Took: 3 * time.Millisecond,
		Outcome: console.OutcomeOK, Start: schema.StartWarm, Reason: schema.ReasonReserved, Arc: "r.0.default.resize.7.1", Manager: "m1",
	}
	switch {
	case n%97 == 0:
		c.Function, c.Tenant, c.Outcome, c.Code = evil[n%len(evil)], evil[(n+1)%len(evil)], console.OutcomeError, evil[(n+2)%len(evil)]
	case n%31 == 0:
		c.Outcome, c.Code, c.Start = console.OutcomeTimeout, string(schema.CodeTimedOut), schema.StartCold
	}
	return c
}

package runtimes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// TestLimits: events and answers up to Lambda's size, byte for byte; of a larger answer the caller is told in Lambda's
// words, and the environment goes on: on its connection where the rest of the answer is short enough to be passed over, on
// a new one where it is not.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, language := range []struct{ runtime, handler, file, code string }{
		{nodejs, "index.handler", "index.js", `exports.handler = async (e) => typeof e === "number" ? "x".repeat(e - 2) : e.fail ? Promise.reject(new Error("x".repeat(e.fail))) : e;`},
		{python, "app.handler", "app.py", "def handler(e, c):\n    if isinstance(e, dict): raise ValueError('x' * e['fail'])\n    return 'x' * (e - 2) if isinstance(e, int) else e"},
	} {
		t.Run(language.runtime, func(t *testing.T) {
			t.Parallel()
			p := start(t, language.runtime, language.handler, map[string]string{language.file: language.code})
			event := `"` + strings.Repeat("e", schema.MaxPayload-2) + `"`
			if got := p.call(event); got.body != event {
				t.Errorf("an event of %d bytes came back as %d", len(event), len(got.body))
			}
			if got := p.call(fmt.Sprint(schema.MaxAnswer)); got.large || len(got.body) != schema.MaxAnswer {
				t.Errorf("an answer of %d bytes: %d, %.200s", schema.MaxAnswer, len(got.body), got.body)
			}
			connections := 1
			for _, size := range []int{schema.MaxAnswer + 1, 7 << 20, 20 << 20, schema.MaxAnswer + 1} {
				got := p.call(fmt.Sprint(size))
				want := fmt.Sprintf("Response payload size (%d bytes) exceeded maximum allowed payload size (6291556 bytes).", size)
				if !got.large || got.body != want {
					t.Errorf("an answer of %d bytes: %.200s", size, got.body)
				}
				p.call(`"next"`).want(t, "response", `"next"`)
				if size > 16<<20 {
					connections++
				}
			}
			if got := p.call(fmt.Sprintf(`{"fail":%d}`, schema.MaxAnswer)); !got.large {
				t.Errorf("a failure that is too large: %.200s", got.body)
			}
			p.call(`"next"`).want(t, "response", `"next"`)
			p.wantConnections(connections)
			p.stop()
			// The failure's own line is as long as it, so what was written behind it may have been on its way.
			if n := strings.Count(p.output.String(), "the runtime API refused the answer: 413"); n < 4 {
				t.Errorf("%d refusals are told, of 5", n)
			}
		})
	}
}

// TestNodeStreamLimits: the same of an answer in pieces, whose length nobody announced.
func TestNodeStreamLimits(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `
		const { once } = require("events");
		exports.handler = awslambda.streamifyResponse(async (size, stream) => {
			for (let left = size; left > 0; left -= 65536) {
				if (!stream.write("x".repeat(Math.min(left, 65536)))) await once(stream, "drain");
			}
			stream.end();
			await once(stream, "finish");
		});`})
	if got := p.call(fmt.Sprint(schema.MaxAnswer)); got.large || len(got.body) != schema.MaxAnswer {
		t.Errorf("%d bytes: %.200s", len(got.body), got.body)
	}
	for _, size := range []int{schema.MaxAnswer + 1, 8 << 20, 20 << 20, 8 << 20} {
		if got := p.call(fmt.Sprint(size)); !got.large || !strings.Contains(got.body, "exceeded maximum allowed payload size (6291556 bytes).") {
			t.Errorf("%d bytes: %.200s", size, got.body)
		}
		p.call(`5`).want(t, "response", "xxxxx")
	}
}

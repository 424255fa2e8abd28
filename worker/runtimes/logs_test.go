package runtimes_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// asJSON asks for JSON, from a level on.
func asJSON(level string) func(*schema.Binding) {
	return func(b *schema.Binding) { b.Logging = schema.Logging{Format: "JSON", Level: level} }
}

// jsonLines are the lines of JSON that a program wrote, without what differs from run to run; others come as they are.
func (p *program) jsonLines() (lines []string) {
	p.t.Helper()
	p.stop()
	at := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	for line := range strings.Lines(p.output.String()) {
		line = strings.TrimSuffix(line, "\n")
		var object map[string]any
		if json.Unmarshal([]byte(line), &object) != nil {
			lines = append(lines, line)
			continue
		}
		if text, _ := object["timestamp"].(string); !at.MatchString(text) {
			p.t.Errorf("no timestamp in %s", line)
		}
		delete(object, "timestamp")
		p.shorten(object)
		short, err := json.Marshal(object)
		if err != nil {
			p.t.Fatal(err)
		}
		lines = append(lines, string(short))
	}
	return lines
}

// shorten keeps of stacks their first line alone, and of places their file.
func (p *program) shorten(object map[string]any) {
	if stack, ok := object["stackTrace"].([]any); ok && len(stack) > 0 {
		object["stackTrace"] = strings.TrimSpace(regexp.MustCompile(`File "[^"]*/`).ReplaceAllString(stack[0].(string), `File "`))
	}
	if place, ok := object["location"].(string); ok {
		object["location"] = place[strings.LastIndex(place, "/")+1:]
	}
	for _, inner := range object {
		if o, ok := inner.(map[string]any); ok {
			p.shorten(o)
		}
	}
}

func (p *program) wantLines(got, want []string) {
	p.t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			p.t.Errorf("one more line: %s", got[i])
		case i >= len(got):
			p.t.Errorf("no line %s", want[i])
		case got[i] != want[i]:
			p.t.Errorf("line %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

// TestNodeJSONLogs: the console as Lambda's client for Node writes it with LogFormat JSON, from a level on.
func TestNodeJSONLogs(t *testing.T) {
	t.Parallel()
	const code = `console.log("load");
		exports.handler = async (e) => {
			if (e.fail) throw new RangeError("seen");
			if (e.text) throw "text";
			console.trace("t"); console.debug("d"); console.info("a\n%d", 1); console.log({ x: [1] }); console.warn("w", { y: 2 });
			console.error("failed:", new TypeError("bad")); console.error(Object.assign(new Error("own"), { code: 7 })); console.fatal("f");
			const circle = {}; circle.me = circle; console.error(circle);
			process.stdout.write("raw\n");
		};`
	line := func(level, id, rest string) string {
		return `{"level":"` + level + `",` + rest + `,"requestId":"` + id + `"}`
	}
	const id1, id2 = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	warnings := []string{
		line("WARN", id1, `"message":"w { y: 2 }"`),
		`{"errorMessage":"bad","errorType":"TypeError","level":"ERROR","message":"failed: TypeError: bad","requestId":"` + id1 + `","stackTrace":"TypeError: bad"}`,
		line("ERROR", id1, `"message":{"code":7,"errorMessage":"own","errorType":"Error","stackTrace":"Error: own"}`),
		line("FATAL", id1, `"message":"f"`),
		line("ERROR", id1, `"message":"\u003cref *1\u003e { me: [Circular *1] }"`),
		"raw",
		line("ERROR", id2, `"message":{"errorMessage":"seen","errorType":"RangeError","stackTrace":"RangeError: seen"}`),
		`{"level":"ERROR","message":{"errorMessage":"text","errorType":"Error","stackTrace":"Error: text"},"requestId":"` +
			strings.TrimSuffix(id2, "2") + `3","tenantId":"acme"}`,
	}
	for level, first := range map[string][]string{
		"TRACE": {`{"level":"INFO","message":"load"}`, line("TRACE", id1, `"message":"t"`), line("DEBUG", id1, `"message":"d"`),
			line("INFO", id1, `"message":"a\n1"`), line("INFO", id1, `"message":{"x":[1]}`)},
		"":     {`{"level":"INFO","message":"load"}`, line("INFO", id1, `"message":"a\n1"`), line("INFO", id1, `"message":{"x":[1]}`)},
		"WARN": nil,
	} {
		t.Run("From"+level, func(t *testing.T) {
			t.Parallel()
			p := start(t, nodejs, "index.handler", map[string]string{"index.js": code}, asJSON(level))
			p.call(`{}`)
			p.call(`{"fail":true}`)
			p.make(call{event: `{"text":true}`, headers: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "acme"}})
			got := p.jsonLines()
			for i := range got { // the error's whole stack stands in it
				got[i] = regexp.MustCompile(`(failed: TypeError: bad)[^"]*`).ReplaceAllString(got[i], "$1")
			}
			p.wantLines(got, append(first, warnings...))
		})
	}
	t.Run("Init", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.missing", map[string]string{"index.js": code}, asJSON("FATAL"))
		p.posted()
		p.exit()
		p.wantLines(p.jsonLines(), nil)
		p = start(t, nodejs, "index.missing", map[string]string{"index.js": code}, asJSON("ERROR"))
		p.posted()
		p.exit()
		const text = "index.missing is undefined or not exported"
		p.wantLines(p.jsonLines(), []string{`{"level":"ERROR","message":{"errorMessage":"` + text + `","errorType":"Runtime.HandlerNotFound",` +
			`"stackTrace":"Runtime.HandlerNotFound: ` + text + `"}}`})
	})
}

// TestPythonJSONLogs: logging as Lambda's client for Python writes it with LogFormat JSON, from a level on.
func TestPythonJSONLogs(t *testing.T) {
	t.Parallel()
	const code = `
import logging
log = logging.getLogger("mine")
log.warning("load")
def handler(event, context):
    if event:
        raise ValueError("seen\n\ud800")
    log.debug("d")
    logging.info("ü %d\n", 1)
    log.warning("w", extra={"order": 7, "what": object, "tenant": None})
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("failed")
    logging.critical("c")
    logging.error("broken %d", "x")
    print("raw")
`
	const id1, id2 = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	line := func(level, logger, rest string) string {
		return `{"level":"` + level + `","logger":"` + logger + `","message":` + rest + `,"requestId":"` + id1 + `"`
	}
	seen := `{"errorMessage":"seen\n` + "\uFFFD" + `","errorType":"ValueError","log_level":"ERROR","requestId":"` + id2 +
		`","stackTrace":"File \"app.py\", line 7, in handler\n    raise ValueError(\"seen\\n\\ud800\")"`
	errors := []string{
		`{"errorMessage":"'k'","errorType":"KeyError","level":"ERROR","location":"app.py:handler:14","logger":"mine","message":"failed","requestId":"` +
			id1 + `","stackTrace":"File \"app.py\", line 12, in handler\n    raise KeyError(\"k\")"}`,
		line("CRITICAL", "root", `"c"`) + "}",
		"raw", seen + "}",
	}
	warnings := []string{`{"level":"WARNING","logger":"mine","message":"load","requestId":""}`,
		`{"level":"WARNING","logger":"mine","message":"w","order":7,"requestId":"` + id1 + `","what":"\u003cclass 'object'\u003e"}`}
	for level, want := range map[string][]string{
		"TRACE": {warnings[0], line("DEBUG", "mine", `"d"`) + "}", line("INFO", "root", `"ü 1\n"`) + "}", warnings[1]},
		"":      {warnings[0], line("INFO", "root", `"ü 1\n"`) + "}", warnings[1]},
		"ERROR": nil,
	} {
		t.Run("From"+level, func(t *testing.T) {
			t.Parallel()
			p := start(t, python, "app.handler", map[string]string{"app.py": code}, asJSON(level))
			p.call(`{}`)
			p.call(`{"fail":true}`)
			var got []string
			told := false // the logging module's own complaint, on stderr
			for _, l := range p.jsonLines() {
				if strings.HasPrefix(l, "{") || l == "raw" {
					got = append(got, l)
				}
				told = told || strings.Contains(l, "TypeError: %d format")
			}
			if !told {
				t.Error("nothing is said of a record that cannot be written")
			}
			p.wantLines(got, append(want, errors...))
		})
	}
	t.Run("Tenant", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "import logging\ndef handler(event, context): logging.info('x')"}, asJSON(""))
		p.make(call{event: "{}", headers: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "acme"}})
		p.wantLines(p.jsonLines(), []string{line("INFO", "root", `"x"`) + `,"tenantId":"acme"}`})
	})
}

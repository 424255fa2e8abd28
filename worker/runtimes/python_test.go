package runtimes_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

const python = "python3.8"

// TestPythonForms: results as Lambda's client for Python writes them.
func TestPythonForms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, file, code, handler, event, want string }{
		{"Plain", "app.py", "def handler(event, context):\n    return {'got': event['a'] + 1}", "app.handler", `{"a": 1}`, `{"got": 2}`},
		{"None", "app.py", "def handler(event, context): pass", "app.handler", `{}`, `null`},
		{"List", "app.py", "def handler(event, context): return [1, 2.5, True, None, 'x']", "app.handler", `{}`, `[1, 2.5, true, null, "x"]`},
		{"Nested", "pkg/sub/mod.py", "def fn(event, context): return __name__", "pkg/sub/mod.fn", `{}`, `"pkg.sub.mod"`},
		{"Dotted", "pkg/mod.py", "def fn(event, context): return 1", "pkg.mod.fn", `{}`, `1`},
		{"Callable", "app.py", "class H:\n    def __call__(self, e, c): return e\nhandler = H()", "app.handler", `"e"`, `"e"`},
		{"Decimal", "app.py", "from decimal import Decimal\ndef handler(event, context): return [Decimal('1.5'), Decimal('20')]", "app.handler", `{}`, `[1.5, 20]`},
		{"Variable", "app.py", "import os\ndef handler(event, context): return os.environ['GREETING']", "app.handler", `{}`, `"hello"`},
		{"WorksInPackage", "app.py", "import os, sys\ndef handler(event, context): return [os.getcwd() == os.environ['LAMBDA_TASK_ROOT'], sys.path[0] == os.getcwd()]",
			"app.handler", `{}`, `[true, true]`},
		{"OwnModules", "app.py", "import helper\ndef handler(event, context): return helper.x", "app.handler", `{}`, `4`},
		{"NamedAsTheLoop", "python.py", "def handler(event, context): return 'mine'", "python.handler", `{}`, `"mine"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, python, test.handler, map[string]string{test.file: test.code, "helper.py": "x = 4"})
			for range 3 {
				p.call(test.event).want(t, "response", test.want)
			}
		})
	}
	t.Run("SafePath", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "import helper, sys\ndef handler(event, context): return [helper.x, len(set(sys.path)) == len(sys.path)]", "helper.py": "x = 4"},
			func(b *schema.Binding) { b.Variables = schema.Variables{"PYTHONSAFEPATH": "1"} })
		p.call(`{}`).want(t, "response", `[4, true]`)
	})
	t.Run("Bytes", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "def handler(event, context): return b'\\x00raw'"})
		got := p.call(`{}`)
		got.want(t, "response", "\x00raw")
		if kind := got.headers.Get("Content-Type"); kind != "application/unknown" {
			t.Errorf("content type %q", kind)
		}
	})
	t.Run("RawEvent", func(t *testing.T) {
		t.Parallel()
		p := startScripted(t, python, "app.handler", map[string]string{"app.py": "def handler(event, context): return str(type(event)) + event.decode()"})
		got := p.make(call{event: "not json", headers: map[string]string{"Content-Type": "text/plain"}})
		got.want(t, "response", `"<class 'bytes'>not json"`)
	})
}

// TestPythonErrors: errors of a handler as callers see them; the environment goes on.
func TestPythonErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, code, event, kind, message string }{
		{"Raised", "def handler(event, context): raise ValueError('bad')", `{}`, "ValueError", "bad"},
		{"Own", "class Mine(Exception): pass\ndef handler(event, context): raise Mine('own')", `{}`, "Mine", "own"},
		{"NoMessage", "def handler(event, context): raise KeyError", `{}`, "KeyError", ""},
		{"Marshal", "def handler(event, context): return object", `{}`, "Runtime.MarshalError", "Unable to marshal response: Object of type type is not JSON serializable"},
		{"Coroutine", "async def handler(event, context): pass", `{}`, "Runtime.MarshalError", "Unable to marshal response: Object of type coroutine is not JSON serializable"},
		{"Circle", "def handler(event, context):\n    a = []\n    a.append(a)\n    return a", `{}`, "Runtime.MarshalError", "Unable to marshal response: Circular reference detected"},
		{"NoText", "class Mute(Exception):\n    def __str__(self): raise RuntimeError('no')\ndef handler(event, context): raise Mute()", `{}`,
			"Mute", "the exception has no text: RuntimeError"},
		{"Surrogate", "def handler(event, context): raise ValueError('\\ud800')", `{}`, "ValueError", "\uFFFD"},
		{"NotCallable", "handler = 1", `{}`, "TypeError", "'int' object is not callable"},
		{"TooDeep", "def handler(event, context): return handler(event, context)", `{}`, "RecursionError", "maximum recursion depth exceeded"},
		{"Unmarshal", "def handler(event, context): pass", `{"a":`, "Runtime.UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 6 (char 5)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, python, "app.handler", map[string]string{"app.py": test.code})
			for range 2 {
				f := p.call(test.event).wantError(t, "error", test.kind, test.message)
				if f.RequestID == nil || !strings.HasPrefix(*f.RequestID, "00000000-") || f.StackTrace == nil {
					t.Errorf("error object %+v", f)
				}
			}
		})
	}
	t.Run("Shape", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "def inner():\n    raise ValueError('shape')\n\ndef handler(event, context):\n    inner()\n"})
		got := p.call(`{}`)
		shape := regexp.MustCompile(`^\{"errorMessage": "shape", "errorType": "ValueError", "requestId": "00000000-0000-4000-8000-000000000001", "stackTrace": \[` +
			`"  File \\"[^"]*/app.py\\", line 5, in handler\\n    inner\(\)\\n", "  File \\"[^"]*/app.py\\", line 2, in inner\\n    raise ValueError\('shape'\)\\n"\]\}$`)
		if !shape.MatchString(got.body) {
			t.Errorf("error object %s", got.body)
		}
		if got.headers.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", got.headers)
		}
	})
	t.Run("BadClientContext", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "def handler(event, context): return 1"})
		got := p.make(call{event: `{}`, headers: map[string]string{"Lambda-Runtime-Client-Context": "{"}})
		if f := got.failure(t); f.ErrorType != "Runtime.LambdaContextUnmarshalError" {
			t.Errorf("%+v", f)
		}
	})
}

// TestPythonInitErrors: what keeps a function from starting is told once, with its type in the header, and the process
// ends.
func TestPythonInitErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, code, handler, kind, message string }{
		{"NoModule", "", "nothing.handler", "Runtime.ImportModuleError", "Unable to import module 'nothing': No module named 'nothing'"},
		{"NoDependency", "import missing", "app.handler", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'missing'"},
		{"Syntax", "def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "},
		{"NoHandler", "other = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"},
		{"NoDot", "", "app", "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"},
		{"BuiltIn", "", "sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"},
		{"Raises", "raise RuntimeError('at load')", "app.handler", "RuntimeError", "at load"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, python, test.handler, map[string]string{"app.py": test.code})
			got := p.posted()
			f := got.failure(t)
			if got.where != "init/error" || f.ErrorType != test.kind || !strings.HasPrefix(f.ErrorMessage, test.message) {
				t.Errorf("%s %s: %q; want %s: %q", got.where, f.ErrorType, f.ErrorMessage, test.kind, test.message)
			}
			if header := got.headers.Get("Lambda-Runtime-Function-Error-Type"); header != test.kind {
				t.Errorf("type in the header %q", header)
			}
			if code := p.exit(); code != 1 {
				t.Errorf("exit %d", code)
			}
		})
	}
}

// TestPythonExit: sys.exit keeps its status, in a call and while loading.
func TestPythonExit(t *testing.T) {
	t.Parallel()
	t.Run("Call", func(t *testing.T) {
		t.Parallel()
		p := start(t, python, "app.handler", map[string]string{"app.py": "import sys\ndef handler(event, context): sys.exit(3)"})
		if err := p.api.give(call{id: "x", event: "{}"}); err != nil {
			t.Fatal(err)
		}
		if code := p.exit(); code != 3 {
			t.Errorf("exit %d", code)
		}
	})
	t.Run("Load", func(t *testing.T) {
		t.Parallel()
		if code := start(t, python, "app.handler", map[string]string{"app.py": "import sys\nsys.exit(4)"}).exit(); code != 4 {
			t.Errorf("exit %d", code)
		}
	})
}

// TestPythonContext: all members, from headers and variables; the trace is that of the call.
func TestPythonContext(t *testing.T) {
	t.Parallel()
	p := startScripted(t, python, "app.handler", map[string]string{"app.py": `
import os, re
def handler(event, c):
    left = c.get_remaining_time_in_millis()
    cc = c.client_context
    return {"id": c.aws_request_id, "group": c.log_group_name, "stream": re.sub("[0-9a-f]{32}$", "HEX", c.log_stream_name)[10:],
        "function": c.function_name, "version": c.function_version, "memory": c.memory_limit_in_mb, "arn": c.invoked_function_arn,
        "tenant": c.tenant_id, "left": 0 < left <= 3600000, "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "identity": [c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id],
        "client": cc and [cc.custom, cc.env, cc.client.app_title, cc.client.installation_id]}
`})
	got := p.make(call{id: "id-1", event: "{}", headers: map[string]string{
		"Lambda-Runtime-Trace-Id":         "Root=1-2-3",
		"Lambda-Runtime-Client-Context":   `{"custom":{"a":"ü"},"env":{"b":1},"client":{"app_title":"title"}}`,
		"Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`,
		"Lambda-Runtime-Aws-Tenant-Id":    "t/ 1",
	}})
	equalJSON(t, got.body, `{"id":"id-1","group":"/aws/lambda/f","stream":"/[7]HEX","function":"f","version":"7","memory":"256",
		"arn":"arn:aws:lambda:us-east-1:000000000000:function:f","tenant":"t/ 1","left":true,"trace":"Root=1-2-3","identity":["i","p"],
		"client":[{"a":"ü"},{"b":1},"title",null]}`)
	equalJSON(t, p.call(`{}`).body, `{"id":"00000000-0000-4000-8000-000000000002","group":"/aws/lambda/f","stream":"/[7]HEX","function":"f",
		"version":"7","memory":"256","arn":"arn:aws:lambda:us-east-1:000000000000:function:f","tenant":null,"left":true,"trace":null,
		"identity":[null,null],"client":null}`)
}

// TestPythonLogs: records carry level, time and request id; prints are there when the answer is.
func TestPythonLogs(t *testing.T) {
	t.Parallel()
	p := start(t, python, "app.handler", map[string]string{"app.py": `
import logging
logging.warning("load")
logging.getLogger().setLevel(logging.INFO)
def handler(event, context):
    print("out", 1)
    print("no end", end="")
    print()
    logging.info("info %d", 2)
    context.log("logged\n")
    if event:
        raise ValueError("seen")
`})
	p.call(`{}`)
	p.call(`{"fail":true}`)
	p.stop()
	at := `\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t`
	for _, line := range []string{
		`(?m)^\[WARNING\]` + at + `\tload$`, `(?m)^out 1$`, `(?m)^no end$`, `(?m)^logged$`,
		`(?m)^\[INFO\]` + at + "00000000-0000-4000-8000-000000000001\tinfo 2$",
		"(?m)^\\[ERROR\\] ValueError: seen\rTraceback \\(most recent call last\\):\r\u00a0\u00a0File \"[^\"]*/app.py\", line 12, in handler\r\u00a0\u00a0\u00a0\u00a0raise ValueError\\(\"seen\"\\)$",
	} {
		if !regexp.MustCompile(line).Match(p.output.Bytes()) {
			t.Errorf("no line %q in\n%q", line, p.output)
		}
	}
}

// TestPythonLarge: events and answers of several megabytes, on one connection.
func TestPythonLarge(t *testing.T) {
	t.Parallel()
	p := start(t, python, "app.handler", map[string]string{"app.py": "def handler(event, context): return event"})
	for _, size := range []int{1, 1000, 65_000, 66_000, 5 << 20} {
		event := `"` + strings.Repeat("x", size) + `"`
		if got := p.call(event); got.body != event {
			t.Errorf("%d bytes came back as %d", len(event), len(got.body))
		}
	}
	p.wantConnections(1)
}

// TestPythonRefusedAnswer: an answer that the API does not take is logged, and the next call comes, also where the API
// hangs up with its refusal.
func TestPythonRefusedAnswer(t *testing.T) {
	t.Parallel()
	p := startScripted(t, python, "app.handler", map[string]string{"app.py": "def handler(event, context): return event"})
	p.make(call{event: `"large"`, refuse: 413}).want(t, "response", `"large"`)
	p.call(`1`).want(t, "response", `1`)
	p.make(call{event: `"bad"`, refuse: 400})
	p.call(`2`).want(t, "response", `2`)
	p.wantConnections(2)
	p.stop()
	if !strings.Contains(p.output.String(), "the runtime API refused the answer: 413") {
		t.Errorf("no word of it in\n%s", p.output)
	}
}

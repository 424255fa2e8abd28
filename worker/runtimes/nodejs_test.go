package runtimes_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

const nodejs = "nodejs18.x"

// TestNodeForms: every form of handler that AWS's client for Node 18 and 20 takes.
func TestNodeForms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, file, code, handler, event, want string
	}{
		{"Async", "index.js", `exports.handler = async (e) => ({ got: e.a + 1 });`, "index.handler", `{"a":1}`, `{"got":2}`},
		{"Promise", "index.js", `exports.handler = (e) => new Promise((ok) => setTimeout(ok, 5, e));`, "index.handler", `[1,"ü"]`, `[1,"ü"]`},
		{"Thenable", "index.js", `exports.handler = () => ({ then(ok) { ok("then"); } });`, "index.handler", `{}`, `"then"`},
		{"Callback", "index.js", `exports.handler = (e, c, done) => setTimeout(done, 5, null, e.a);`, "index.handler", `{"a":"b"}`, `"b"`},
		{"CallbackWaitsForTimers", "index.js", `exports.handler = (e, c, done) => { let n = 0; setTimeout(() => { n++; }, 30); done(null, { get n() { return n; } }); };`,
			"index.handler", `{}`, `{"n":1}`},
		{"CallbackDoesNotWait", "index.js", `exports.handler = (e, c, done) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); done(null, 1); };`,
			"index.handler", `{}`, `1`},
		{"FirstCallbackCounts", "index.js", `exports.handler = (e, c, done) => { done(null, 1); done(null, 2); c.succeed(3); };`, "index.handler", `{}`, `1`},
		{"LateCallback", "index.js", `let late; exports.handler = (e, c, done) => { if (late) late(null, "of the call before"); late = done;
			c.callbackWaitsForEmptyEventLoop = false; setTimeout(done, 1, null, e.a); };`, "index.handler", `{"a":1}`, `1`},
		{"Global", "index.js", `exports.handler = async () => typeof awslambda;`, "index.handler", `{}`, `"object"`},
		{"Succeed", "index.js", `exports.handler = (e, c) => c.succeed("s");`, "index.handler", `{}`, `"s"`},
		{"Done", "index.js", `exports.handler = (e, c) => c.done(null, "d");`, "index.handler", `{}`, `"d"`},
		{"PlainAnswersNothing", "index.js", `exports.handler = () => "ignored";`, "index.handler", `{}`, `null`},
		{"Undefined", "index.js", `exports.handler = async () => {};`, "index.handler", `{}`, `null`},
		{"FunctionResult", "index.js", `exports.handler = async () => () => 1;`, "index.handler", `{}`, `null`},
		{"Module", "index.mjs", `import { basename } from "path"; export const handler = async (e) => basename(e);`, "index.handler", `"/a/b"`, `"b"`},
		{"ModuleAwaitsAtTop", "index.mjs", `const x = await Promise.resolve(4); export const handler = async () => x;`, "index.handler", `{}`, `4`},
		{"ModuleDefault", "index.mjs", `export default { run: async () => 5 };`, "index.run", `{}`, `5`},
		{"CommonJS", "index.cjs", `exports.handler = async () => 6;`, "index.handler", `{}`, `6`},
		{"Nested", "dir/sub/file.js", `exports.a = { b: async () => 7 };`, "dir/sub/file.a.b", `{}`, `7`},
		{"Variable", "index.js", `exports.handler = async () => process.env.GREETING;`, "index.handler", `{}`, `"hello"`},
		{"WorksInPackage", "index.js", `exports.handler = async () => process.cwd() === process.env.LAMBDA_TASK_ROOT;`, "index.handler", `{}`, `true`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nodejs, test.handler, map[string]string{test.file: test.code})
			for range 3 {
				p.call(test.event).want(t, "response", test.want)
			}
		})
	}
}

// TestNodePackageType: package.json decides what .js files are, and modules are found as require finds them.
func TestNodePackageType(t *testing.T) {
	t.Parallel()
	t.Run("Module", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "src/index.handler", map[string]string{
			"package.json": `{"type":"module"}`,
			"src/index.js": `import { x } from "./other.js"; export const handler = async () => x;`,
			"src/other.js": `export const x = "esm";`,
		})
		p.call(`{}`).want(t, "response", `"esm"`)
	})
	t.Run("NearestCounts", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "src/index.handler", map[string]string{
			"package.json":     `{"type":"module"}`,
			"src/package.json": `{}`,
			"src/index.js":     `exports.handler = async () => "cjs";`,
		})
		p.call(`{}`).want(t, "response", `"cjs"`)
	})
	t.Run("Installed", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "lib.handler", map[string]string{
			"node_modules/lib/package.json": `{"main":"main.js"}`,
			"node_modules/lib/main.js":      `exports.handler = async () => require("dep");`,
			"node_modules/dep/index.js":     `module.exports = "dep";`,
		})
		p.call(`{}`).want(t, "response", `"dep"`)
	})
}

// TestNodeErrors: errors of a handler as callers see them; the environment goes on.
func TestNodeErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, code, kind, message string }{
		{"Thrown", `exports.handler = async () => { throw new TypeError("bad"); };`, "TypeError", "bad"},
		{"ThrownAtOnce", `exports.handler = () => { throw new RangeError("now"); };`, "RangeError", "now"},
		{"Own", `class Mine extends Error { constructor(m) { super(m); this.name = "Mine"; } } exports.handler = async () => { throw new Mine("own"); };`, "Mine", "own"},
		{"Rejected", `exports.handler = () => Promise.reject(new Error("no"));`, "Error", "no"},
		{"Called", `exports.handler = (e, c, done) => done(new Error("back"));`, "Error", "back"},
		{"Text", `exports.handler = async () => { throw "text"; };`, "string", "text"},
		{"Number", `exports.handler = async () => { throw 42; };`, "number", "42"},
		{"Failed", `exports.handler = (e, c) => c.fail("failed");`, "string", "failed"},
		{"FailedWithoutReason", `exports.handler = (e, c) => c.fail();`, "string", "handled"},
		{"Hostile", `exports.handler = async () => { throw { get message() { throw 1; }, toString() { throw 2; } }; };`, "handled",
			"callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack"},
		{"BigInt", `exports.handler = async () => 1n;`, "Runtime.MarshalError", "Unable to stringify response body: Do not know how to serialize a BigInt"},
		{"NeverSettles", `exports.handler = async () => { await new Promise(() => {}); };`, "Runtime.NodeJsExit", "The handler ended without settling its promise."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nodejs, "index.handler", map[string]string{"index.js": test.code})
			for range 2 {
				p.call(`{}`).wantError(t, "error", test.kind, test.message)
			}
		})
	}
	t.Run("Circular", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `const a = {}; a.a = a; exports.handler = async () => a;`})
		if f := p.call(`{}`).failure(t); f.ErrorType != "Runtime.MarshalError" || !strings.Contains(f.ErrorMessage, "circular") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("Shape", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": "exports.handler = async () => {\n  throw new Error('shape');\n};"})
		got := p.call(`{}`)
		if !strings.HasPrefix(got.body, `{"errorType":"Error","errorMessage":"shape","trace":["Error: shape","    at `) ||
			!strings.Contains(got.body, "/index.js:2:9)") {
			t.Errorf("error object %s", got.body)
		}
		if got.headers.Get("Content-Type") != "application/json" || got.headers.Get("Lambda-Runtime-Function-Error-Type") != "" {
			t.Errorf("headers %v", got.headers)
		}
	})
	t.Run("BadEvent", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async (e) => e;`})
		if f := p.call(`{"a":`).failure(t); f.ErrorType != "SyntaxError" {
			t.Errorf("%+v", f)
		}
		p.call(`{"a":1}`).want(t, "response", `{"a":1}`)
	})
}

// TestNodeInitErrors: what keeps a function from starting is told once, with its type in the header, and the process ends.
func TestNodeInitErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, file, code, handler, kind, message string }{
		{"NoModule", "other.js", ``, "index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'index'"},
		{"NoDependency", "index.js", `require("nothing");`, "index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'nothing'"},
		{"NoImport", "index.mjs", `import "nothing";`, "index.handler", "Runtime.ImportModuleError", "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'nothing'"},
		{"Syntax", "index.js", `exports.handler = (;`, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token ';'"},
		{"NoHandler", "index.js", `exports.other = 1;`, "index.handler", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"},
		{"NoFunction", "index.js", `exports.handler = "x";`, "index.handler", "Runtime.HandlerNotFound", "index.handler is not a function"},
		{"MalformedStreaming", "index.js", `exports.handler = async () => {}; exports.handler[Symbol.for("aws.lambda.runtime.handler.streaming")] = "request";`,
			"index.handler", "Runtime.MalformedStreamingHandler", "Only response streaming is supported."},
		{"NoDot", "index.js", ``, "index", "Runtime.MalformedHandlerName", "Bad handler"},
		{"Dots", "index.js", ``, "../index.handler", "Runtime.MalformedHandlerName", "'../index.handler' is not a valid handler name."},
		{"Throws", "index.js", `throw new RangeError("at load");`, "index.handler", "RangeError", "at load"},
		{"Rejects", "index.mjs", `await Promise.reject(new RangeError("at top"));`, "index.handler", "RangeError", "at top"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nodejs, test.handler, map[string]string{test.file: test.code})
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

// TestNodeUncaught: what nobody catches ends the call and the process.
func TestNodeUncaught(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, code, kind, message string
		exit                      int
	}{
		{"Exception", `exports.handler = () => new Promise(() => setTimeout(() => { throw new Error("loose"); }, 1));`, "Error", "loose", 129},
		{"Rejection", `exports.handler = () => new Promise(() => { Promise.reject(new Error("lost")); });`,
			"Runtime.UnhandledPromiseRejection", "Error: lost", 128},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nodejs, "index.handler", map[string]string{"index.js": test.code})
			p.call(`{}`).wantError(t, "error", test.kind, test.message)
			if code := p.exit(); code != test.exit {
				t.Errorf("exit %d, want %d", code, test.exit)
			}
		})
	}
	t.Run("ExitKeepsItsStatus", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async () => process.exit(3);`})
		if err := p.api.give(call{id: "x", event: "{}"}); err != nil {
			t.Fatal(err)
		}
		if code := p.exit(); code != 3 {
			t.Errorf("exit %d", code)
		}
	})
}

// TestNodeContext: all members, from headers and variables; the trace is that of the call.
func TestNodeContext(t *testing.T) {
	t.Parallel()
	p := startScripted(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async (e, c) => {
		const left = c.getRemainingTimeInMillis();
		return { ...c, log: undefined, logStreamName: c.logStreamName.replace(/[0-9a-f]{32}$/, "HEX").slice(10), left: left > 0 && left <= 3600000,
			functions: Object.keys(c).filter((k) => typeof c[k] === "function").sort(), trace: process.env._X_AMZN_TRACE_ID };
	};`})
	got := p.make(call{id: "id-1", event: "{}", headers: map[string]string{
		"Lambda-Runtime-Trace-Id":         "Root=1-2-3",
		"Lambda-Runtime-Client-Context":   `{"custom":{"a":"ü"}}`,
		"Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId":"i"}`,
		"Lambda-Runtime-Aws-Tenant-Id":    "t/ 1",
	}})
	want := `{"callbackWaitsForEmptyEventLoop":true,"functionVersion":"7","functionName":"f","memoryLimitInMB":"256",
		"logGroupName":"/aws/lambda/f","logStreamName":"/[7]HEX","clientContext":{"custom":{"a":"ü"}},"identity":{"cognitoIdentityId":"i"},
		"invokedFunctionArn":"arn:aws:lambda:us-east-1:000000000000:function:f","awsRequestId":"id-1","tenantId":"t/ 1","left":true,
		"functions":["done","fail","getRemainingTimeInMillis","succeed"],"trace":"Root=1-2-3"}`
	equalJSON(t, got.body, want)
	bare := p.call(`{}`)
	var object map[string]any
	if err := json.Unmarshal([]byte(bare.body), &object); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tenantId", "clientContext", "identity", "trace"} {
		if value, there := object[name]; there {
			t.Errorf("%s of the call before: %v", name, value)
		}
	}
}

// TestNodeLogs: lines of the console carry time, request id and level; lines inside of one do not split it.
func TestNodeLogs(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `console.log("load");
		exports.handler = async (e) => { console.log("a %d\nb", 1, { x: 1 }); console.error("e"); console.warn("w"); console.debug("d");
			process.stdout.write("raw\n"); if (e.fail) throw new Error("seen"); if (e.text) throw "text"; };`})
	p.call(`{}`)
	p.call(`{"fail":true}`)
	p.call(`{"text":true}`)
	p.stop()
	id := "00000000-0000-4000-8000-000000000001"
	at := `(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t`
	for _, line := range []string{
		at + "undefined\tINFO\tload$", at + id + "\tINFO\ta 1\rb \\{ x: 1 \\}$", at + id + "\tERROR\te$",
		at + id + "\tWARN\tw$", at + id + "\tDEBUG\td$", "(?m)^raw$",
		at + `00000000-0000-4000-8000-000000000002\tERROR\tInvoke Error \t\{"errorType":"Error","errorMessage":"seen","stack":\["Error: seen",`,
		at + `00000000-0000-4000-8000-000000000003\tERROR\tInvoke Error \t\{"errorType":"Error","errorMessage":"text","stack":\["Error: text",`,
	} {
		if !regexp.MustCompile(line).Match(p.output.Bytes()) {
			t.Errorf("no line %q in\n%s", line, p.output)
		}
	}
}

// TestNodeLarge: events and answers of several megabytes, in whatever pieces they come.
func TestNodeLarge(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async (e) => e;`})
	for _, size := range []int{1, 1000, 65_000, 66_000, 6 << 20} {
		event := `"` + strings.Repeat("ü", size/2) + `"`
		if got := p.call(event); got.body != event {
			t.Errorf("%d bytes came back as %d", len(event), len(got.body))
		}
	}
	p.wantConnections(1)
}

// TestNodeRefusedAnswer: an answer that the API does not take is logged, and the next call comes, also where the API hangs
// up with its refusal.
func TestNodeRefusedAnswer(t *testing.T) {
	t.Parallel()
	p := startScripted(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async (e) => e;`})
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

// TestNodeWithoutGlobal: AWS's variable keeps awslambda away.
func TestNodeWithoutGlobal(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = async () => typeof awslambda;`},
		func(b *schema.Binding) { b.Variables = schema.Variables{"AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": "1"} })
	p.call(`{}`).want(t, "response", `"undefined"`)
}

func equalJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: %v", want, err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

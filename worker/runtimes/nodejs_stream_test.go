package runtimes_test

import (
	"strings"
	"testing"
)

// TestNodeStreams: an answer in pieces, with its content type and its error in the trailers.
func TestNodeStreams(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `
		exports.handler = awslambda.streamifyResponse(async (e, stream) => {
			if (e.early) throw new Error("early");
			if (e.http) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });
			if (e.type) stream.setContentType(e.type);
			if (e.empty) { stream.end(); return; }
			stream.write("one ");
			await new Promise((ok) => setTimeout(ok, 2));
			if (e.late) throw new TypeError("late");
			if (e.open) return;
			stream.write("two");
			stream.end();
		});`})
	got := p.call(`{}`)
	got.want(t, "response", "one two")
	if mode := got.headers.Get("Lambda-Runtime-Function-Response-Mode"); mode != "streaming" || got.headers.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("headers %v", got.headers)
	}
	if got := p.call(`{"type":"text/plain"}`); got.headers.Get("Content-Type") != "text/plain" {
		t.Errorf("headers %v", got.headers)
	}
	got = p.call(`{"http":true}`)
	got.want(t, "response", "{\"statusCode\":201}\x00\x00\x00\x00\x00\x00\x00\x00one two")
	if kind := got.headers.Get("Content-Type"); kind != "application/vnd.awslambda.http-integration-response" {
		t.Errorf("content type %q", kind)
	}
	p.call(`{"empty":true}`).want(t, "response", "")
	p.call(`{"early":true}`).wantError(t, "error", "Error", "early")
	got = p.call(`{"late":true}`)
	got.want(t, "response", "one ")
	if kind := got.trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "TypeError" {
		t.Errorf("trailers %v", got.trailer)
	}
	if body := decode64(t, got.trailer.Get("Lambda-Runtime-Function-Error-Body")); !strings.HasPrefix(body, `{"errorType":"TypeError","errorMessage":"late","trace":[`) {
		t.Errorf("error in the trailers %s", body)
	}
	if got = p.call(`{"open":true}`); got.trailer.Get("Lambda-Runtime-Function-Error-Type") != "string" {
		t.Errorf("trailers %v", got.trailer)
	}
	p.call(`{}`).want(t, "response", "one two")
	p.wantConnections(1)
}

// TestNodeStreamForms: what may be written, and that what a handler leaves to happen happens before the next call, unless
// it said that nobody should wait.
func TestNodeStreamForms(t *testing.T) {
	t.Parallel()
	p := start(t, nodejs, "index.handler", map[string]string{"index.js": `
		let ticks = 0;
		exports.handler = awslambda.streamifyResponse(async (e, stream, c) => {
			for (const x of e.pieces || []) stream.write(x);
			if (e.bytes) stream.write(new Uint8Array([0x61, 0x62]));
			if (e.later) setTimeout(() => { ticks++; }, 20);
			if (e.forever) { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 60000); }
			stream.end(String(ticks));
		}, { highWaterMark: 3 });`})
	p.call(`{"pieces":["x",{"a":1},[2],3,true]}`).want(t, "response", `x{"a":1}[2]3true0`)
	p.call(`{"bytes":true,"later":true}`).want(t, "response", "ab0")
	p.call(`{}`).want(t, "response", "1")
	p.call(`{"forever":true}`).want(t, "response", "1")
	p.call(`{}`).want(t, "response", "1")
	t.Run("NotAsync", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = awslambda.streamifyResponse((e, stream) => {});`})
		for range 2 {
			p.call(`{}`).wantError(t, "error", "string", "Streaming does not support non-async handlers.")
		}
	})
	t.Run("NeverSettles", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = awslambda.streamifyResponse(async (e, stream) => {
			stream.write("half"); await new Promise(() => {}); });`})
		for range 2 {
			got := p.call(`{}`)
			got.want(t, "response", "half")
			if kind := got.trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "Runtime.NodeJsExit" {
				t.Errorf("trailers %v", got.trailer)
			}
		}
	})
	t.Run("TooLateForAType", func(t *testing.T) {
		t.Parallel()
		p := start(t, nodejs, "index.handler", map[string]string{"index.js": `exports.handler = awslambda.streamifyResponse(async (e, stream) => {
			stream.write("x"); stream.setContentType("text/plain"); });`})
		if kind := p.call(`{}`).trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "Runtime.InvalidStreamingOperation" {
			t.Errorf("error %q", kind)
		}
	})
}

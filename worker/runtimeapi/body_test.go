package runtimeapi_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// chunked is an answer in chunks of these texts, with trailers.
func chunked(trailers string, chunks ...string) string {
	s := "POST /2018-06-01/runtime/invocation/" + id + "/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" +
		"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
	for _, c := range chunks {
		s += hex(len(c)) + ";ext=1\r\n" + c + "\r\n"
	}
	return s + "0\r\n" + trailers + "\r\n"
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; n > 0; n >>= 4 {
		s = string(digits[n&15]) + s
	}
	return s
}

func TestChunked(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("y", 100_000)
	long := `{"errorType":"Deep","errorMessage":"` + strings.Repeat("s", 50_000) + `"}`
	for name, test := range map[string]struct{ send, payload, kind, body string }{
		"one chunk":      {chunked("", `{"a":1}`), `{"a":1}`, "", ""},
		"empty":          {chunked(""), ``, "", ""},
		"several":        {chunked("", `{"a"`, `:`, `1}`), `{"a":1}`, "", ""},
		"large":          {chunked("", big, "z", big, big), big + "z" + big + big, "", ""},
		"empty trailers": {chunked("Lambda-Runtime-Function-Error-Type: \r\nLambda-Runtime-Function-Error-Body: \r\n", `1`), `1`, "", ""},
		"failed half-way": {chunked("Lambda-Runtime-Function-Error-Type: Function.Reader\r\nlambda-runtime-function-error-body: "+
			base64.StdEncoding.EncodeToString([]byte(`{"errorType":"errorString","errorMessage":"half"}`))+"\r\n", `[1,2`), `[1,2`,
			"Function.Reader", `{"errorType":"errorString","errorMessage":"half"}`},
		"long trailer": {chunked("Lambda-Runtime-Function-Error-Body: "+base64.StdEncoding.EncodeToString([]byte(long))+"\r\n", `x`),
			`x`, "Deep", long},
		"trailer that is no base64": {chunked("Lambda-Runtime-Function-Error-Type: Runtime.Oops\r\nLambda-Runtime-Function-Error-Body: ?\r\n",
			`x`), `x`, "Runtime.Oops", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.running()
			r.send(test.send)
			a := e.answered()
			if string(a.Payload) != test.payload {
				t.Fatalf("payload of %d bytes, want %d", len(a.Payload), len(test.payload))
			}
			if (a.Error != nil) != (test.kind != "") {
				t.Fatalf("error %+v, want %q", a.Error, test.kind)
			}
			if a.Error != nil && (a.Error.Type != test.kind || string(a.Error.Body) != test.body) {
				t.Fatalf("error %s %s", a.Error.Type, a.Error.Body)
			}
			r.expect(accepted)
			r.send(next)
			e.event("parked")
		})
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.running()
	request := response(`{"a":1}`, "Expect: 100-Continue\r\n")
	headEnd := strings.Index(request, "\r\n\r\n") + 4
	r.send(request[:headEnd])
	r.expect("HTTP/1.1 100 Continue\r\n\r\n")
	r.send(request[headEnd:])
	e.answered()
	r.expect(accepted)
}

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runtimeAPI plays the server's half: it hands out the payloads one after the other and gives back what was answered.
func runtimeAPI(t *testing.T, conn net.Conn, payloads ...string) []string {
	t.Helper()
	in := bufio.NewReader(conn)
	var answers []string
	for i, payload := range payloads {
		ask, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		if ask.Method != http.MethodGet || ask.URL.Path != "/2018-06-01/runtime/invocation/next" {
			t.Fatalf("%s %s, want a request for the next call", ask.Method, ask.URL)
		}
		id := fmt.Sprintf("id-%d", i)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: %s\r\ncontent-length: %d\r\n\r\n%s", id, len(payload), payload)
		answer, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Method != http.MethodPost || answer.URL.Path != "/2018-06-01/runtime/invocation/"+id+"/response" {
			t.Fatalf("%s %s, want the answer of %s", answer.Method, answer.URL, id)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(body))
		io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n")
	}
	return answers
}

func TestServeAnswersEachCall(t *testing.T) {
	t.Parallel()
	ours, theirs := tcpPair(t)
	payloads := []string{`{"a":1}`, "", strings.Repeat("x", 1<<20), `"end"`}
	ended := make(chan error, 1)
	go func() { ended <- serve(ours, func(b []byte) []byte { return b }) }() // ends with the connection below
	answers := runtimeAPI(t, theirs, payloads...)
	theirs.Close()
	if err := <-ended; err == nil {
		t.Error("serve ended without saying why")
	}
	for i := range payloads {
		if answers[i] != payloads[i] {
			t.Errorf("call %d: %d bytes came back for %d", i, len(answers[i]), len(payloads[i]))
		}
	}
}

func TestServeRefusesWhatIsNoRuntimeAPI(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]string{
		"no HTTP":         "SSH-2.0-OpenSSH\r\n\r\n",
		"no status":       "HTTP/1.1 OK\r\n\r\n",
		"refused":         "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		"no id":           "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"no length":       "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\n\r\n",
		"huge":            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"negative":        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"cut off":         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
		"endless line":    "HTTP/1.1 200 " + strings.Repeat("x", 128<<10),
		"answer refused":  "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n",
		"answer withheld": "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 0\r\n\r\n",
	} {
		conn := struct {
			io.Reader
			io.Writer
		}{strings.NewReader(response), io.Discard}
		if err := serve(conn, bytes.Clone); err == nil {
			t.Errorf("%s: taken for a call", name)
		}
	}
}

// tcpPair is two ends of one connection.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

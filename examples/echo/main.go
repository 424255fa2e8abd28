// Command echo is the leanest function: it answers what it was sent. It shows a custom runtime without any library: one
// TCP connection to the Lambda Runtime API, with an answer and the request for the next call in one write. `hearth bench`
// measures with it, because a library such as aws-lambda-go costs more per call than the whole fabric.
//
//	CGO_ENABLED=0 go build -o bootstrap ./examples/echo
//	hearth deploy echo ./bootstrap --runtime provided
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
)

func main() {
	runtime.GOMAXPROCS(1) // one call at a time: a second processor would only be woken up to find nothing
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err == nil {
		err = serve(conn, func(payload []byte) []byte { return payload })
	}
	fmt.Fprintln(os.Stderr, "echo:", err)
	os.Exit(1)
}

// next asks for a call; it blocks at the server until there is one. Its last header says that the 202 for an answer may
// come with the next call: this loop does not wait for it, and is woken once instead of twice.
const next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\nHearth-Runtime-Answers: together\r\n\r\n"

// maxBody bounds what the server may announce: a payload is at most 6 MiB.
const maxBody = 8 << 20

// serve runs calls one after the other until the connection ends, which is how an environment ends.
func serve(conn io.ReadWriter, handle func([]byte) []byte) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	if _, err := io.WriteString(conn, next); err != nil {
		return fmt.Errorf("ask for the first call: %w", err)
	}
	var call response
	var out bytes.Buffer
	for {
		if err := call.read(in); err != nil {
			return fmt.Errorf("wait for a call: %w", err)
		}
		if call.status != 200 || call.requestID == "" {
			return fmt.Errorf("wait for a call: status %d, request id %q", call.status, call.requestID)
		}
		answer := handle(call.body)
		out.Reset()
		fmt.Fprintf(&out, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: runtime\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", call.requestID, len(answer))
		out.Write(answer)
		out.WriteString(next) // with the answer, in one write: one system call and one wake-up less
		if _, err := conn.Write(out.Bytes()); err != nil {
			return fmt.Errorf("answer %s: %w", call.requestID, err)
		}
		if err := call.read(in); err != nil {
			return fmt.Errorf("answer %s: %w", call.requestID, err)
		}
		if call.status != 202 {
			return fmt.Errorf("answer: status %d: %s", call.status, call.body)
		}
	}
}

// response is one HTTP response. Its buffers are used again for the next.
type response struct {
	status    int
	requestID string
	body      []byte
}

// read reads one response with a Content-Length; the Runtime API sends no other kind.
func (r *response) read(in *bufio.Reader) error {
	line, err := readLine(in)
	if err != nil {
		return err
	}
	word := bytes.Fields(line)
	if len(word) < 2 || !bytes.HasPrefix(word[0], []byte("HTTP/1.")) {
		return fmt.Errorf("no HTTP response: %q", line)
	}
	if r.status, err = strconv.Atoi(string(word[1])); err != nil {
		return fmt.Errorf("no HTTP status: %q", line)
	}
	r.requestID, r.body = "", r.body[:0]
	length := -1
	for {
		if line, err = readLine(in); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxBody {
				return fmt.Errorf("content length %q", value)
			}
		case bytes.EqualFold(name, []byte("Lambda-Runtime-Aws-Request-Id")):
			r.requestID = string(value)
		}
	}
	if length < 0 {
		return errors.New("a response without a content length")
	}
	if cap(r.body) < length {
		r.body = make([]byte, length)
	}
	r.body = r.body[:length]
	_, err = io.ReadFull(in, r.body)
	return err
}

// readLine is the next line of a head without its end; it is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

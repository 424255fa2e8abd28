// Command fn is the function that scenarios call: one static program on one raw connection that does what its payload
// says, so that hundreds of environments start in a second. A payload is a JSON string of words; anything else comes
// back as it is.
//
//	"record FILE TAG …" append TAG and the request id to FILE, a line a run, then do what the other words say
//	"hold ADDR"     connect to the gate at ADDR, say the request id, answer when the gate closes the connection
//	"nap N"         answer after N milliseconds
//	"needs FILE"    report a function error while FILE is not there
//	"once FILE"     report a function error and write to FILE, if it is empty
//	"tell ADDR WORD" write WORD as a line to ADDR, on a connection that stays, then answer
//	"exit N"        end the process with status N in the middle of the call
//	"signal"        end by SIGKILL of itself
//	"spin"          never answer, burning CPU
//	"hang"          never answer, idle
//	"error"         report a function error
//	"twice"         answer twice; the second status is the next call's answer to "last"
//	"other"         answer for another request id first; its status is the next call's answer to "last"
//	"big N"         answer N bytes
//	"last"          the last status remembered
//	"count"         how many calls this environment has had
//	"keep WORD"     keep WORD in memory, in files, in a thread with a port and a connection, and in a process that stays; the words that
//	                are there already are the answer, as a list
//	"env NAME"      the value of a variable
//	"trace"         the headers of this call's trace
//	"leave"         answer, then exit 0 before asking for the next call
//	"say WORDS"     write the words to standard output as one line, with an escape sequence before the last
//	"flood N"       write N lines of 1 KiB to standard output
//	"tenant"        the sub-tenant that the call is for
//	"fetch ADDR METHOD PATH"   what a service at ADDR says to it with the token that came with the call: status and body
//	"fetch-pulled ADDR METHOD PATH HEADER…"   the same with the token that the Runtime API gives, asked with further headers
//	"pull SECRET"   the status of a question for the token with this secret; "next": of a second question for a call
//	"leak"          write the token and the secret to both outputs and into a function error
//
// The variable FN_INIT makes the start itself fail: exit, hang, error; or wait until the file that FN_WAIT names is there.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == stays {
		stay(os.Args[2])
	}
	switch os.Getenv("FN_INIT") {
	case "exit":
		os.Exit(7)
	case "hang":
		hang()
	case "wait":
		for !exists(os.Getenv("FN_WAIT")) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "fn:", err)
		os.Exit(1)
	}
	rt := &runtime{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	if os.Getenv("FN_INIT") == "error" {
		rt.post("init/error", `{"errorType":"Fn.InitFailed","errorMessage":"as asked"}`, false)
		rt.status()
		os.Exit(1)
	}
	rt.write([]byte(next))
	for calls := 1; ; calls++ {
		id, payload := rt.invocation()
		rt.serve(id, payload, calls)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hang never returns. An empty select would: the Go runtime ends a program in which nothing can go on.
func hang() {
	for {
		time.Sleep(time.Hour)
	}
}

const (
	base = "/2018-06-01/runtime/"
	next = "GET " + base + "invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n"
)

// runtime speaks the Lambda Runtime API over one connection; an answer and the request for the next call go out in one
// write.
type runtime struct {
	conn net.Conn
	in   *bufio.Reader
	last string
	// trace is what the call came with: traceparent, tracestate, X-Ray's id.
	trace [3]string
	told  net.Conn // of "tell"
	kept  []string

	tenant, token string // of this call
}

func (r *runtime) serve(id string, payload []byte, calls int) {
	words := strings.Fields(strings.Trim(string(payload), `"`))
	if len(words) > 2 && words[0] == "record" {
		if err := record(words[1], words[2]+" "+id); err != nil {
			r.fail(id, "Fn.NoRecord", err)
			return
		}
		words = words[3:]
	}
	verb, arg := "", ""
	if len(words) > 0 {
		verb = words[0]
	}
	if len(words) > 1 {
		arg = words[1]
	}
	answer := string(payload)
	switch verb {
	case "hold":
		gate, err := net.Dial("tcp", arg)
		if err != nil {
			r.fail(id, "Fn.NoGate", err)
			return
		}
		fmt.Fprintln(gate, id)
		_, _ = io.Copy(io.Discard, gate)
		answer = `"held"`
	case "nap":
		n, _ := strconv.Atoi(arg)
		time.Sleep(time.Duration(n) * time.Millisecond)
	case "tell":
		if err := r.tell(arg, strings.Join(words[min(2, len(words)):min(3, len(words))], "")); err != nil {
			r.fail(id, "Fn.NobodyHears", err)
			return
		}
	case "needs":
		if !exists(arg) {
			r.fail(id, "Fn.Needs", fmt.Errorf("no file %s", arg))
			return
		}
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "once":
		if info, err := os.Stat(arg); err != nil || info.Size() == 0 {
			r.fail(id, "Fn.Once", record(arg, id))
			return
		}
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "spin":
		//lint:ignore SA5002 it is asked to
		for {
		}
	case "hang":
		hang()
	case "error":
		r.post("invocation/"+id+"/error", `{"errorType":"Fn.Asked","errorMessage":"as asked"}`, true)
		r.status()
		return
	case "twice":
		r.post("invocation/"+id+"/response", answer, false)
		r.status()
		r.post("invocation/"+id+"/response", answer, true)
		r.last = r.status()
		return
	case "other":
		r.post("invocation/00000000-0000-4000-8000-000000000000/response", `"stolen"`, false)
		r.last = r.status()
	case "big":
		n, _ := strconv.Atoi(arg)
		answer = `"` + strings.Repeat("x", max(0, n-2)) + `"`
	case "last":
		answer = strconv.Quote(r.last)
	case "count":
		answer = strconv.Itoa(calls)
	case "keep":
		answer = strconv.Quote(fmt.Sprint(r.keep(arg)))
	case "env":
		answer = strconv.Quote(os.Getenv(arg))
	case "trace":
		answer = fmt.Sprintf(`{"traceparent":%q,"tracestate":%q,"xray":%q}`, r.trace[0], r.trace[1], r.trace[2])
	case "say":
		last := len(words) - 1
		fmt.Println(strings.Join(words[1:last], " ") + " \x1b[31m" + words[last])
	case "flood":
		n, _ := strconv.Atoi(arg)
		line := strings.Repeat("f", 1023) + "\n"
		for range n {
			fmt.Print(line)
		}
	case "tenant":
		answer = strconv.Quote(r.tenant)
	case "fetch", "fetch-pulled", "pull", "next", "leak":
		var err error
		if answer, err = r.tokenVerb(verb, arg, words); err != nil {
			r.fail(id, "Fn.Token", err)
			return
		}
	case "leave":
		r.post("invocation/"+id+"/response", answer, false)
		r.status()
		os.Exit(0)
	}
	r.post("invocation/"+id+"/response", answer, true)
	r.status()
}

// record notes a run where its test reads it: one write to the end of a file, so that no two runs mix, and what a killed
// process had written stays.
func record(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line + "\n")
	return err
}

// tell says a word to who listens for runs. One connection is enough: there is one listener in the life of a process.
func (r *runtime) tell(address, word string) (err error) {
	if r.told == nil {
		if r.told, err = net.Dial("tcp", address); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(r.told, word)
	return err
}

// fail reports what kept the function from doing as it was told.
func (r *runtime) fail(id, kind string, err error) {
	r.post("invocation/"+id+"/error", `{"errorType":"`+kind+`","errorMessage":`+strconv.Quote(fmt.Sprint(err))+`}`, true)
	r.status()
}

// post sends an answer; with more set, the request for the next call goes with it.
func (r *runtime) post(path, body string, more bool) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s%s HTTP/1.1\r\nHost: runtime\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		base, path, len(body), body)
	if more {
		b.WriteString(next)
	}
	r.write(b.Bytes())
}

func (r *runtime) write(b []byte) {
	if _, err := r.conn.Write(b); err != nil {
		os.Exit(1)
	}
}

// status reads the answer to a post and gives its status.
func (r *runtime) status() string {
	status, _, _ := r.read()
	return status
}

// invocation reads the answer to next.
func (r *runtime) invocation() (id string, payload []byte) {
	r.trace = [3]string{}
	_, id, payload = r.read()
	return id, payload
}

func (r *runtime) read() (status, id string, body []byte) {
	length := 0
	for first := true; ; first = false {
		line, err := r.in.ReadString('\n')
		if err != nil {
			os.Exit(1)
		}
		line = strings.TrimRight(line, "\r\n")
		if first {
			if f := strings.Fields(line); len(f) > 1 {
				status = f[1]
			}
			continue
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			length, _ = strconv.Atoi(value)
		case "lambda-runtime-aws-request-id":
			id = value
		case "lambda-runtime-aws-tenant-id":
			r.tenant = value
		case "hearth-tenant-token":
			r.token = value
		case "traceparent":
			r.trace[0] = value
		case "tracestate":
			r.trace[1] = value
		case "lambda-runtime-trace-id":
			r.trace[2] = value
		}
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(r.in, body); err != nil {
		os.Exit(1)
	}
	return status, id, body
}

package worker_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// functionArgument makes the test binary a function: a lean loop over one connection that does what its payload says, a
// JSON string of words. Anything else comes back as it is. The variable FN_INIT makes the start fail.
const functionArgument = "worker-test-function"

const runtimePath = "/2018-06-01/runtime/"

type functionLoop struct {
	conn net.Conn
	in   *bufio.Reader
}

func function() {
	switch how, arg, _ := strings.Cut(os.Getenv("FN_INIT"), " "); how {
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "hang":
		select {}
	case "ask": // for a token, before anybody is bound
		req, _ := http.NewRequest("POST", os.Getenv("HEARTH_TOKEN_URL"), nil)
		req.Header.Set("Hearth-Token-Request", "true")
		req.Header.Set("Hearth-Token-Auth", os.Getenv("HEARTH_TOKEN_AUTH"))
		if res, err := http.DefaultClient.Do(req); err == nil {
			b, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			fmt.Printf("in init: %d %s\n", res.StatusCode, b)
		}
	}
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(90)
	}
	f := &functionLoop{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	if how := os.Getenv("FN_INIT"); how == "error" || how == "leak" {
		text := "as asked"
		if how == "leak" {
			text = os.Getenv("HEARTH_TOKEN_AUTH")
		}
		f.write(f.post("init/error", fmt.Sprintf(`{"errorType":"Fn.Init", "errorMessage":%q}`, text)))
		f.read()
		os.Exit(1)
	}
	if how, code, _ := strings.Cut(os.Getenv("FN_INIT"), " "); how == "forge" {
		f.write(with("Lambda-Runtime-Function-Error-Type: "+code, f.post("init/error", "")))
		f.read()
		os.Exit(1)
	} else if how == "forge-object" {
		f.write(f.post("init/error", `{"errorType":"`+code+`","errorMessage":"forged"}`))
		f.read()
		os.Exit(1)
	}
	fmt.Println("init done")
	f.write(f.next())
	for {
		header, body := f.read()
		f.serve(header, body)
	}
}

func (f *functionLoop) serve(header http.Header, body []byte) {
	id := header.Get("Lambda-Runtime-Aws-Request-Id")
	response, failure := "invocation/"+id+"/response", "invocation/"+id+"/error"
	var text string
	_ = json.Unmarshal(body, &text)
	verb, arg, _ := strings.Cut(text, " ")
	n, _ := strconv.Atoi(arg)
	answer := string(body)
	switch verb {
	case "exit":
		os.Exit(n)
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hang":
		select {}
	case "stay": // answer, and never ask for the next call
		f.write(f.post(response, `"stayed"`))
		select {}
	case "leave":
		f.write(f.post(response, `"left"`))
		os.Exit(0)
	case "fail":
		f.write(f.post(failure, `{"errorType":"Fn.Asked", "errorMessage":"as asked"}`) + f.next())
		f.read()
		return
	case "forge":
		f.write(f.post(failure, `{"errorType":"Sandbox.Timedout", "errorMessage":"forged"}`) + f.next())
		f.read()
		return
	case "forge-code": // a code of the platform's, and no body
		f.write(with("Lambda-Runtime-Function-Error-Type: Runtime.OutOfMemory", f.post(failure, "")) + f.next())
		f.read()
		return
	case "forge-half": // an object with a type that does not decode whole, and would go to the caller without its cause
		f.write(strings.Replace(f.post(failure, `{"errorType":"Sandbox.Timedout","errorMessage":7}`), "application/json",
			"application/vnd.aws.lambda.error.cause+json", 1) + f.next())
		f.read()
		return
	case "big":
		answer = strings.Repeat("x", n)
	case "cut":
		f.write(strings.Replace(f.post(response, `"half`), "Content-Length: 5", "Content-Length: 50", 1))
		_ = f.conn.Close()
		select {}
	case "twice":
		f.write(f.post(response, `"first"`) + f.post(response, `"second"`) + f.next())
		f.read()
		f.read()
		return
	case "say":
		fmt.Println(arg)
		fmt.Fprint(os.Stderr, "and without an end")
	case "flood":
		for range n {
			fmt.Println(strings.Repeat("f", 1023))
		}
	case "open": // a line that does not end
		fmt.Print(strings.Repeat("o", n))
		select {}
	case "line":
		fmt.Println(strings.Repeat("l", n))
	case "register": // as an extension, which wants SIGTERM
		f.write("POST /2020-01-01/extension/register HTTP/1.1\r\nLambda-Extension-Name: own\r\nContent-Length: 15\r\n\r\n" +
			`{"events":null}`)
		f.read()
	case "polite": // says so when it gets SIGTERM
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		go func() {
			<-asked
			fmt.Println("asked to end")
			os.Exit(0)
		}()
	case "daemon": // something of its own goes on between calls, and hides
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done", arg)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			answer = strconv.Quote(err.Error())
		}
	case "take": // MB of memory, for a moment
		b := make([]byte, n<<20)
		for i := range b {
			b[i] = 1
		}
	case "headers":
		b, _ := json.Marshal(header)
		answer = string(b)
	case "token": // asks for it as a function does, and says what came in which form
		req, _ := http.NewRequest("POST", os.Getenv("HEARTH_TOKEN_URL"), nil)
		req.Header.Set("Hearth-Token-Request", "true")
		req.Header.Set("Hearth-Token-Auth", os.Getenv("HEARTH_TOKEN_AUTH"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			answer = strconv.Quote(err.Error())
			break
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		answer = fmt.Sprintf(`{"status":%d,"pulled":%s,"pushed":%q}`, res.StatusCode, b, header.Get("Hearth-Tenant-Token"))
	case "leak": // writes what it was told where others read it
		all := header.Get("Hearth-Tenant-Token") + " " + os.Getenv("HEARTH_TOKEN_AUTH")
		fmt.Println("leak: " + all)
		fmt.Fprintf(os.Stderr, "%s%s\n", strings.Repeat("x", n), all)
		f.write(f.post(failure, fmt.Sprintf(`{"errorType":"Fn.Leak", "errorMessage":%q}`, all)) + f.next())
		f.read()
		return
	case "variable":
		answer = strconv.Quote(os.Getenv(arg))
	}
	f.write(f.post(response, answer) + f.next())
	f.read()
}

func (f *functionLoop) next() string {
	return "GET " + runtimePath + "invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n"
}

func (f *functionLoop) post(path, body string) string {
	return "POST " + runtimePath + path + " HTTP/1.1\r\nHost: runtime\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// with puts one more header into a request.
func with(header, request string) string {
	return strings.Replace(request, "\r\n", "\r\n"+header+"\r\n", 1)
}

func (f *functionLoop) write(s string) {
	if _, err := io.WriteString(f.conn, s); err != nil {
		os.Exit(91)
	}
}

func (f *functionLoop) read() (http.Header, []byte) {
	answer, err := http.ReadResponse(f.in, nil)
	if err != nil {
		os.Exit(92)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		os.Exit(93)
	}
	return answer.Header, body
}

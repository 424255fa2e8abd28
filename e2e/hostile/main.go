//go:build linux && (amd64 || arm64)

// Command hostile is the function of S51, S70 and S71: package hostile behind the Runtime API. A payload is a request as JSON;
// the answer is a JSON object of outcomes by name.
//
//	{"probe":{…facts…}}   every probe, with these facts of the world outside
//	{"api":true}          requests that a runtime must not make, during the call
//	{"take":"tmp","amount":70}  takes so much of something
//	{"flood":N}           N lines of 1 KiB to standard output
//	{"end":"exit"}        ends: exit, signal, hang, spin
//	{"dial":["host:80"]}  connects to each
//	{}                    how many calls this environment has had
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/native/hostile"
)

type request struct {
	Probe  *hostile.Facts `json:"probe"`
	API    bool           `json:"api"`
	Take   string         `json:"take"`
	Amount int            `json:"amount"`
	Flood  int            `json:"flood"`
	End    string         `json:"end"`
	Dial   []string       `json:"dial"`
}

const base = "/2018-06-01/runtime/"

func main() {
	hostile.Main()
	if reason := hostile.Refuses(); reason != "" {
		fmt.Fprintln(os.Stderr, "hostile:", reason)
		os.Exit(3)
	}
	address := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	for calls := 1; ; calls++ {
		if err := serve(address, calls); err != nil {
			fmt.Fprintln(os.Stderr, "hostile:", err)
			os.Exit(1)
		}
	}
}

// serve asks for one call and answers it.
func serve(address string, calls int) error {
	next, err := http.Get("http://" + address + base + "invocation/next")
	if err != nil {
		return err
	}
	payload, err := io.ReadAll(next.Body)
	_ = next.Body.Close()
	if err != nil {
		return err
	}
	var r request
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	outcomes := do(address, r)
	outcomes["calls"] = strconv.Itoa(calls)
	b, err := json.Marshal(outcomes)
	if err != nil {
		return err
	}
	answer, err := http.Post("http://"+address+base+"invocation/"+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response",
		"application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	// Read whole, its connection is used again: a new one may find none free yet after the crowd of [crowd].
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

func do(address string, r request) map[string]string {
	outcomes := map[string]string{}
	switch {
	case r.Probe != nil:
		var names []string
		for _, p := range hostile.Probes() {
			names = append(names, p.Name)
		}
		hostile.Try(r.Probe, names, func(r hostile.Result) { outcomes[r.Name] = r.Outcome })
	case r.API:
		abuse(address, outcomes)
	case r.Take != "":
		outcomes[r.Take] = hostile.Take(r.Take, r.Amount)
	case r.Flood > 0:
		line := strings.Repeat("x", 1023) + "\n"
		for range r.Flood {
			_, _ = os.Stdout.WriteString(line)
		}
	case r.End != "":
		end(r.End)
	}
	for _, to := range r.Dial {
		outcomes[to] = dial(to)
	}
	return outcomes
}

// dial connects to a host and port: "done", what there was instead, or "no name".
func dial(to string) string {
	c, err := net.DialTimeout("tcp", to, 20*time.Second)
	var errno syscall.Errno
	switch {
	case err == nil:
		_ = c.Close()
		return hostile.Done
	case errors.As(err, new(*net.DNSError)):
		return "no name"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// end does not return.
func end(how string) {
	switch how {
	case "exit":
		os.Exit(9)
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "spin":
		//lint:ignore SA5002 it is asked to
		for {
		}
	}
	for {
		time.Sleep(time.Hour)
	}
}

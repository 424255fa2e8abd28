//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience bounds one read of an answer.
const patience = 20 * time.Second

// abuse makes requests that no runtime should, and notes their statuses.
func abuse(address string, outcomes map[string]string) {
	const other = base + "invocation/00000000-0000-4000-8000-000000000000/"
	post := func(path, headers, body string) string {
		return "POST " + path + " HTTP/1.1\r\n" + headers + "\r\n" + body
	}
	// Half a head, a head without an end and an answer that never comes whole stay open meanwhile.
	for _, text := range []string{"GET " + base, "GET / HTTP/1.1\r\nA: b\r\n", post(other+"response", "Content-Length: 1000\r\n", "slow")} {
		if conn, err := net.Dial("tcp", address); err == nil {
			defer conn.Close()
			_, _ = io.WriteString(conn, text)
		}
	}
	for name, text := range map[string]string{
		"next during a call":      "GET " + base + "invocation/next HTTP/1.1\r\n\r\n",
		"answer another call":     post(other+"response", "Content-Length: 1\r\n", "1"),
		"fail another call":       post(other+"error", "Content-Length: 2\r\n", "{}"),
		"announce a gigabyte":     post(other+"response", "Content-Length: 1073741824\r\n", ""),
		"fail the init again":     post(base+"init/error", "Content-Length: 2\r\n", "{}"),
		"climb":                   "GET " + base + "../../etc/passwd HTTP/1.1\r\n\r\n",
		"another method":          "DELETE " + base + "invocation/next HTTP/1.1\r\n\r\n",
		"no HTTP":                 "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
		"two lengths":             post(other+"response", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "1"),
		"a header without end":    "GET " + base + "invocation/next HTTP/1.1\r\nContent-Type: " + strings.Repeat("x", 2<<20),
		"another transfer coding": post(other+"response", "Transfer-Encoding: gzip\r\n", "1"),
	} {
		outcomes[name] = status(address, text)
	}
	outcomes["connections"] = crowd(address)
}

// status is what a request of bytes is answered.
func status(address, text string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// A server that has answered need not read on.
	_, _ = io.WriteString(conn, text)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "closed"
	}
	if fields := strings.Fields(line); len(fields) > 1 {
		return fields[1]
	}
	return line
}

// crowd opens many connections at once and counts those that are served.
func crowd(address string) string {
	served := 0
	for range 100 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprint(conn, "GET /2018-06-01/ping HTTP/1.1\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && strings.Contains(line, " 200 ") {
			served++
		}
	}
	return strconv.Itoa(served)
}

package inprocess

import (
	"errors"
	"net"
	_ "unsafe" // for go:linkname

	"github.com/nats-io/nats-server/v2/server"
)

// Connect makes a connection to a server of this process, as its InProcessConn does; it is the client's end. writes, if it is not
// nil, is told of what is written to it. An error says that the server does not run.
func Connect(s *server.Server, writes *Writes) (net.Conn, error) {
	if !s.Running() {
		return nil, errors.New("the NATS server of this process does not run")
	}
	var wrote func()
	if writes != nil {
		wrote = writes.wrote
	}
	ours, its := Pair(wrote)
	createClientInProcess(s, its) // does not wait: its first words fit into the buffer
	return ours, nil
}

// createClientInProcess is what InProcessConn does with its end of a pipe. The server has no exported way to be given a connection
// (2.15.2); a test holds its declaration against this one, for the linker compares names alone. What it returns is the server's.
//
//go:linkname createClientInProcess github.com/nats-io/nats-server/v2/server.(*Server).createClientInProcess
func createClientInProcess(s *server.Server, conn net.Conn) uintptr

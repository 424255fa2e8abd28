// Package runtimeapi is the server side of the Lambda Runtime API, above every driver: one [Server] an environment, a
// small HTTP/1.1 parser of its own (net/http costs 60 to 90 us a call more), no knowledge of NATS,
// managers or processes.
//
// # A call
//
// A runtime asks for a call (GET next) and is parked: its connection is remembered and its goroutine waits in a read. The
// worker's [Server.Start] writes head and payload of the call to that connection from the goroutine that it is called
// on, without waiting for anybody; the runtime's answer (POST response or error) wakes the connection's goroutine, which
// calls [Events].Answered and writes the 202 after it. So a warm call costs the worker one wake-up, and the answer is
// on its way to the caller before the runtime hears that it was taken.
//
// A lean runtime writes its answer and the next GET in one write. Then the environment is parked again before Answered
// is called (Answer.Parked), the manager that offers it there finds it ready, and a call that already waits is written
// together with the 202.
//
// With `Hearth-Runtime-Answers: together` in that GET a runtime says that it does not wait for the 202: it is kept until
// there is a call to write it with, which saves a write and the runtime a wake-up. Measured with `hearth bench` at 8 in
// flight: the fabric's CPU for a call 0.87 times, the function's 0.68 times, the rate 1.15 times what they were. Our own
// loops may say so; anybody else's is answered at once.
//
// # States
//
//	          next               Start                    response, error
//	starting ------> idle <-----------------> running ------------------> answering -- body read --> answered
//	    |             ^        (no connection:   ^                                                       |
//	    | init/error  |         pending, and     | next                                                  | next
//	    v             |         next delivers)   |                                                       |
//	  failed          +-------------------------pending <----------------------- Start ------------------+--> idle
//
// The server alone moves them, under its mutex; no callback and no system call happens under it. A call is tied to no
// connection: Lambda's Node client polls and posts on different ones, several may be parked at once, and one that drops
// while parked is forgotten.
//
// # What it trusts
//
// Nothing that comes from the environment. Heads, bodies, trailers, connections and pipelined requests are bounded;
// bodies beyond a connection's buffer are charged to the worker's [Budget]; a runtime that does not read its answers
// blocks its own connection and nobody else. Statuses, headers and error texts are those of the Lambda Runtime API,
// recorded from AWS's emulator and clients.
//
// It never ends an environment, never measures time (the worker holds the time-outs) and never retries a call. DESIGN 3,
// 8; SECURITY 3.
package runtimeapi

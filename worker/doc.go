// Package worker runs calls: it makes environments with a driver, speaks the Runtime API to them, holds their time-outs,
// and answers the callers. It knows environments; of arcs, ranks and reservations it knows the words that it is told.
//
// # A life
//
//	Make -> code fetched, unpacked; driver; command started -> first next ------> parked <---------+
//	          |                                                   |                  | Start        | next
//	          | fails, exits, over time, posts init/error         |                  v              |
//	          v                                                   |               running ----> answered
//	        Failed (last)                                         |                  |              |
//	                                                  End, or the process ends, or a time-out: killed
//	                                                              v                  v              v
//	                                                             Gone (last) <-------+--------------+
//
// Each environment has one goroutine that makes it, waits for its end and tells its last event; everything else happens
// on goroutines that are there anyway: Start writes the call on its caller's, the answer is handled on the one that reads
// the runtime's connection, a time-out on the timer's.
//
// A parked one that nobody uses for 10 s is frozen, where the driver can, and thawed by the next call or its end (freeze.go). One
// goroutine of the worker sees to that.
//
// # A call
//
// [Worker.Start] compares subject, envelope and binding, starts the clock and hands the call to the Runtime API. Then the
// answer, the time-out, the end of the process and the loss of the environment compete; whoever takes the call from the
// environment under its mutex is the only one that ends it, and does, in this order (DESIGN 2):
//
//	run.Ended (the manager offers the environment and tells its status)
//	Parked, if the runtime has asked for its next call together with the answer
//	the answer, to the caller's own inbox
//
// A call that was started is always answered, once: where nothing else can be said, by a function error.
//
// # Lines
//
//	stdout, stderr -> pipe -> logs: cut into lines, bounded in length and rate -> Sink -> Shipper -> stream LOGS
//	                            \-> the last 4 KB, for a call that asked for them
//
// A line has the request id of the call in which it was written, none in the init and between calls. It is exact where the
// driver can drain the pipe ([driver.Drainer]): that happens when a call begins and when it ends. What the platform says
// (START, END, REPORT, INIT_REPORT, what was dropped) is marked as its own, and nothing that a function posts or prints
// comes under that mark. START and REPORT are of every call: they travel as numbers, and readers make their text.
//
// # Network
//
// What a function may reach goes to the driver with its command ([driver.Network]), and what comes back is counted by account,
// function and sub-tenant ([Worker.Egress]). Refusals are lines of the platform's, a few of many: so whoever wrote a function
// that calls a database sees why it fails.
//
// # What it trusts
//
// The manager chose the environment, and the worker compares all the same: a call for another function, version,
// configuration, account or sub-tenant kills the environment and raises [Counters.BindingMismatches], which must be 0. To which
// sub-tenant an environment belongs is decided here alone, once, by its first call (bind.go, DESIGN 7).
// Nothing that comes from a function is trusted (package runtimeapi), its output is bounded in length and rate, and what a
// caller chose reaches a header only where it cannot break it. Clocks: time-outs are monotonic; the wall clock is only
// told to runtimes that want a deadline.
//
// It never claims, acknowledges or gives back a call, and never starts one twice. DESIGN 3, 8; SECURITY 2, 3.
package worker

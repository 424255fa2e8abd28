// Package remote is the half of a worker that is a process of its own: it takes a manager's orders over core NATS, has package
// worker carry them out, and reports what became of them. schema/remote.go draws who says what.
//
//	Start ─► lease taken ─► hello … hello ─► open ─► session: orders and reports ─► silent for 10 s, Bye, another session: ended
//	                           ▲                                                        │ every environment of it is killed
//	                           └────────────────────────────────────────────────────────┘
//	Stop ─► Drain ─► no environment left, or ctx ends ─► Bye ─► the rest is killed and answered, the lease given up
//
// # The end of a call
//
// Package worker ends a call by run.Ended and answers the caller after it. Here that reports the facts, never what was
// answered, and waits for Done: the manager has written offer and status then, so the caller's next call does not overtake
// them (DESIGN 2). It waits 250 ms at most, and not at all once the session has ended: the caller gets the answer in any case.
//
// # What it trusts
//
// Orders come on subjects that managers alone may publish to, under a session that only its manager and this process know.
// The manager chose; package worker compares each call with its environment's binding all the same. One whose session ended
// runs nothing: its manager has given everything of it up, and answered for it, or does so when it is back.
//
// The lease keeps two processes from one id. A worker has no right to anything of JetStream (SECURITY 6): its manager puts the lease
// for it, stores its log lines and has packages sent to it ([Streams]).
package remote

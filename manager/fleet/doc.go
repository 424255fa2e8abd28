// Package fleet is a manager's half of workers that are processes of their own: to its manager it is one Worker, which runs
// environments on whichever of them has most places free, or in this process, if there is a worker in it.
//
//	hello ─► the lease is read, its incarnation compared ─► session, not up ─ first frame ─► up ─┬─ Drain ─► draining
//	                                                              │ 3 s                          │              │
//	                                                              ▼                              ▼              ▼
//	                                                            gone ◄── Bye, silent for 2 s, nobody listens, another incarnation
//
// The manager's capacity is that of the workers that are up; of one that drains what is still used there. When a session ends,
// in this order: the capacity is told without it, its runs end (the manager offers and tells its status), its environments are
// gone, so that claims which waited for them are served elsewhere, and the callers of its runs hear Hearth.ExecutionLost; those too
// whose run had ended while the worker was not known to have answered: it may have died between the two.
//
// # What it trusts
//
// Only managers speak to a worker's subjects, so that a session's name, drawn here and told there, is known to that worker
// alone: what comes under it is that worker's word. A worker may have been taken over (SECURITY 1, K). Its word counts for its
// own environments and runs and nothing else: an environment that it does not hold, a run that it was not given, an event out
// of its order, numbers beyond their bounds are refused and counted ([Counters.Refused]). What it says of its capacity draws
// environments to it, no more than 65,536 places of them.
//
// The subject of what a worker says names it, and the NATS server lets it use no other's. It has no right to JetStream: its lease,
// its log lines and its packages pass by here (relay.go), and the server answers into its own inboxes and nowhere else.
//
// A pool counts places over all workers. So an environment of several places may find that many free, and on no worker in one
// piece: then it goes where most are free, which is more than that worker's places by less than one environment. No worker gets
// one that is larger than all its places.
//
// Silence counts only while this manager is connected itself and runs: a manager that stood still, or whose server was restarted,
// gives its workers time to be heard again. Nothing waits without a bound. DESIGN 3, 12.
package fleet

// Package sim runs calls over simulated managers, in virtual time. What decides about a call is the product's own code:
//
//	frontend.Route      the arc of a call, from L, S, B, C and theta
//	subjects            ring, arcs, their lengths, classes of pulls, places of members
//	manager/pool        the warm pool of each manager: claims, members, evictions, promises, reclaim, keep-alive
//	manager/pace        credit of room pulls, catchers' judgement, what a status tells of busy members
//
// Simulated is what is no decision: the NATS server (an arc hands a message to the open pull of the best class, the one that came
// first within a class), the way of every message (one [Config.Hop] to the server and one from it), inits and runs. So it has all that
// follows from being apart: views of frontends that are behind, pulls that are open for what is not idle any more, catchers that are
// patient for 2 ms, arcs that grow a round of statuses late.
//
//	Source ──► window (65,536 calls, put in order) ──┬──► frontends ──► arcs ──► managers ──► Report
//	                                                └──► all-knowing scheduler ──► Report.Knowing
//
// Everything happens in one goroutine, by a queue of events in the order of their times and, within a time, of their making. It reads
// no clock and draws no number but those of a [Workload], from its seed: the same calls and the same [Config] give the same [Report].
// Memory is bounded by the window, the functions (at most [MaxFunctions]) and what is in flight, whatever the length of a trace.
//
// What it leaves out: nothing fails, no manager joins or leaves, functions are never changed, payloads have no size, and a permit to make
// an environment costs no time. All calls come from outside: who was refused does not come again.
package sim

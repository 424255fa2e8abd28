// Package topology is the one definition of the streams, consumers, buckets and stores of a fabric: as values, and as
// [Ensure], which makes them. Managers run it at their start and again on every reconnect, because a restart of the NATS
// server takes everything that lived in its memory; tests run it too, so that they meet the same fabric. DESIGN 9.
//
// # What Ensure does
//
// Everything is a stream or a consumer to the server, buckets and the object store too, and is made the same way:
//
//	create -> made                                          done
//	       -> exists with exactly this configuration        done (the server compares)
//	       -> exists, other configuration -> read it -> differs in what a fabric rests on   error naming each difference
//	                                                 -> lacks an ability, or a bound is too low  raised
//	                                                 -> differs in something else           left as it is
//
// Several managers run it at once, and those of a newer version beside older ones. So that they never fight, a change is
// only ever made in one direction (an ability is turned on, a limit of consumers is raised), and what an operator or another
// version may have set otherwise, such as bytes and ages, is not compared at all. The first sequence of a CALLS stream is
// drawn anew by each that would create it and never compared: it only has to lie above all those given out before
// (DESIGN 9). Whatever fails because a server is starting or a stream went away meanwhile is tried again until the context
// ends.
//
// It never deletes and never recreates: what stands there wrongly may hold somebody's calls.
package topology

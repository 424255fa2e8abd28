// Package schema holds what crosses a wire or lies in a store: the call and its answer, the records of the KV buckets,
// the statuses that nodes broadcast, the headers, and the one table of errors.
//
// Everything is plain data: no connection, no goroutine, no clock. Envelopes are msgpack; every decode is preceded by
// a flat scan ([Scan]) that refuses what could end the process. Records say which version they were written in;
// a node reads its own version and the one before, and writes the lowest that any live node reads. DESIGN 3, 9;
// SECURITY 2.
package schema

// Package schema holds what crosses a wire or lies in a store: the call and its answer, the records of the KV buckets,
// the statuses that nodes broadcast, the headers, and the one table of errors.
//
// Everything is plain data: no connection, no goroutine, no clock. The envelope of a call is a msgpack array written and
// read by hand ([EncodeCall], [DecodeCall]), because every call pays for it; records and statuses are msgpack maps by
// their members' names ([Marshal], [Unmarshal]). Every decode goes through one flat walk ([Scan]) that refuses what could
// end the process or swell in memory. Records say which version they were written in; a node reads its own version and
// the one before ([CheckVersion]), and writes the lowest that any live node reads ([WriteVersion]).
//
// Requests of the control operations are JSON in Lambda's shapes, read strictly ([DecodeInput]) and checked field by field
// (the Validate functions): every bad field is named with what is allowed, never with a secret value. A refusal is an
// [Error] with a [Code]; NATS headers ([ErrorHeaders]), HTTP bodies ([APIErrorOf]) and exit codes are read off one table.
// DESIGN 3, 9; SECURITY 2.
package schema

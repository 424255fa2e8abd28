// Package watch keeps the values of a KV bucket in memory, decoded, for readers on the path of a call.
//
// A [Cache] lists what matches its filter, then follows. Reading is one atomic load and one map look-up: no lock, no
// allocation, never a request. What it shows is the past, by a watch's delay; whoever must not act on the past reads the
// bucket itself.
//
//	New --Start--> listing --listed--> following --reconnected, watch lost--> listing --> ...
//	                 |                                                          the old values go on being read
//	                 failed: tried again, until Start's context ends; later until Stop
//
// A watch is not trusted across a reconnect. A restarted server has lost the consumer behind it, which the client notices
// only after two missed heartbeats of 5 s; and a key that expired or was purged meanwhile, or a bucket restored from a
// backup, leaves nothing to replay. So after every reconnect the bucket is listed again and compared: what is no longer
// there is told as deleted, what is unchanged is not told at all.
//
// A value that cannot be decoded is logged and counted, and the last good one stays: one bad record must not take a
// function, or the ring, away from everybody. DESIGN 3, 9, STYLE 1.
package watch

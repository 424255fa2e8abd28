// Package subjects holds what every node must compute alike: the consistent hash ring, arcs and ranks, priority
// classes, and the one spelling of every subject, stream, bucket and durable of the fabric.
//
// It is pure: no I/O, no clock, no package state; the same arguments give the same result on every node (S02). Names
// that people choose become one NATS token through [Escape]; subjects that come back from outside are parsed strictly
// by the Parse functions, which never accept a wildcard.
//
// A call of a group (account, function, and sub-tenant where the function is per tenant) is hashed to one of the
// unreserved arcs ([UnreservedArc]); an arc is an ordered list of managers met clockwise from its own hash
// ([Ring.Arc]); a manager's place in it is its rank, and the rank decides the priority class of its pulls
// ([IdleClass], [RoomClass], [ReservedClass], [SurplusClass]). DESIGN 2, 5, 9; SECURITY 2.
package subjects

// Package link makes core NATS good enough for two nodes that must not lose count of one another: what one says reaches the
// other once and in its order, or the link breaks and both know that.
//
// Every frame has a number. The receiver takes the next one alone; one that it had is dropped, and where one is missing it asks
// for everything after the last good one (go-back-N: on one connection nothing overtakes, so that is rare, after a reconnect or
// a slow consumer's loss). Beats, which the owner has sent regularly, tell the last number and acknowledge:
//
//	sender   ── 1, 2, 3 ──►             kept until they are acknowledged, within bounds
//	receiver    1, (2 is lost), 3: dropped
//	         ◄── ack 1, again ──
//	sender   ── 2, 3 ──────►
//
// A [Link] is the state of one side without goroutine and without connection: the owner publishes what it is given to send,
// hands it what it hears, and has it beat. It decides nothing about when a peer is gone: [Link.Heard] and [Link.Stuck] tell.
// DESIGN 3, manager and worker apart.
package link

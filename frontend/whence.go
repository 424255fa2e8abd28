package frontend

import "github.com/hearth-run/hearth/subjects"

// lookWhence warns, once, where a client's credential is in the fabric's own NATS account. The server sends the PubAck of an
// event to whatever subject its publisher names as reply, with its own rights: such a client could write where it has none.
// Callers in another account come with replies `_R_.…` of the server's making, and so do all clients of an embedded server; an
// inbox `_HC.…` has only a client that shares the account. SECURITY 2.
func (f *Frontend) lookWhence(reply string) {
	if !subjects.OfClient(reply) || f.sharing.Load() || !f.sharing.CompareAndSwap(false, true) {
		return
	}
	f.log.Warn("a client's credential is in the NATS account of the fabric itself, where it can have the server write the PubAck of an "+
		"event to any subject; enter clients in an account of their own, which imports what they may publish to "+
		"(`hearth credential client NAME --print` says what)", "reply", short(reply))
}

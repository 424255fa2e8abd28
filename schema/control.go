package schema

// ControlOp is what a manager is asked on `hearth.m.<manager>.ctl`.
type ControlOp string

// The orders. Each is answered at once with a [DrainOutput]; ask for the state until it says what was wanted.
const (
	ControlState   ControlOp = "state"   // change nothing
	ControlDrain   ControlOp = "drain"   // leave the ring in order and stay
	ControlUndrain ControlOp = "undrain" // come back onto it

	// ControlLevel changes from which level on it logs, and is answered with a [NodeLevel].
	ControlLevel ControlOp = "log-level"
)

// KeyAsk is how a manager that joins asks another for the key to which variables are sealed, on `hearth.m.<manager>.key`.
type KeyAsk struct {
	V       int    `msgpack:"v"`
	Manager string `msgpack:"m"` // id of who asks; the reply subject is an inbox of it
	Public  []byte `msgpack:"p"` // 32 bytes, X25519, of a key for this answer alone
}

// KeyAnswer answers it.
type KeyAnswer struct {
	V      int    `msgpack:"v"`
	Sealed []byte `msgpack:"s"` // X25519 sealed box of the private key (internal/seal)
}

// Control is an order of a frontend to one manager. What cannot be done is answered by the headers of an error.
type Control struct {
	V  int       `msgpack:"v"`
	Op ControlOp `msgpack:"op"`

	Level *LevelOrder `msgpack:"l,omitempty"` // of ControlLevel
}

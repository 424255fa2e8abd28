package schema

// ControlOp is what a manager is asked on `hearth.m.<manager>.ctl`.
type ControlOp string

// The orders. Each is answered at once with a [DrainOutput]; ask for the state until it says what was wanted.
const (
	ControlState   ControlOp = "state"   // change nothing
	ControlDrain   ControlOp = "drain"   // leave the ring in order and stay
	ControlUndrain ControlOp = "undrain" // come back onto it
)

// Control is an order of a frontend to one manager. What cannot be done is answered by the headers of an error.
type Control struct {
	V  int       `msgpack:"v"`
	Op ControlOp `msgpack:"op"`
}

package frontend

import "github.com/hearth-run/hearth/schema"

// Load is everything that decides where a call of one function version goes. DESIGN 1 gives the letters.
type Load struct {
	Open  bool    // the reserved arc is open
	L     int     // the limit of the reservation
	S     int     // members that exist and are ready; never the configured number
	B     int     // those of S that are busy
	C     int     // calls of the version in flight, this one included: 1 + ours + what the other frontends tell
	Theta float64 // of the fabric: up to which share of busy members a call beyond L goes to them
}

// Decision is where a call goes and why, with the numbers that said so; spans, counters and headers show it.
type Decision struct {
	Reserved bool // the reserved arc, else the unreserved one
	Reason   schema.Reason
	L, S     int
	B, C     int
}

// Route chooses the arc of a call. It is pure and total, and the only place where this is decided:
//
//	no open arc, or no member (S = 0)  -> unreserved arc, "unreserved"
//	C <= min(L, S)                     -> reserved arc, "reserved"
//	B / S < theta                      -> reserved arc, "spillover"
//	else                               -> unreserved arc, "scale"
//
// The comparisons are exactly these (DESIGN 5, S21). B/S is divided, not multiplied out: the quotient of two integers
// and the decimal theta are both the float nearest to their value, so 9/10 < 0.9 is false, as on paper.
// A catcher may still move a call to the unreserved arc, under [schema.ReasonOverflow].
func Route(l Load) Decision {
	d := Decision{Reason: schema.ReasonUnreserved, L: l.L, S: l.S, B: l.B, C: l.C}
	if !l.Open || l.S <= 0 {
		return d
	}
	switch {
	case l.C <= min(l.L, l.S):
		d.Reserved, d.Reason = true, schema.ReasonReserved
	case float64(l.B)/float64(l.S) < l.Theta:
		d.Reserved, d.Reason = true, schema.ReasonSpillover
	default:
		d.Reason = schema.ReasonScale
	}
	return d
}

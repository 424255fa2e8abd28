package schema

import (
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// ReservationState is where a reservation stands (DESIGN 6). The last one, gone, is a key that is no more.
type ReservationState string

// The states of a reservation. Every change of one is a compare-and-set on the revision of its key.
const (
	ReservationProvisioning ReservationState = "provisioning" // its members are made; its arc takes no calls yet
	ReservationActive       ReservationState = "active"       // its arc takes calls
	ReservationDraining     ReservationState = "draining"     // its members go as they become idle
)

// ReservationRecord is one key of bucket reservations ([subjects.ReservationKey]): the environments of one published version
// that are kept initialised ahead of calls. Control handlers of frontends write Limit, and with it the first record; the
// controller moves everything else. DESIGN 6.
type ReservationRecord struct {
	V          int              `msgpack:"v"`
	Account    string           `msgpack:"account"`
	Function   string           `msgpack:"function"`
	FunctionID string           `msgpack:"id"` // a name used again is another function
	Version    string           `msgpack:"version"`
	Limit      int              `msgpack:"limit"` // L; 0 and deleted are the same
	State      ReservationState `msgpack:"state"`

	// The opening. Epoch is the revision of this key at which it was asked for, so it never repeats; 0 until the controller has
	// given it a place. Marker is the sequence of the open marker in the stream of the shard; 0 while the arc is not open.
	Epoch  uint64 `msgpack:"epoch,omitempty"`
	Shard  int    `msgpack:"shard,omitempty"`
	Marker uint64 `msgpack:"marker,omitempty"`

	Length int      `msgpack:"length,omitempty"` // managers of the arc as the controller last computed it
	Skip   []string `msgpack:"skip,omitempty"`   // managers that cannot hold their share, sorted; shares are computed without them
	// For which limit and which epoch of the ring Skip was found, or that nobody was left: at the next change of either the
	// controller empties Skip and Failed and looks anew. 0 while neither is so.
	SkipLimit int    `msgpack:"skip_limit,omitempty"`
	SkipRing  uint64 `msgpack:"skip_ring,omitempty"`

	Closing []ClosingArc `msgpack:"closing,omitempty"` // openings gone by that are still being emptied
	Failed  string       `msgpack:"failed,omitempty"`  // why members cannot be made, "" while they can
	Updated time.Time    `msgpack:"updated"`
}

// Arc names the arc of one opening of the reservation: the present one, or one of Closing.
func (r *ReservationRecord) Arc(epoch uint64, shard int) subjects.ArcCall {
	return subjects.ArcCall{Reserved: true, Number: shard, Account: r.Account, Function: r.Function, Version: r.Version, Epoch: epoch}
}

// ClosingArc is an opening of a reservation that is being retired while another one follows it.
type ClosingArc struct {
	Epoch  uint64 `msgpack:"epoch"`
	Shard  int    `msgpack:"shard"`
	Marker uint64 `msgpack:"marker,omitempty"`
}

// ReservationStatus is what a user is told of a reservation's members, as Lambda calls it.
type ReservationStatus string

// The statuses of a reservation: READY when S >= L, else IN_PROGRESS, or FAILED with the reason. DESIGN 5.
const (
	ReservationReady      ReservationStatus = "READY"
	ReservationInProgress ReservationStatus = "IN_PROGRESS"
	ReservationFailed     ReservationStatus = "FAILED"
)

package reservation

import "github.com/hearth-run/hearth/schema"

// Act is what a [Step] does.
type Act uint8

// The acts. Each may be repeated, and done by two controllers at once.
const (
	Nothing        Act = iota
	Write              // the record, if its revision is still the one that was read
	Remove             // the key, if its revision is still the one that was read
	Look               // whether the marker stands, with which sequence, and whether the consumer is there
	MakeConsumer       // where it is missing, with the stream of its shard
	PublishMarker      // where none stands; the sequence of the one that stands then
	PurgeMarker        // which shuts the arc
	LookEmpty          // whether the stream holds no call of the arc, asked of its leader
	DeleteConsumer     // where it is there
)

var acts = [...]string{"nothing", "write", "remove", "look", "make consumer", "publish marker", "purge marker", "look whether empty",
	"delete consumer"}

// String is the act as logs say it.
func (a Act) String() string { return acts[a] }

// Step is the next thing to do. Opening is which arc it is about, Record what is written; a Write's Updated is the writer's.
type Step struct {
	Act     Act
	Opening Opening
	Record  schema.ReservationRecord
}

// Opening names one opening of a reservation.
type Opening struct {
	Epoch uint64
	Shard int
}

// Sight is what one controller knows of an opening by what it did and saw itself. The zero value knows nothing.
type Sight struct {
	Looked   bool   // Consumer and Marker were looked at since there was reason to doubt them
	Consumer bool   // is there
	Marker   uint64 // sequence of the one that stands, 0: none

	// These stay true once they are: an opening that closes is never opened again.
	Shut    bool // its marker was purged after the record said that it closes
	Empty   bool // no call of it was left after that
	Removed bool // its consumer was deleted after that

	Held bool // the last LookEmpty found calls
}

// Outcome is what a step found: of [Look] Consumer and Marker, of [PublishMarker] Marker, of [LookEmpty] Empty.
type Outcome struct {
	Consumer bool
	Marker   uint64
	Empty    bool
}

// After is what is known once an act was done and found this.
func (s Sight) After(act Act, found Outcome) Sight {
	switch act {
	case Look:
		s.Looked, s.Consumer, s.Marker = true, found.Consumer, found.Marker
	case MakeConsumer:
		s.Consumer = true
	case PublishMarker:
		s.Looked, s.Marker = false, found.Marker // to be looked at together with the consumer
	case PurgeMarker:
		s.Shut, s.Marker = true, 0
	case LookEmpty:
		s.Empty, s.Held = found.Empty, !found.Empty
	case DeleteConsumer:
		s.Removed, s.Consumer = true, false
	}
	return s
}

// Doubted is what is still known when a step failed, another wrote the record, or the server may have lost its memory.
func (s Sight) Doubted() Sight {
	s.Looked, s.Consumer, s.Marker = false, false, 0
	return s
}

// Member is what one manager tells of an opening.
type Member struct {
	Manager               string
	Share                 int
	Ready, Busy, Starting int
	Unable                bool
	Failed                string
}

// Name is the opening that a record is about now; its Epoch is 0 if there is none.
func Name(rec *schema.ReservationRecord) Opening { return Opening{rec.Epoch, rec.Shard} }

// Names reports whether a record is about an opening, as the present one or one that closes.
func Names(rec *schema.ReservationRecord, epoch uint64) bool {
	if rec.Epoch == epoch {
		return true
	}
	for _, c := range rec.Closing {
		if c.Epoch == epoch {
			return true
		}
	}
	return false
}

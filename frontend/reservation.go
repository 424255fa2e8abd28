package frontend

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	// suspectFor is how long a reserved arc that refused a call is left alone, unless its record changes first.
	suspectFor = 100 * time.Millisecond

	// keptHeaders is how many start-bys, in seconds of time to live from 0, have their headers kept by a reservation.
	keptHeaders = 64
)

// reservation is one revision of a version's reservation as calls see it. It is immutable but for what is atomic, and
// replaced as a whole when its record changes: a call reads it by one load.
type reservation struct {
	open   bool // its arc takes calls
	limit  int  // L: 0 while it drains
	shard  int
	epoch  uint64
	marker uint64

	id      string // account, function id and version: whose it is
	version string
	inKV    string // "<function id>.<version>", as statuses of frontends name it
	target  target

	name    string // short, of its arc
	subject string
	stream  *stream
	members *members // S and B; of a function with sub-tenants: of the generic ones
	others  *others  // calls in flight at other frontends
	check   [2]string
	headers [keptHeaders]atomic.Pointer[nats.Header]

	made    time.Time
	suspect atomic.Int64 // since made: not tried before

	tally *tally // of the version, once the function is known; guarded by functions.mu
}

// takes reports whether calls may go to the reserved arc now.
func (r *reservation) takes() bool {
	if !r.open {
		return false
	}
	until := r.suspect.Load()
	return until == 0 || int64(time.Since(r.made)) >= until
}

// doubt leaves the arc alone for a while: the server refused a call that the record said it would take.
func (r *reservation) doubt() { r.suspect.Store(int64(time.Since(r.made) + suspectFor)) }

// header is the header of a publication: its time to live as on unreserved arcs, and the marker that must stand, checked by
// the server in the critical section of the store (DESIGN 6). The same map serves all; nobody writes to it.
func (r *reservation) header(startBy time.Duration) nats.Header {
	seconds := ttlSeconds(startBy)
	if seconds < keptHeaders {
		if h := r.headers[seconds].Load(); h != nil {
			return *h
		}
	}
	h := nats.Header{
		nats.MsgTTLHdr:                          []string{strconv.Itoa(seconds) + "s"},
		nats.ExpectedLastSubjSeqHdr:             r.check[:1],
		jetstream.ExpectedLastSubjSeqSubjHeader: r.check[1:],
	}
	if seconds < keptHeaders {
		r.headers[seconds].Store(&h)
	}
	return h
}

// decodeReservation reads a record of this build's version or an older one.
func decodeReservation(b []byte) (schema.ReservationRecord, error) {
	r, err := decode[schema.ReservationRecord](b)
	switch {
	case err != nil:
	case r.V > schema.Version:
		err = fmt.Errorf("record of version %d, this build reads up to %d", r.V, schema.Version)
	case r.Shard < 0 || r.Shard >= subjects.MaxShards:
		err = fmt.Errorf("shard %d; 0 to %d", r.Shard, subjects.MaxShards-1)
	}
	return r, err
}

// reservationChanged takes in what the watch tells of a reservation.
func (f *Frontend) reservationChanged(key string, record schema.ReservationRecord, _ uint64, deleted bool) {
	var r *reservation
	if !deleted {
		if at := subjects.ReservationKey(record.Account, record.Function, record.Version); at != key {
			f.log.Warn("reservation lies under another's key", "key", key, "names", at)
			deleted = true
		} else {
			r = f.newReservation(&record)
		}
	}
	old := f.functions.reserve(key, r)
	if old != nil {
		f.view.leave(old.name, old.inKV)
	}
	if r != nil && r.open && (old == nil || old.marker != r.marker || old.stream != r.stream || r.stream.first.Load() == gone) {
		f.ask(r.stream) // opened, perhaps anew: the stream may be another one
	}
}

// newReservation prepares a record for calls.
func (f *Frontend) newReservation(record *schema.ReservationRecord) *reservation {
	r := &reservation{
		shard: record.Shard, epoch: record.Epoch, marker: record.Marker, made: time.Now(),
		id: record.FunctionID, version: record.Version, inKV: record.FunctionID + "." + record.Version,
		target: target{record.Account, record.Function},
	}
	switch record.State {
	case schema.ReservationActive:
		r.limit = max(0, record.Limit)
		r.open = record.Marker != 0 && record.Epoch != 0
	case schema.ReservationDraining:
		r.open = record.Marker != 0 && record.Epoch != 0
	}
	r.name = record.Arc(r.epoch, r.shard).ArcName()
	r.subject = f.names.ReservedCall(r.shard, record.Account, record.Function, record.Version, r.epoch)
	r.check = [2]string{
		strconv.FormatUint(r.marker, 10), f.names.ReservedMarker(r.shard, record.Account, record.Function, record.Version, r.epoch),
	}
	r.stream = f.shard(r.shard)
	r.members, r.others = f.view.join(r.name, r.inKV)
	return r
}

// Reserves reports whether this frontend sends calls to the arc of a reservation's present opening.
func (f *Frontend) Reserves(record *schema.ReservationRecord) bool {
	fs, key := f.functions, subjects.ReservationKey(record.Account, record.Function, record.Version)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	r := fs.reservations[target{record.Account, record.Function}][key]
	return r != nil && r.open && r.epoch == record.Epoch && r.tally != nil
}

// tally is what a frontend keeps of a version beyond the record that it came with: records change, calls in flight stay.
type tally struct {
	calls       atomic.Int64                // C of this frontend
	reservation atomic.Pointer[reservation] // nil: none
}

// shared reports whether other frontends count the calls of the version at each decision, so that changes are told at once:
// those with a reservation. A cap would be another reason (DESIGN 5).
func (t *tally) shared() bool { return t.reservation.Load() != nil }

// reservedVersions are the reservations of one function, by key.
type reservedVersions map[string]*reservation

// reserve puts a reservation in the place of the one under its key, which it gives back; r is nil where there is none any
// more.
func (fs *functions) reserve(key string, r *reservation) (old *reservation) {
	t, ok := parseReservationKey(key)
	if !ok {
		return nil // not written by the control service
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	old = fs.reservations[t][key]
	switch {
	case r != nil:
		if fs.reservations[t] == nil {
			fs.reservations[t] = make(reservedVersions)
		}
		fs.reservations[t][key] = r
		r.link(fs.known[t])
	case old != nil:
		if delete(fs.reservations[t], key); len(fs.reservations[t]) == 0 {
			delete(fs.reservations, t)
		}
	}
	if old != nil && old.tally != nil {
		old.tally.reservation.CompareAndSwap(old, nil) // where the new one is not shown
	}
	fs.share()
	return old
}

// link shows a reservation to the calls of its version; fn is nil where the function is not known. Nobody sees a moment
// without it where it was shown before. Called with functions.mu held.
func (r *reservation) link(fn *function) {
	var now *tally
	if fn != nil && r.id == fn.record.ID && r.version != "" && r.version != schema.Latest {
		if v := fn.versions[r.version]; v != nil {
			now = v.tally
		}
	}
	if r.tally != nil && r.tally != now {
		r.tally.reservation.CompareAndSwap(r, nil)
	}
	if r.tally = now; now != nil {
		now.reservation.Store(r)
	}
}

// relink shows the reservations of a function to the versions of its new record. Called with mu held.
func (fs *functions) relink(t target) {
	reserved := fs.reservations[t]
	for _, r := range reserved {
		r.link(fs.known[t])
	}
	if len(reserved) > 0 {
		fs.share()
	}
}

// share lists the versions whose calls are told on change. Called with mu held.
func (fs *functions) share() {
	var shared []sharedCalls
	for _, reserved := range fs.reservations {
		for _, r := range reserved {
			if r.tally != nil {
				shared = append(shared, sharedCalls{r.inKV, r.tally})
			}
		}
	}
	fs.shared.Store(&shared)
}

// sharedCalls names a version whose calls other frontends count.
type sharedCalls struct {
	name  string
	tally *tally
}

// parseReservationKey reads whose reservation a key of bucket reservations is.
func parseReservationKey(key string) (target, bool) {
	at := strings.LastIndexByte(key, '.')
	if at < 0 {
		return target{}, false
	}
	return parseFunctionKey(key[:at])
}

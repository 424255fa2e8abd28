package frontend

import (
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// frontendSilence is after how long without a status a frontend counts no more. DESIGN 9.
const frontendSilence = time.Second

// frontendSeen is one life of another frontend as its statuses show it. view.mu guards it.
type frontendSeen struct {
	status  schema.FrontendStatus
	at      time.Time
	counted bool // its calls are in the sums
}

// others are the calls in flight of one version at the other frontends.
type others struct {
	calls atomic.Int64

	refs int // guarded by view.mu
}

// join gives what a reservation's calls read at each decision: S and B of its arc, and the calls of its version at other
// frontends. leave gives both back.
func (v *view) join(arc, version string) (*members, *others) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o := v.elsewhere[version]
	if o == nil {
		o = new(others)
		v.elsewhere[version] = o
		for _, f := range v.frontends {
			if f.counted {
				o.calls.Add(told(f.status.InFlight, version))
			}
		}
	}
	o.refs++
	return v.hold(part{arc: arc}), o
}

func (v *view) leave(arc, version string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.release(part{arc: arc})
	if o := v.elsewhere[version]; o != nil {
		if o.refs--; o.refs == 0 {
			delete(v.elsewhere, version)
		}
	}
}

// told is what a status says of a version. Nobody has fewer calls than none.
func told(inFlight map[string]int, version string) int64 {
	return int64(min(max(0, inFlight[version]), mostCalls))
}

const mostCalls = 1 << 30

// heardFrom takes in another frontend's status. Of a partial one nothing is believed where the whole is not known.
func (v *view) heardFrom(s schema.FrontendStatus) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.frontends[s.ID]
	known := f != nil && f.status.Incarnation == s.Incarnation
	switch {
	case known && s.Number < f.status.Number, !known && s.Partial:
		return
	case f == nil:
		f = new(frontendSeen)
		v.frontends[s.ID] = f
	}
	f.at = time.Now()
	revision := f.status.Functions
	if s.Partial {
		v.patch(f, s.InFlight)
		f.status.Number, f.status.Functions = s.Number, s.Functions
		if !f.counted {
			v.count(f)
		}
	} else {
		v.uncount(f)
		f.status = s
		v.count(f)
	}
	if !s.Partial || s.Functions != revision {
		v.notify()
	}
}

// patch takes in the calls that changed at a frontend. mu is held.
func (v *view) patch(f *frontendSeen, changed map[string]int) {
	if f.status.InFlight == nil {
		f.status.InFlight = make(map[string]int, len(changed))
	}
	for version := range changed {
		if o := v.elsewhere[version]; o != nil && f.counted {
			o.calls.Add(told(changed, version) - told(f.status.InFlight, version))
		}
		f.status.InFlight[version] = changed[version]
	}
}

// count puts a frontend's calls into the sums, uncount takes them out. mu is held.
func (v *view) count(f *frontendSeen) {
	f.counted = true
	for version, o := range v.elsewhere {
		o.calls.Add(told(f.status.InFlight, version))
	}
}

func (v *view) uncount(f *frontendSeen) {
	if !f.counted {
		return
	}
	f.counted = false
	for version, o := range v.elsewhere {
		o.calls.Add(-told(f.status.InFlight, version))
	}
}

// quiet forgets the frontends that have fallen silent. mu is held.
func (v *view) quiet(now time.Time) {
	for id, f := range v.frontends {
		silent := now.Sub(f.at)
		if silent > frontendSilence {
			v.uncount(f)
		}
		if silent > 2*frontendSilence {
			delete(v.frontends, id)
		}
	}
}

// alone reports whether no other frontend tells of itself.
func (v *view) alone() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.frontends) == 0
}

package manager

import "time"

const (
	minCredit = 4
	maxCredit = 16
	roomOut   = 20 * time.Millisecond // without any room until its pulls are taken back: at full load it comes and goes
)

// shortage is whether room is out, and has been for a while.
type shortage struct {
	is, lasts bool
	since     time.Time
	freed     uint64
}

// look takes in how the pool stands, and reports whether there is room where there was none, or the other way round.
func (s *shortage) look(room int, freed uint64, now time.Time) (turned bool) {
	turned = s.is != (room == 0)
	switch {
	case room > 0:
		*s = shortage{}
	case !s.is || s.freed != freed:
		*s = shortage{is: true, lasts: s.lasts, since: now, freed: freed}
	default:
		s.lasts = s.lasts || now.Sub(s.since) >= roomOut
	}
	return turned
}

// credit is how many room pulls each arc in which this manager has a rank gets: room is shared by all of them.
func (m *Manager) credit(v *view, a *arc) int {
	if !m.offering || a.rank < 0 || v.ranked == 0 {
		return 0
	}
	room := m.pool.Room()
	if room == 0 {
		return 0
	}
	return max(minCredit, min(maxCredit, room/v.ranked))
}

package manager

import "github.com/hearth-run/hearth/manager/pace"

// credit is how many room pulls each arc in which this manager has a rank gets: room is shared by all of them.
func (m *Manager) credit(v *view, a *arc) int {
	if !m.offering || a.rank < 0 {
		return 0
	}
	return pace.Credit(m.pool.Room(), v.ranked)
}

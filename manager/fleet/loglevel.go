package fleet

import (
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
)

var _ manager.Levelled = (*Fleet)(nil)

// SetLevel has the workers of other processes log from this level on. One that comes later logs from its own on.
func (f *Fleet) SetLevel(o *schema.LevelOrder) {
	f.mu.Lock()
	all := f.all()
	f.mu.Unlock()
	for _, s := range all {
		s.order(&schema.WorkerOrder{Level: o})
	}
}

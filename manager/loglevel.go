package manager

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// setLevel changes from which level on this manager logs, with everything else in its process and the workers that it has in others,
// and answers how it stands.
func (m *Manager) setLevel(o *schema.LevelOrder) ([]byte, error) {
	now, err := telemetry.Obey(m.log, schema.StoryManager, m.cfg.ID, o)
	if err != nil {
		return nil, err
	}
	if workers, ok := m.worker.(Levelled); ok && o != nil && o.Level != "" {
		workers.SetLevel(o)
	}
	return schema.Marshal(now)
}

package manager

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// setLevel changes from which level on this manager logs, and everything else in its process, and answers how it stands.
func (m *Manager) setLevel(o *schema.LevelOrder) ([]byte, error) {
	now, err := telemetry.Obey(m.log, schema.StoryManager, m.cfg.ID, o)
	if err != nil {
		return nil, err
	}
	return schema.Marshal(now)
}

package worker

import (
	"bytes"
	"cmp"
	"encoding/json"

	"github.com/hearth-run/hearth/schema"
)

// levels are what a function's configuration asks of its lines: none where they are text.
func levels(l schema.Logging) (isJSON bool, own, system schema.LogLevel) {
	if !l.JSON() {
		return false, schema.LevelNone, schema.LevelNone
	}
	own, _ = schema.ParseLogLevel(cmp.Or(l.Level, schema.DefaultLogLevel))
	system, _ = schema.ParseLogLevel(cmp.Or(l.SystemLevel, schema.DefaultLogLevel))
	return true, own, system
}

// wanted reports whether a line of the function's is of a level that is kept. What is no JSON object with a level counts as
// INFO, as in Lambda; the rest of a line that was cut is of the level of its beginning.
func (l *logs) wanted(text []byte) bool {
	if l.least == schema.LevelNone {
		return true
	}
	if !l.rests {
		l.silent = levelOf(text) < l.least
	}
	return !l.silent
}

// levelOf is the level that a line names. Lambda's own client for Python calls it log_level where an error is told.
func levelOf(text []byte) schema.LogLevel {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' {
		return schema.LevelInfo
	}
	var line struct {
		Level    any `json:"level"`
		LogLevel any `json:"log_level"`
	}
	if json.Unmarshal(text, &line) != nil {
		return schema.LevelInfo
	}
	for _, said := range []any{line.Level, line.LogLevel} {
		if s, ok := said.(string); ok {
			if level, ok := schema.ParseLogLevel(s); ok {
				return level
			}
		}
	}
	return schema.LevelInfo
}

package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Obey carries out an order about the level of a node's log, and says how it stands. A logger whose level cannot be changed says so by
// telling none.
func Obey(log *slog.Logger, kind, id string, o *schema.LevelOrder) (schema.NodeLevel, error) {
	out := schema.NodeLevel{V: schema.Version, Kind: kind, ID: id}
	level := LevelOf(log)
	if o != nil && o.Level != "" {
		to, ok := ParseLevel(o.Level)
		switch {
		case !ok:
			return out, schema.Invalid(schema.FieldError{Field: "Level", Got: o.Level, Allowed: "debug, info, warn, error"})
		case o.For < 0 || o.For > schema.MaxLevelFor:
			return out, schema.Invalid(schema.FieldError{Field: "For", Got: o.For.String(), Allowed: "0s to " + schema.MaxLevelFor.String()})
		case level == nil:
			return out, schema.Errorf(schema.CodeConflict, "%s %s logs where its level cannot be changed", kind, id)
		}
		level.Set(to, o.For)
		say(log, "log level changed", "node", kind+" "+id, "to", o.Level, "lasting", o.For.String())
	}
	if level != nil {
		out.Level, out.Until = strings.ToLower(level.Level().String()), level.Until()
	}
	return out, nil
}

// say logs what stands in the log whatever its level: that from here on less is in it is the one thing that must not be missing.
func say(log *slog.Logger, message string, facts ...any) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, message, 0)
	r.Add(facts...)
	_ = log.Handler().Handle(context.Background(), r) // slog passes over what its handlers cannot write, too
}

package main

import (
	"slices"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// TestLogFlags: what was given changes what a function has, and nothing else of it.
func TestLogFlags(t *testing.T) {
	t.Parallel()
	text := &schema.LoggingConfig{LogFormat: "Text", LogGroup: "/g"}
	asJSON := &schema.LoggingConfig{LogFormat: "JSON", ApplicationLogLevel: "INFO", SystemLogLevel: "WARN", LogGroup: "/g"}
	for _, tt := range []struct {
		name  string
		now   *schema.LoggingConfig
		flags logFlags
		given []string
		want  schema.LoggingConfig
	}{
		{"NothingGiven", asJSON, logFlags{"text", "info", "info"}, nil, *asJSON},
		{"NewWithNothing", nil, logFlags{"text", "info", "info"}, nil, schema.LoggingConfig{}},
		{"NewAsJSON", nil, logFlags{"json", "info", "info"}, []string{"log-format"}, schema.LoggingConfig{LogFormat: "JSON"}},
		{"ToJSON", text, logFlags{"JSON", "debug", "info"}, []string{"log-format", "log-level"},
			schema.LoggingConfig{LogFormat: "JSON", ApplicationLogLevel: "DEBUG", LogGroup: "/g"}},
		{"ToText", asJSON, logFlags{"text", "info", "info"}, []string{"log-format"}, *text},
		{"OneLevel", asJSON, logFlags{"text", "info", "debug"}, []string{"system-log-level"},
			schema.LoggingConfig{LogFormat: "JSON", ApplicationLogLevel: "INFO", SystemLogLevel: "DEBUG", LogGroup: "/g"}},
		{"Unsaid", text, logFlags{}, []string{"log-format", "log-level", "system-log-level"}, *text},
		{"Wrong", text, logFlags{"xml", "", ""}, []string{"log-format"}, schema.LoggingConfig{LogFormat: "xml", LogGroup: "/g"}},
	} {
		got, changed := tt.flags.over(tt.now, func(flag string) bool { return slices.Contains(tt.given, flag) })
		was := schema.LoggingConfig{}
		if tt.now != nil {
			was = *tt.now
		}
		if *got != tt.want || changed != (tt.want != was) {
			t.Errorf("%s: %+v, changed %v; want %+v", tt.name, *got, changed, tt.want)
		}
	}
}

package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

// logFlags say how a function's lines look and which are kept.
type logFlags struct {
	format, level, system string
}

func (f *logFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.format, "log-format", "text", "text, or json: the platform's lines, console and logging write JSON")
	flags.StringVar(&f.level, "log-level", "info", "with json, the function's own lines from this level on: trace, debug, info, warn, error, fatal")
	flags.StringVar(&f.system, "system-log-level", "info", "with json, the platform's lines from this level on: debug, info, warn")
	for flag, values := range map[string][]string{"log-format": {"text", "json"}, "system-log-level": {"debug", "info", "warn"},
		"log-level": {"trace", "debug", "info", "warn", "error", "fatal"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// over is a function's configuration, nil for a new one, with what was given; changed tells that it is another then. What
// text cannot have goes with a change to it. A value that is none stays as it is, to be refused by name.
func (f *logFlags) over(now *schema.LoggingConfig, given func(flag string) bool) (next *schema.LoggingConfig, changed bool) {
	if now == nil {
		now = &schema.LoggingConfig{}
	}
	l := *now
	if given("log-format") {
		l.LogFormat = f.format
		for _, known := range []string{schema.LogFormatText, schema.LogFormatJSON} {
			if strings.EqualFold(cmp.Or(f.format, schema.LogFormatText), known) {
				l.LogFormat = known
			}
		}
		if l.LogFormat == schema.LogFormatText {
			l.ApplicationLogLevel, l.SystemLogLevel = "", ""
		}
	}
	if given("log-level") {
		l.ApplicationLogLevel = strings.ToUpper(f.level)
	}
	if given("system-log-level") {
		l.SystemLogLevel = strings.ToUpper(f.system)
	}
	return &l, l != *now
}

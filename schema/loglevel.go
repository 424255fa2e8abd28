package schema

import "strings"

// LogLevel is how much a line matters, in Lambda's words (B6). The order is that of weight.
type LogLevel uint8

// The levels. The zero value is none.
const (
	LevelNone LogLevel = iota
	LevelTrace
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
	LevelFatal
)

// ParseLogLevel reads a level as functions and their loggers write it, in any case: Lambda's six, and Python's WARNING and
// CRITICAL. It reports false for every other text.
func ParseLogLevel(text string) (LogLevel, bool) {
	switch strings.ToUpper(text) {
	case "TRACE":
		return LevelTrace, true
	case "DEBUG":
		return LevelDebug, true
	case "INFO":
		return LevelInfo, true
	case "WARN", "WARNING":
		return LevelWarn, true
	case "ERROR":
		return LevelError, true
	case "FATAL", "CRITICAL":
		return LevelFatal, true
	}
	return LevelNone, false
}

// The values of LoggingConfig.LogFormat.
const (
	LogFormatText = "Text"
	LogFormatJSON = "JSON"
)

// DefaultLogLevel is that of both kinds of lines where the format is JSON. With Text there are no levels.
const DefaultLogLevel = "INFO"

// Logging is how the lines of an environment look and which of them are kept (Lambda's LoggingConfig). The zero value is
// Lambda's default: text, all lines.
type Logging struct {
	Format      string `msgpack:"f,omitempty"` // [LogFormatJSON], [LogFormatText]; "" was not said and is Text
	Group       string `msgpack:"g,omitempty"` // that the function is told; "" is /aws/lambda/NAME
	Level       string `msgpack:"l,omitempty"` // the least level of the function's own lines that is kept; JSON only, "" is [DefaultLogLevel]
	SystemLevel string `msgpack:"s,omitempty"` // the same of the platform's lines
}

// JSON reports whether lines are JSON.
func (l Logging) JSON() bool { return l.Format == LogFormatJSON }

// Logging is how the lines of the version's environments look.
func (v *VersionRecord) Logging() Logging {
	return Logging{Format: v.LogFormat, Group: v.LogGroup, Level: v.LogLevel, SystemLevel: v.SystemLogLevel}
}

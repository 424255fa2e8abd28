package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// The platform's lines in Lambda's JSON form (A8): one object a line, of a type that no line of a function has here, whatever
// its text says ([LogLine.Platform]).

type jsonLine struct {
	Time   string `json:"time"`
	Type   string `json:"type"`
	Record any    `json:"record"`
}

type jsonStart struct {
	RequestID string `json:"requestId"`
	Version   string `json:"version"`
	TenantID  string `json:"tenantId,omitempty"`
}

type jsonInitStart struct {
	InitializationType string `json:"initializationType"`
	Phase              string `json:"phase"`
	RuntimeVersion     string `json:"runtimeVersion"`
	FunctionName       string `json:"functionName"`
	FunctionVersion    string `json:"functionVersion"`
	TenantID           string `json:"tenantId,omitempty"`
}

// jsonEnd is initReport, runtimeDone and report. The message is Hearth's own member: why an environment failed stands
// nowhere else.
type jsonEnd struct {
	RequestID          string      `json:"requestId,omitempty"`
	InitializationType string      `json:"initializationType,omitempty"`
	Phase              string      `json:"phase,omitempty"`
	Status             string      `json:"status"`
	ErrorType          string      `json:"errorType,omitempty"`
	ErrorMessage       string      `json:"errorMessage,omitempty"`
	Metrics            jsonMetrics `json:"metrics"`
	TenantID           string      `json:"tenantId,omitempty"`
}

type jsonMetrics struct {
	DurationMs       float64  `json:"durationMs"`
	ProducedBytes    *int64   `json:"producedBytes,omitempty"`
	BilledDurationMs *float64 `json:"billedDurationMs,omitempty"`
	MemorySizeMB     int      `json:"memorySizeMB,omitempty"`
	MaxMemoryUsedMB  int      `json:"maxMemoryUsedMB,omitempty"`
	InitDurationMs   float64  `json:"initDurationMs,omitempty"`
}

type jsonDropped struct {
	Reason         string `json:"reason"`
	DroppedRecords int64  `json:"droppedRecords"`
	DroppedBytes   int64  `json:"droppedBytes"`
}

// jsonEgress is Hearth's own: at Lambda a network refuses in silence.
type jsonEgress struct {
	RequestID string `json:"requestId,omitempty"`
	Reason    string `json:"reason"`
	Times     int64  `json:"times"`
	TenantID  string `json:"tenantId,omitempty"`
}

// InitializationType is what Lambda calls why an environment was made (A5): AWS_LAMBDA_INITIALIZATION_TYPE, and the same in log lines.
func InitializationType(reserved bool) string {
	if reserved {
		return "provisioned-concurrency"
	}
	return "on-demand"
}

// json is a line of the platform's.
func (l *LogLine) json(of LogFunction) string {
	line := jsonLine{Time: l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), Type: l.Kind.Type()}
	switch l.Kind {
	case LogStart:
		line.Record = jsonStart{l.RequestID, of.Version, of.Tenant}
	case LogInitStart:
		line.Record = jsonInitStart{InitializationType(l.Reserved), "init", string(l.Text), of.Name, of.Version, of.Tenant}
	case LogInitReport:
		line.Record = jsonEnd{InitializationType: InitializationType(l.Reserved), Phase: "init", Status: l.status(), ErrorType: l.ErrorType,
			ErrorMessage: l.ErrorMessage, Metrics: jsonMetrics{DurationMs: milliseconds(l.Init)}, TenantID: of.Tenant}
	case LogDone:
		line.Record = jsonEnd{RequestID: l.RequestID, Status: l.status(), ErrorType: l.ErrorType, ErrorMessage: l.ErrorMessage,
			Metrics: jsonMetrics{DurationMs: milliseconds(l.Duration), ProducedBytes: &l.Bytes}, TenantID: of.Tenant}
	case LogReport:
		billed := math.Ceil(float64(l.Duration) / float64(time.Millisecond))
		line.Record = jsonEnd{RequestID: l.RequestID, Status: l.status(), ErrorType: l.ErrorType, ErrorMessage: l.ErrorMessage,
			Metrics: jsonMetrics{DurationMs: milliseconds(l.Duration), BilledDurationMs: &billed, MemorySizeMB: l.MemoryMB,
				MaxMemoryUsedMB: l.UsedMB, InitDurationMs: milliseconds(l.Init)}, TenantID: of.Tenant}
	case LogDropped:
		line.Record = jsonDropped{string(l.Text), l.Count, l.Bytes}
	case LogEgress:
		line.Record = jsonEgress{l.RequestID, string(l.Text), l.Count, of.Tenant}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		panic(fmt.Sprintf("schema: a line of the platform's does not encode: %v", err)) // strings and numbers
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// milliseconds is a duration to the microsecond.
func milliseconds(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }

// status is how a call or an init ended, in Lambda's words. A failure is the platform's own.
func (l *LogLine) status() string {
	switch {
	case Code(l.ErrorType) == CodeTimedOut:
		return "timeout"
	case l.Failed, strings.HasPrefix(l.ErrorType, "Runtime."), strings.HasPrefix(l.ErrorType, "Function."):
		return "error"
	case l.ErrorType != "":
		return "failure"
	}
	return "success"
}

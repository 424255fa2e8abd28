package schema

import (
	"fmt"
	"math"
	"time"
)

// LogLines is what lies on stream LOGS under `log.<account>.<function>.<version>.<tenant or _>`: some lines of one environment,
// in their order. Workers alone write it; a line's bytes are the function's own, so whoever shows them to a terminal makes
// them harmless first (SECURITY 3).
type LogLines struct {
	V           int       `msgpack:"v"`
	Manager     string    `msgpack:"m"`
	Environment string    `msgpack:"e"`
	Lines       []LogLine `msgpack:"l"`
}

// LogLine is one line of a function, or what the platform says of it. The platform's lines are records of a kind of their own,
// whose text is made by who reads them ([LogLine.Texts]): two are of every call. No byte of a function makes one.
type LogLine struct {
	Time      time.Time `msgpack:"t"`
	RequestID string    `msgpack:"r,omitempty"` // "" in the init and between calls
	Kind      LogKind   `msgpack:"k,omitempty"`
	Platform  bool      `msgpack:"p,omitempty"` // written by the worker, never by a function
	JSON      bool      `msgpack:"j,omitempty"` // the platform's lines of this function are JSON
	Cut       bool      `msgpack:"c,omitempty"` // its rest is in the next line
	Reserved  bool      `msgpack:"v,omitempty"` // of a LogInitStart and a LogInitReport: the environment was made for a reservation
	Text      []byte    `msgpack:"x,omitempty"` // of a LogText; of a LogInitStart the runtime, of a LogDropped and a LogEgress why

	// Of a LogReport, a LogDone or a LogInitReport.
	Duration     time.Duration `msgpack:"d,omitempty"`
	Init         time.Duration `msgpack:"i,omitempty"` // 0: no cold start
	MemoryMB     int           `msgpack:"m,omitempty"`
	UsedMB       int           `msgpack:"u,omitempty"` // of a LogReport: the most that its environment took until then; 0: not known
	Failed       bool          `msgpack:"f,omitempty"` // the function posted an error
	ErrorType    string        `msgpack:"e,omitempty"` // of a failure that no function posted
	ErrorMessage string        `msgpack:"w,omitempty"`

	Bytes int64 `msgpack:"b,omitempty"` // of a LogDone those of the answer; of a LogDropped what was dropped
	Count int64 `msgpack:"n,omitempty"` // lines that a LogDropped stands for, refusals that a LogEgress does
}

// LogKind says what a [LogLine] is.
type LogKind uint8

// The kinds of lines. Values are on the wire: new ones go to the end.
const (
	LogText       LogKind = iota // a line as it stands
	LogStart                     // a call began
	LogReport                    // a call ended
	LogDone                      // its runtime was done with it; JSON alone has a line for it
	LogInitStart                 // an environment began its init
	LogInitReport                // the init ended; in text only a failed one has a line
	LogDropped                   // lines are missing here
	LogEgress                    // something that the function wanted to reach was refused, and why
)

// Type is Lambda's name for a kind of the platform's, "" for text.
func (k LogKind) Type() string {
	switch k {
	case LogStart:
		return "platform.start"
	case LogReport:
		return "platform.report"
	case LogDone:
		return "platform.runtimeDone"
	case LogInitStart:
		return "platform.initStart"
	case LogInitReport:
		return "platform.initReport"
	case LogDropped:
		return "platform.logsDropped"
	case LogEgress:
		return "platform.egressRefused"
	}
	return ""
}

// Level is how much a line of the platform's matters (Lambda's guide, log-level filtering).
func (l *LogLine) Level() LogLevel {
	switch l.Kind {
	case LogDropped, LogEgress:
		return LevelWarn
	case LogReport, LogDone, LogInitReport:
		switch {
		case l.status() != "success":
			return LevelWarn
		case l.Kind != LogReport:
			return LevelDebug
		}
	}
	return LevelInfo
}

// LogFunction is whose lines they are.
type LogFunction struct {
	Name, Version, Tenant string
}

// Texts are the lines that it stands for, in Lambda's text form or its JSON form (A8). How much memory was used is left out
// where the driver does not know.
func (l *LogLine) Texts(of LogFunction) []string {
	if l.JSON && l.Kind.Type() != "" {
		return []string{l.json(of)}
	}
	switch l.Kind {
	case LogStart:
		return []string{"START RequestId: " + l.RequestID + " Version: " + of.Version}
	case LogReport:
		return l.report()
	case LogInitStart:
		return []string{"INIT_START Runtime Version: " + string(l.Text)}
	case LogInitReport:
		return l.initReport()
	case LogDone:
		return nil
	}
	return []string{string(l.Text)}
}

func (l *LogLine) initReport() []string {
	if l.ErrorType == "" {
		return nil
	}
	lines := []string{fmt.Sprintf("INIT_REPORT Init Duration: %.2f ms\tPhase: init\tStatus: error\tError Type: %s",
		float64(l.Init)/float64(time.Millisecond), l.ErrorType)}
	if l.ErrorMessage != "" {
		lines = append(lines, l.ErrorType+": "+l.ErrorMessage)
	}
	return lines
}

func (l *LogLine) report() []string {
	ms := float64(l.Duration) / float64(time.Millisecond)
	text := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\t",
		l.RequestID, ms, math.Ceil(ms), l.MemoryMB)
	if l.UsedMB > 0 {
		text += fmt.Sprintf("Max Memory Used: %d MB\t", l.UsedMB)
	}
	if l.Init > 0 {
		text += fmt.Sprintf("Init Duration: %.2f ms\t", float64(l.Init)/float64(time.Millisecond))
	}
	lines := []string{"END RequestId: " + l.RequestID, ""}
	switch Code(l.ErrorType) {
	case CodeTimedOut:
		text += "Status: timeout"
		lines = append(lines, l.Time.UTC().Format("2006-01-02T15:04:05.000Z")+" "+l.RequestID+" "+l.ErrorMessage)
	case CodeExitError, CodeOutOfMemory:
		text += "Status: error\tError Type: " + l.ErrorType
		lines = append(lines, "RequestId: "+l.RequestID+" Error: "+l.ErrorMessage, l.ErrorType)
	case CodeResponseTooLarge, CodeTruncatedResponse, CodeInvalidMode:
		text += "Status: error\tError Type: " + l.ErrorType
	}
	lines[1] = text
	return lines
}

// LogsInput is the request of GetLogs. Cursor goes on where an answer ended; without one, Since is the oldest line wanted, and
// without that the answer begins at the oldest there is. Wait is how long the answer may wait for a first line.
type LogsInput struct {
	FunctionName string     `json:"FunctionName"`
	Qualifier    string     `json:"Qualifier,omitempty"` // a version; "" all of them
	TenantID     string     `json:"TenantId,omitempty"`  // "" all of them
	RequestID    string     `json:"RequestId,omitempty"` // "" all of them
	Since        *time.Time `json:"Since,omitempty"`
	Cursor       string     `json:"Cursor,omitempty"`
	MaxLines     int        `json:"MaxLines,omitempty"`    // about; 0 means 500, at most 5,000
	WaitSeconds  int        `json:"WaitSeconds,omitempty"` // 0 does not wait, at most 20
}

// LogsOutput is the answer of GetLogs. Cursor is for the next request, also where there were no lines.
type LogsOutput struct {
	Lines  []LogLineItem `json:"lines"`
	Cursor string        `json:"cursor"`
	Behind bool          `json:"behind,omitempty"` // lines that lay between Cursor and the first of Lines are gone by age or size
	More   bool          `json:"more,omitempty"`   // there are more already
}

// LogLineItem is one line of [LogsOutput].
type LogLineItem struct {
	Time        time.Time `json:"time"`
	RequestID   string    `json:"request_id,omitempty"`
	Function    string    `json:"function"`
	Version     string    `json:"version"`
	Tenant      string    `json:"tenant,omitempty"`
	Manager     string    `json:"manager"`
	Environment string    `json:"environment"`
	Platform    bool      `json:"platform,omitempty"`
	Type        string    `json:"type,omitempty"` // of the platform's lines: platform.start, platform.report
	Cut         bool      `json:"cut,omitempty"`
	Text        string    `json:"text"` // invalid UTF-8 replaced
}

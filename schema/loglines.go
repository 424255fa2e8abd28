package schema

import "time"

// LogLines is what lies on stream LOGS under `log.<account>.<function>.<version>.<tenant or _>`: some lines of one environment,
// in their order. Workers alone write it; a line's bytes are the function's own, so whoever shows them to a terminal makes
// them harmless first (SECURITY 3).
type LogLines struct {
	V           int       `msgpack:"v"`
	Manager     string    `msgpack:"m"`
	Environment string    `msgpack:"e"`
	Lines       []LogLine `msgpack:"l"`
}

// LogLine is one line.
type LogLine struct {
	Time      time.Time `msgpack:"t"`
	RequestID string    `msgpack:"r,omitempty"` // "" in the init and between calls
	Platform  bool      `msgpack:"p,omitempty"` // written by the worker, never by a function
	Cut       bool      `msgpack:"c,omitempty"` // its rest is in the next line
	Text      []byte    `msgpack:"x"`
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
	MaxLines     int        `json:"MaxLines,omitempty"`    // 0 means 500, at most 5,000
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
	Cut         bool      `json:"cut,omitempty"`
	Text        string    `json:"text"` // invalid UTF-8 replaced
}

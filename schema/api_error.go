package schema

// APIError is the body of an error on HTTP and of a control operation on NATS (Lambda B2).
type APIError struct {
	Type    string       `json:"Type"` // User, Service
	Message string       `json:"Message"`
	Lower   string       `json:"message"` // the same: clients read either
	Code    Code         `json:"Code,omitempty"`
	Advice  string       `json:"Advice,omitempty"`
	Reason  string       `json:"Reason,omitempty"` // of a throttle
	Fields  []FieldError `json:"Fields,omitempty"`
}

// APIErrorOf is the body for err: what it says to callers, never its cause. An error without a code is a [CodeInternal].
func APIErrorOf(err error) APIError {
	e := asError(err)
	row := e.Code.Row()
	a := APIError{
		Type: "User", Message: e.Message, Lower: e.Message, Code: e.Code, Advice: row.Advice, Reason: reasonOf(e, row), Fields: e.Fields,
	}
	if row.Status >= 500 {
		a.Type = "Service"
	}
	return a
}

// Err is the error that [APIErrorOf] wrote, or nil if the body is not one of ours.
func (a APIError) Err() error {
	if _, known := a.Code.row(); !known {
		return nil
	}
	return &Error{Code: a.Code, Message: a.Message, Reason: a.Reason, Fields: a.Fields}
}

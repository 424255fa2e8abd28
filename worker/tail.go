package worker

import (
	"fmt"
	"math"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// tailSize is how much of a call's log its caller can ask for (Lambda A8).
const tailSize = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	buf []byte
}

func (t *tail) write(p []byte) {
	if len(p) > tailSize {
		p = p[len(p)-tailSize:]
	}
	if len(t.buf)+len(p) > 2*tailSize {
		n := copy(t.buf, t.buf[len(t.buf)-tailSize:])
		t.buf = t.buf[:n]
	}
	t.buf = append(t.buf, p...)
}

// line writes a line of the platform's own, which begins at the left.
func (t *tail) line(text string) {
	if n := len(t.buf); n > 0 && t.buf[n-1] != '\n' {
		t.write([]byte{'\n'})
	}
	t.write([]byte(text))
	t.write([]byte{'\n'})
}

// last is the end of it, at most tailSize bytes.
func (t *tail) last() []byte { return t.buf[max(0, len(t.buf)-tailSize):] }

// report is what the platform writes at the end of a call, in Lambda's text form (A8). How much memory it used is not
// known above the driver, so that field is left out.
func report(now time.Time, run *schema.Run, o *schema.Outcome, memoryMB int) []string {
	id := run.Call.RequestID
	ms := float64(o.Duration) / float64(time.Millisecond)
	text := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\t",
		id, ms, math.Ceil(ms), memoryMB)
	if run.Start == schema.StartCold && run.InitDuration > 0 {
		text += fmt.Sprintf("Init Duration: %.2f ms\t", float64(run.InitDuration)/float64(time.Millisecond))
	}
	lines := []string{"END RequestId: " + id, ""}
	if f := o.Error; f != nil {
		switch schema.Code(f.Type) {
		case schema.CodeTimedOut:
			text += "Status: timeout"
			lines = append(lines, now.UTC().Format("2006-01-02T15:04:05.000Z")+" "+id+" "+f.Message)
		case schema.CodeExitError, schema.CodeOutOfMemory:
			text += "Status: error\tError Type: " + f.Type
			lines = append(lines, "RequestId: "+id+" Error: "+f.Message, f.Type)
		case schema.CodeResponseTooLarge, schema.CodeTruncatedResponse, schema.CodeInvalidMode:
			text += "Status: error\tError Type: " + f.Type
		}
	}
	lines[1] = text
	return lines
}

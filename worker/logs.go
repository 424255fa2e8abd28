package worker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Line is one line of an environment's output, or one that the platform wrote about a call.
type Line struct {
	Time        time.Time
	Environment string
	Account     string
	Function    string
	Version     string
	Tenant      string
	RequestID   string // of the call that ran, "" between calls and in the init
	Platform    bool   // written by the worker, never by a function
	Cut         bool   // longer than MaxLine: the rest is in the next one
	Text        []byte // without its end, control bytes as they were; valid until the callee returns
}

// MaxLine is where a line is cut (Lambda A8).
const MaxLine = 256 << 10

// keepLine is what an environment's line may take without being charged.
const keepLine = 4 << 10

// logs takes the output of one environment. Write is called by one goroutine at a time, which reads the pipe of stdout and
// stderr; it never waits, so that a function is held up by its pipe at most. Lines go to the sink, the bytes of a call
// that asked for it to its tail.
type logs struct {
	worker *Worker
	e      *environment
	writes atomic.Uint64 // so that the end of a call can see whether output still comes

	// Of Write alone.
	partial []byte // a line that has not ended
	charged int64
	tokens  float64 // bytes that may pass now
	filled  time.Time
	dropped int64 // since the last line that passed

	mu      sync.Mutex
	request string
	tail    *tail  // nil unless the call asked for it
	before  uint64 // writes when that call began
}

func newLogs(w *Worker, e *environment) *logs {
	return &logs{worker: w, e: e, tokens: float64(w.cfg.LogRate), filled: time.Now()}
}

// Write takes output. It never fails.
func (l *logs) Write(p []byte) (int, error) {
	l.writes.Add(1)
	l.mu.Lock()
	request := l.request
	if l.tail != nil {
		l.tail.write(p)
	}
	l.mu.Unlock()
	if !l.heard() {
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.keep(rest, request)
			break
		}
		l.keep(rest[:i], request)
		l.line(request, false)
		rest = rest[i+1:]
	}
	return len(p), nil
}

// heard reports whether anybody listens to lines.
func (l *logs) heard() bool {
	return l.worker.cfg.Lines != nil || l.worker.cfg.Logger.Enabled(context.Background(), slog.LevelDebug)
}

// keep appends to the line that has not ended, and cuts it where it is too long, or where the worker's memory for lines
// and bodies is used up.
func (l *logs) keep(p []byte, request string) {
	for len(l.partial)+len(p) > keepLine {
		if l.charged == 0 && l.worker.budget.Try(MaxLine) {
			l.charged = MaxLine
		}
		limit := keepLine
		if l.charged > 0 {
			limit = MaxLine
		}
		if len(l.partial)+len(p) <= limit {
			break
		}
		n := limit - len(l.partial)
		l.partial = append(l.partial, p[:n]...)
		p = p[n:]
		l.line(request, true)
	}
	l.partial = append(l.partial, p...)
}

// line passes on what has been kept, if the rate allows it.
func (l *logs) line(request string, cut bool) {
	now := time.Now()
	text := l.partial
	rate := float64(l.worker.cfg.LogRate)
	l.tokens = min(rate, l.tokens+rate*now.Sub(l.filled).Seconds())
	l.filled = now
	if n := len(text) + 1; float64(n) <= l.tokens {
		l.tokens -= float64(n)
		if l.dropped > 0 {
			l.say(now, request, fmt.Sprintf("%d bytes of output were dropped: more than %d a second", l.dropped, l.worker.cfg.LogRate))
			l.dropped = 0
		}
		l.pass(Line{Time: now, RequestID: request, Cut: cut, Text: text})
	} else {
		l.dropped += int64(n)
		l.worker.count.dropped.Add(int64(n))
	}
	l.partial = l.partial[:0]
	if cap(l.partial) > keepLine && !cut {
		l.partial = nil
		l.worker.budget.Release(l.charged)
		l.charged = 0
	}
}

// say passes on a line of the platform's own.
func (l *logs) say(now time.Time, request, text string) {
	l.pass(Line{Time: now, RequestID: request, Platform: true, Text: []byte(text)})
}

func (l *logs) pass(line Line) {
	b := l.e.binding
	line.Environment, line.Account, line.Function, line.Version, line.Tenant = l.e.id, b.Account, b.Function, b.Version, b.Tenant
	if sink := l.worker.cfg.Lines; sink != nil {
		sink(line)
		return
	}
	l.worker.log.Debug("output", "environment", line.Environment, "function", line.Function, "version", line.Version,
		"request", line.RequestID, "platform", line.Platform, "text", string(line.Text))
}

// begin turns to a call.
func (l *logs) begin(run *schema.Run) {
	heard := l.worker.cfg.Lines != nil
	if !heard && !run.Call.LogTail {
		// Nobody will ask to which call output belongs, but debug logs say it.
		l.mu.Lock()
		l.request = run.Call.RequestID
		l.mu.Unlock()
		return
	}
	start := "START RequestId: " + run.Call.RequestID + " Version: " + run.Call.Version
	l.mu.Lock()
	l.request = run.Call.RequestID
	if run.Call.LogTail {
		l.tail, l.before = &tail{}, l.writes.Load()
		l.tail.line(start)
	}
	l.mu.Unlock()
	if heard {
		l.say(time.Now(), run.Call.RequestID, start)
	}
}

// Output that a function wrote before its answer may still be in the pipe when the answer is here, and nothing tells. A
// call that asked for its tail waits until output has come and has paused for quiet, at most for settleMost; a silent
// function's waits that long. Only such calls pay, and they are people's.
const (
	quiet      = 5 * time.Millisecond
	settleMost = 25 * time.Millisecond
)

// settle waits for output, if the call asked for its tail.
func (l *logs) settle() {
	l.mu.Lock()
	wanted, before := l.tail != nil, l.before
	l.mu.Unlock()
	if !wanted {
		return
	}
	pause := time.NewTimer(quiet)
	defer pause.Stop()
	for waited := quiet; ; waited += quiet {
		seen := l.writes.Load()
		select {
		case <-pause.C:
		case <-l.e.life.Done():
			return
		}
		if now := l.writes.Load(); now == seen && now != before || waited >= settleMost {
			return
		}
		pause.Reset(quiet)
	}
}

// finish turns away from a call and gives its tail, if it asked for it.
func (l *logs) finish(run *schema.Run, o *schema.Outcome) []byte {
	l.mu.Lock()
	t := l.tail
	l.tail, l.request = nil, ""
	l.mu.Unlock()
	heard := l.worker.cfg.Lines != nil
	if t == nil && !heard {
		return nil
	}
	now := time.Now()
	lines := report(now, run, o, l.e.binding.MemoryMB)
	for _, text := range lines {
		if t != nil {
			t.line(text)
		}
		if heard {
			l.say(now, run.Call.RequestID, text)
		}
	}
	if t == nil {
		return nil
	}
	return t.last()
}

// end passes on a line that the environment's end left without its own. Write is not called any more.
func (l *logs) end() {
	if len(l.partial) > 0 && l.heard() {
		l.line("", false)
	}
	l.worker.budget.Release(l.charged)
	l.charged, l.partial = 0, nil
}

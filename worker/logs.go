package worker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/hearth-run/hearth/schema"
)

// Source is an environment as its lines are known by.
type Source struct {
	Account, Function, Version, Tenant string
	Environment                        string
	JSON                               bool // the platform's lines of it are JSON
}

// Sink takes the lines of one environment, in their order. Line is called on the way of calls: it must not wait. A line's
// text is valid until it returns.
type Sink interface {
	Line(schema.LogLine)
}

// MaxLine is where a line is cut (Lambda A8).
const MaxLine = 256 << 10

// keepLine is what an environment's line may take without being charged.
const keepLine = 4 << 10

// lineCost is what a line counts for beside its text: what it takes on the wire and in the stream.
const lineCost = 64

// logs takes the output of one environment. Write is called by one goroutine at a time, the one that reads the pipe of
// stdout and stderr or a call's that drains it; it never waits, so that a function is held up by its pipe at most. Lines
// go to the sink, the bytes of a call that asked for it to its tail. The mutex is held while a piece of output is cut into
// lines, which is all that a call may meet.
type logs struct {
	worker *Worker
	e      *environment
	writes atomic.Uint64   // so that the end of a call can see whether output still comes
	ships  bool            // there is a sink; set before there is output
	json   bool            // the platform's lines are JSON
	least  schema.LogLevel // of the function's lines; [schema.LevelNone]: all
	system schema.LogLevel // of the platform's; the same

	mu       sync.Mutex
	sink     Sink   // of the sub-tenant, once the environment is bound to one; nil: none
	tenant   string // to which it is bound
	partial  []byte // a line that has not ended
	rests    bool   // what came before it of the same line was cut off
	silent   bool   // and that was below the level
	charged  int64
	tokens   float64 // bytes that may pass now
	filled   time.Time
	dropping bool
	dropped  int64 // bytes since the last line that passed
	lines    int64 // that they were of
	request  string
	secrets  [][]byte // that no line tells; see hide
	tail     *tail    // nil unless the call asked for it
	before   uint64   // writes when that call began
	peak     int      // MB that the environment took at most, as read the last time; 0: not known
	read     time.Time
}

func newLogs(w *Worker, e *environment) *logs {
	l := &logs{worker: w, e: e, tokens: float64(w.cfg.LogRate), filled: time.Now()}
	l.json, l.least, l.system = levels(e.binding.Logging)
	return l
}

// open is called before the environment's command starts.
func (l *logs) open() {
	if l.ships || l.worker.cfg.Lines == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ships, l.sink = true, l.openSink()
	l.tell(schema.LogLine{Time: time.Now(), Kind: schema.LogInitStart, Reserved: l.e.binding.Reserved, Text: []byte(l.e.binding.Runtime)})
}

// openSink opens the sink of the environment, as it is bound now.
func (l *logs) openSink() Sink {
	b := l.e.binding
	return l.worker.cfg.Lines(Source{Account: b.Account, Function: b.Function, Version: b.Version, Tenant: l.tenant, Environment: l.e.id,
		JSON: l.json})
}

// bind turns to the sub-tenant to which the environment is bound from now on: what has been written so far is nobody's.
func (l *logs) bind(tenant string) {
	if l.ships && l.e.drain != nil {
		l.e.drain.Drain()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest(time.Now())
	if l.tenant = tenant; l.ships {
		l.sink = l.openSink()
	}
}

// initialised says how long a good init took, where that is asked for.
func (l *logs) initialised(took time.Duration) {
	if !l.json {
		return // text has no line for it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(schema.LogLine{Time: time.Now(), Kind: schema.LogInitReport, Reserved: l.e.binding.Reserved, Init: took})
}

// unknownType is what Lambda calls a failure without a type that counts.
const unknownType = "Runtime.Unknown"

// failed says that the init failed, after everything that the function wrote. Of a failure that the function posted only
// the type is told: what it had to say it has written.
func (l *logs) failed(f *schema.FunctionError, took time.Duration) {
	if f.PlatformCode() == schema.CodeUnavailable {
		return // it was ended
	}
	l.open()
	report := schema.LogLine{Time: time.Now(), Kind: schema.LogInitReport, Reserved: l.e.binding.Reserved, Init: took, Failed: true, ErrorType: tame(f.Type)}
	switch {
	case !f.Posted:
		report.ErrorMessage = tame(f.Message)
	case schema.Code(f.Type).Known():
		report.ErrorType = unknownType // no word of the function's reads like the platform's in its line
	}
	l.tell(report)
}

// tame keeps what a function chose within one short line of the platform's.
func tame(text string) string {
	const most = 1 << 10
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(text[:min(len(text), most)], "?"))
}

// Write takes output. It never fails.
func (l *logs) Write(p []byte) (int, error) {
	l.writes.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	sieved := l.tail != nil && l.sieves()
	if l.tail != nil && !sieved {
		l.tail.write(p)
	}
	if !l.heard() && !sieved {
		return len(p), nil
	}
	now := time.Now()
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.keep(now, rest)
			break
		}
		l.keep(now, rest[:i])
		l.line(now, false)
		rest = rest[i+1:]
	}
	return len(p), nil
}

// heard reports whether anybody listens to lines.
func (l *logs) heard() bool {
	return l.sink != nil || l.worker.cfg.Logger.Enabled(context.Background(), slog.LevelDebug)
}

// keep appends to the line that has not ended, and cuts it where it is too long, or where the worker's memory for lines
// and bodies is used up.
func (l *logs) keep(now time.Time, p []byte) {
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
		l.line(now, true)
	}
	l.partial = append(l.partial, p...)
}

// line passes on what has been kept, if it is of a level that is wanted and the rate allows it. Once something was dropped,
// an eighth of a second's worth must have come back before lines pass again: else every line of a flood that passes would
// bring along a note about those that did not. What is below the level counts too: it had to be read.
func (l *logs) line(now time.Time, cut bool) {
	text, held := l.hush(l.partial, cut)
	rate := float64(l.worker.cfg.LogRate)
	l.tokens = min(rate, l.tokens+rate*now.Sub(l.filled).Seconds())
	l.filled = now
	n := float64(len(text) + lineCost)
	if l.tokens >= n && (!l.dropping || l.tokens >= rate/8) {
		l.tokens -= n
		l.dropping = false
		l.sayDropped(now)
		if l.wanted(text) {
			if l.tail != nil && l.sieves() {
				l.tail.line(string(text))
			}
			l.pass(schema.LogLine{Time: now, RequestID: l.request, Cut: cut, Text: text})
		}
	} else {
		l.dropping = true
		l.lines++
		l.dropped += int64(len(text) + 1)
		l.worker.count.dropped.Add(int64(len(text) + 1))
	}
	l.rests = cut
	l.partial = append(l.partial[:0], held...)
	if cap(l.partial) > keepLine && !cut {
		l.partial = nil
		l.worker.budget.Release(l.charged)
		l.charged = 0
	}
}

// rest passes on a line that is not ended and will not be: its call is over, or another begins.
func (l *logs) rest(now time.Time) {
	if len(l.partial) > 0 {
		l.line(now, false)
	}
	l.sayDropped(now)
}

func (l *logs) sayDropped(now time.Time) {
	if l.dropped > 0 {
		l.tell(schema.LogLine{Time: now, RequestID: l.request, Kind: schema.LogDropped, Count: l.lines, Bytes: l.dropped, Text: fmt.Appendf(nil,
			"%d bytes of output were dropped: more than %d a second", l.dropped, l.worker.cfg.LogRate)})
		l.dropped, l.lines = 0, 0
	}
}

// tell passes on a line of the platform's own, also to the tail of the call that runs, if it is of a level that is wanted.
func (l *logs) tell(line schema.LogLine) {
	line.Platform, line.JSON = true, l.json
	if l.system > schema.LevelNone && line.Level() < l.system {
		return
	}
	// A tail that takes bytes as they come has what LOGS has not.
	if l.tail != nil && (l.sieves() || line.Kind != schema.LogDropped) {
		for _, text := range line.Texts(l.function()) {
			l.tail.line(text)
		}
	}
	l.pass(line)
}

func (l *logs) function() schema.LogFunction {
	b := l.e.binding
	return schema.LogFunction{Name: b.Function, Version: b.Version, Tenant: l.tenant}
}

func (l *logs) pass(line schema.LogLine) {
	if l.sink != nil {
		l.sink.Line(line)
		return
	}
	if !l.heard() {
		return
	}
	l.worker.log.Debug("output", "environment", l.e.id, "function", l.e.binding.Function, "version", l.e.binding.Version,
		"request", line.RequestID, "platform", line.Platform, "text", strings.Join(line.Texts(l.function()), "\n"))
}

// begin turns to a call: what has been written so far is not its.
func (l *logs) begin(run *schema.Run, now time.Time) {
	id := run.Call.RequestID
	if l.ships && l.e.drain != nil {
		l.e.drain.Drain()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest(now)
	l.request = id
	if run.Call.LogTail {
		l.tail, l.before = &tail{}, l.writes.Load()
	}
	if l.sink != nil || l.tail != nil {
		l.tell(schema.LogLine{Time: now, RequestID: id, Kind: schema.LogStart})
	}
}

// Output that a function wrote before its answer may still be in the pipe when the answer is here. Where the driver cannot
// drain it ([driver.Drainer]), nothing tells: a call that asked for its tail waits until output has come and has paused for
// quiet, at most for settleMost; a silent function's waits that long. Only such calls pay, and they are people's.
const (
	quiet      = 5 * time.Millisecond
	settleMost = 25 * time.Millisecond
)

// settle waits for output, if the call asked for its tail and nothing better is there.
func (l *logs) settle() {
	if l.e.drain != nil {
		return
	}
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

// finish turns away from a call and gives its tail, if it asked for it. own is set for a failure that no function posted:
// nothing that one posts may look like the platform's word.
func (l *logs) finish(run *schema.Run, o *schema.Outcome, own bool) []byte {
	now := time.Now()
	if !l.ships && !run.Call.LogTail {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rest(now)
		l.request = ""
		return nil
	}
	if l.e.drain != nil {
		l.e.drain.Drain()
	}
	report := schema.LogLine{Time: now, RequestID: run.Call.RequestID, Kind: schema.LogReport, Duration: o.Duration,
		MemoryMB: l.e.binding.MemoryMB, Failed: o.Error != nil}
	if run.Start == schema.StartCold {
		report.Init = run.InitDuration
	}
	report.UsedMB = l.memory(now, o.Duration)
	l.e.countMemory(report.UsedMB)
	if own {
		report.ErrorType, report.ErrorMessage = o.Error.Type, o.Error.Message
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest(now)
	if l.json {
		done := report
		done.Kind, done.Init, done.MemoryMB, done.UsedMB, done.Bytes = schema.LogDone, 0, 0, 0, int64(len(o.Payload))
		l.tell(done)
	}
	l.tell(report)
	t := l.tail
	l.tail, l.request = nil, ""
	if t == nil {
		return nil
	}
	return t.last()
}

// The most memory is read again where that costs a call little: a file of the kernel is 10 us.
const (
	readEvery = time.Second           // for a call that ends later than that after the last reading
	readLong  = 10 * time.Millisecond // for each call that took so long
)

// memory is how many MB the environment took at most until now, 0 where nobody tells. A short call may be told what was so up to a
// second before.
func (l *logs) memory(now time.Time, took time.Duration) int {
	if l.e.meter == nil {
		return 0
	}
	l.mu.Lock()
	fresh := l.peak > 0 && took < readLong && now.Sub(l.read) < readEvery
	peak := l.peak
	l.mu.Unlock()
	if fresh {
		return peak
	}
	bytes, err := l.e.meter.Peak()
	if err != nil {
		return peak
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peak, l.read = int((bytes+1<<20-1)>>20), now
	return l.peak
}

// end passes on a line that the environment's end left without its own. Write is not called any more.
func (l *logs) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard() {
		l.rest(time.Now())
	}
	l.worker.budget.Release(l.charged)
	l.charged, l.partial = 0, nil
}

package worker

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// shelf is the lines of one environment on their way into the stream.
type shelf struct {
	shipper     *Shipper
	subject     string
	environment string
	json        bool // the platform's lines are

	mu     sync.Mutex
	lines  *[]schema.LogLine // nil: none
	bytes  int64             // what they count for
	held   int64             // the same with those that are being sent
	listed bool              // the shipper knows of them

	// What found no room since the last line that did.
	droppedLines, droppedBytes int64

	sending  sync.Mutex // guards what follows
	out      []byte     // encoded, not stored yet
	outLines int
	outCost  int64
	rest     []schema.LogLine // taken, not encoded yet
	whole    *[]schema.LogLine
}

var _ Sink = (*shelf)(nil)

// shelves lends lists of lines; the one of an environment that says nothing is not kept for it.
var shelves = sync.Pool{New: func() any { return new([]schema.LogLine) }}

// shelfMost is the longest list that goes back: more lines than one environment usually has in 100 ms.
const shelfMost = 1024

// Open gives the sink of an environment's lines. It is [Config.Lines].
func (s *Shipper) Open(src Source) Sink {
	return &shelf{shipper: s, subject: s.cfg.Names.Log(src.Account, src.Function, src.Version, src.Tenant), environment: src.Environment,
		json: src.JSON}
}

func cost(l *schema.LogLine) int64 { return int64(shipLine + len(l.Text) + len(l.ErrorMessage)) }

// Line takes a line, or counts it where there is no room.
func (f *shelf) Line(l schema.LogLine) {
	n := cost(&l)
	f.mu.Lock()
	if !f.room(n) {
		f.droppedLines++
		f.droppedBytes += int64(len(l.Text))
		f.mu.Unlock()
		f.shipper.dropped.Add(1)
		return
	}
	f.sayDropped(l.Time)
	l.Text = bytes.Clone(l.Text)
	f.add(l, n)
	first, full := !f.listed, f.bytes >= shipFull && f.bytes-n < shipFull
	f.listed = true
	f.mu.Unlock()
	if first || full {
		f.shipper.note(f, first, full)
	}
}

// room takes room for a line: an eighth of the whole is one environment's.
func (f *shelf) room(n int64) bool {
	s := f.shipper
	if f.held+n > s.cfg.Bytes/8 {
		return false
	}
	if s.used.Add(n) > s.cfg.Bytes {
		s.used.Add(-n)
		return false
	}
	return true
}

// add puts a line on the shelf whose cost is taken already.
func (f *shelf) add(l schema.LogLine, n int64) {
	if f.lines == nil {
		f.lines = shelves.Get().(*[]schema.LogLine)
	}
	*f.lines = append(*f.lines, l)
	f.bytes += n
	f.held += n
}

// sayDropped puts a line about those that found no room, if there were any. It asks for no room itself: it is one for many.
func (f *shelf) sayDropped(now time.Time) {
	if f.droppedLines == 0 {
		return
	}
	l := schema.LogLine{Time: now, Kind: schema.LogDropped, Platform: true, JSON: f.json, Count: f.droppedLines, Bytes: f.droppedBytes,
		Text: fmt.Appendf(nil, "%d lines, %d bytes of output, were dropped: they could not be stored in time", f.droppedLines, f.droppedBytes)}
	f.droppedLines, f.droppedBytes = 0, 0
	n := cost(&l)
	f.shipper.used.Add(n)
	f.add(l, n)
}

// note tells the shipper of a shelf.
func (s *Shipper) note(f *shelf, first, full bool) {
	s.mu.Lock()
	if first {
		s.dirty = append(s.dirty, f)
	}
	if full {
		s.full = append(s.full, f)
	}
	s.mu.Unlock()
	if first {
		nudge(s.wake)
	}
	if full {
		nudge(s.now)
	}
}

// send stores what is on the shelf. After an error it goes on where that was, the next time.
func (f *shelf) send() error {
	f.sending.Lock()
	defer f.sending.Unlock()
	for f.encode() {
		err := f.shipper.store(f.subject, f.out)
		switch {
		case errors.Is(err, nats.ErrMaxPayload):
			f.shipper.dropped.Add(int64(f.outLines))
			f.shipper.log.Warn("log lines dropped: too large a message for the NATS server", "subject", f.subject, "lines", f.outLines,
				"bytes", len(f.out))
		case errors.Is(err, ErrLinesRefused):
			f.shipper.dropped.Add(int64(f.outLines))
			f.shipper.log.Warn("log lines dropped: the manager does not know that this worker ran their function", "subject", f.subject,
				"lines", f.outLines)
		case err != nil:
			return err
		default:
			f.shipper.lines.Add(int64(f.outLines))
			f.shipper.batches.Add(1)
		}
		f.forget()
	}
	return nil
}

// encode makes the next message, unless one waits already. It reports false where there is nothing to send any more.
func (f *shelf) encode() bool {
	if f.out != nil {
		return true
	}
	if len(f.rest) == 0 {
		f.take()
	}
	if len(f.rest) == 0 {
		return false
	}
	limit := min(int64(shipMessage), f.shipper.nc.MaxPayload()*3/4)
	n, size := 0, int64(0)
	for n < len(f.rest) && n < shipLines {
		l := &f.rest[n]
		size += int64(len(l.Text) + len(l.RequestID) + len(l.ErrorMessage) + lineCost)
		if n > 0 && size > limit {
			break
		}
		f.outCost += cost(l)
		n++
	}
	out, err := schema.Marshal(schema.LogLines{V: schema.Version, Manager: f.shipper.cfg.Manager, Environment: f.environment, Lines: f.rest[:n]})
	if err != nil {
		panic(fmt.Sprintf("worker: log lines do not encode: %v", err))
	}
	f.out, f.outLines, f.rest = out, n, f.rest[n:]
	return true
}

// take takes the lines that are there.
func (f *shelf) take() {
	if f.whole != nil {
		if cap(*f.whole) <= shelfMost {
			clear(*f.whole)
			*f.whole = (*f.whole)[:0]
			shelves.Put(f.whole)
		}
		f.whole, f.rest = nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sayDropped(time.Now())
	f.listed = f.lines != nil
	if f.lines == nil {
		return
	}
	f.whole, f.rest = f.lines, *f.lines
	f.lines, f.bytes = nil, 0
}

// forget frees what the message counted for.
func (f *shelf) forget() {
	f.shipper.used.Add(-f.outCost)
	f.mu.Lock()
	f.held -= f.outCost
	f.mu.Unlock()
	f.out, f.outLines, f.outCost = nil, 0, 0
}

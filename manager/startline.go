package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager/pace"
)

// The start line (DESIGN 3): in the stream = not started; gone = may have started.
//
//	sure   +ACK is written out to the server, on the connection on which the claim came; then the call starts
//	doubt  STREAM.MSG.DELETE of the call's sequence succeeds; exactly one of several wins it; then the call starts
//
// In doubt is a claim that was delivered before, that may have sat unseen for longer than [unseen], that is close to its
// start-by, whose age cannot be judged, or that came while the server did not answer (flow.go).
const (
	ackWait   = topology.AckWait       // after it the server gives an unacknowledged call to another
	unseen    = time.Second            // a claim that may have been looked at later than this after its arrival is in doubt
	nearStart = 250 * time.Millisecond // to the start-by: the frontend may be deleting it
	jump      = 100 * time.Millisecond // by which the base of ages may move unnoticed
	ageWindow = time.Minute            // over which the smallest difference is taken
	lockWait  = 2 * time.Second        // for the answer of a lock, at least; see patience
	lockMost  = 5 * time.Minute        // at most
	writeNap  = 100 * time.Microsecond // between looks at whether an ack has been written out, after the first thousand
	mine      = ackWait - unseen       // how long after the server heard of it last a claim is surely nobody else's
	nearlyOut = mine - 500*time.Millisecond
	later     = pace.Later      // until a caught call that nobody could take comes again, at first
	stampSlop = 4 * time.Second // a message's TTL removes it within start-by + 3 s: an older age is a wrong clock
)

// ages judges how old a claim is without comparing the clocks of two hosts: it takes the smallest difference between the
// own monotonic clock and the stream's timestamps, over the last minute, as the difference of a call that just came.
type ages struct {
	mu        sync.Mutex
	this, old int64         // smallest differences of this half of the window and of the one before, ns
	has, had  bool          // whether there are any
	turned    time.Duration // when this half began
	base      int64         // as the last call was judged by
	unsure    time.Duration // until then the base is not trusted, for it is new or moved
	last      uint64        // highest sequence of a claim; kept by reset
}

// judge gives the age of a message with this timestamp, at this moment of the own monotonic clock, and whether it can be
// relied on. budget is the longest that a message lives.
func (a *ages) judge(stamp int64, sequence uint64, now, budget time.Duration) (age time.Duration, sure bool) {
	diff := int64(now) - stamp
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = max(a.last, sequence)
	switch half := now - a.turned; {
	case half > ageWindow:
		a.has, a.had, a.turned = false, false, now
	case half > ageWindow/2:
		a.old, a.had, a.has, a.turned = a.this, a.has, false, now
	}
	known := a.has || a.had
	if !a.has || diff < a.this {
		a.this, a.has = diff, true
	}
	base := a.this
	if a.had {
		base = min(base, a.old)
	}
	if time.Duration(diff-base) > budget+stampSlop {
		// No message lives that long: the server's clock was set back, and every smaller difference is void.
		a.this, a.had, base = diff, false, diff
	}
	if !known || abs(base-a.base) > int64(jump) {
		a.unsure = now + unseen
	}
	a.base = base
	return time.Duration(diff - base), now >= a.unsure
}

// stamp is what the server would write on a message that comes now, and whether that is known.
func (a *ages) stamp(now time.Duration) (int64, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(now) - a.base, a.has || a.had
}

// reset forgets everything.
func (a *ages) reset() {
	a.mu.Lock()
	a.has, a.had = false, false
	a.mu.Unlock()
}

func abs(v int64) int64 { return max(v, -v) }

// pulse notices that this process did not run for a while, as after SIGSTOP or a host's suspension: what had been
// delivered before may be with others by now.
type pulse struct {
	last    atomic.Int64 // monotonic ns of the last beat
	suspect atomic.Int64 // until then every claim is in doubt
	gaps    atomic.Uint64
}

// beat is called regularly. The gap is noted before the beat is stored, so that no claim sees a fresh beat without it.
func (p *pulse) beat(now time.Duration) {
	if p.late(now) {
		p.gaps.Add(1)
		p.doubt(now)
	}
	p.last.Store(int64(now))
}

// doubt makes every claim of the next while take the lock.
func (p *pulse) doubt(now time.Duration) { p.suspect.Store(int64(now + ackWait + unseen)) }

// late reports whether the last beat is too long ago: this process stands still, or has just gone on.
func (p *pulse) late(now time.Duration) bool { return now-time.Duration(p.last.Load()) > unseen }

func (p *pulse) doubtful(now time.Duration) bool { return p.late(now) || int64(now) < p.suspect.Load() }

// line is what became of an attempt to cross the start line.
type line uint8

const (
	crossed line = iota + 1 // it is ours: start it
	lost                    // it is another's, or gone
	unclear                 // nothing may start: the connection is down or did not answer
)

// cross acknowledges a claim that is not in doubt and returns when the acknowledgement has been written out.
func (m *Manager) cross(c *claim) line {
	if !m.nc.IsConnected() {
		return unclear
	}
	if err := m.nc.Publish(c.ackReply, ackBody); err != nil {
		return unclear
	}
	return m.over(c, m.writtenOut(c.touched+mine))
}

// over is what became of a claim whose acknowledgement was published, and written out or not.
func (m *Manager) over(c *claim, written bool) line {
	now := m.now()
	if !written || m.reconnects() != c.reconnects || now > c.touched+mine || now-c.came > c.call.StartBy-c.age {
		// Suspended between looking and writing, or the connection broke: the call may be another's by now, or have been
		// taken out at its start-by. Not starting it is the side on which it runs at most once.
		return unclear
	}
	return crossed
}

// writtenOut waits until everything published so far has left for the server, at most until a moment of the own clock. It
// does not wait for an answer: 4 us against 16 for a flush (measured).
func (m *Manager) writtenOut(until time.Duration) bool {
	if m.cfg.Written != nil {
		return m.writtenInside(until)
	}
	most, err := m.nc.Buffered()
	for spin := 0; err == nil && most > 0; spin++ {
		if spin < 1000 {
			runtime.Gosched()
		} else if time.Sleep(writeNap); m.now() > until {
			return false
		}
		var left int
		if left, err = m.nc.Buffered(); left < most {
			break // it only shrinks by being written out, all at once
		}
		most = left // others write too: by the next look it may have been written out and be as full as at first
	}
	return err == nil && m.nc.IsConnected()
}

// writtenInside is writtenOut where the connection tells of its writes. Who yields instead goes behind everybody whom the
// acknowledgement wakes: on one core the server had looked for it through all consumers of the stream before its call could start.
func (m *Manager) writtenInside(until time.Duration) bool {
	next := m.cfg.Written() // before the look, so that no write is missed between the two
	left, err := m.nc.Buffered()
	if err == nil && left > 0 {
		timeout := time.NewTimer(until - m.now())
		defer timeout.Stop()
		select {
		case <-next: // nats.go writes all that it has at once
		case <-timeout.C:
			return false
		}
	}
	return err == nil && m.nc.IsConnected()
}

// patience is how long the answer of a lock is waited for. Who gives up may have won it: then the call is in no stream, nobody runs it,
// and its frontend can only say that it is lost. So a busy server gets as long as the call may start.
func (m *Manager) patience(c *claim) time.Duration {
	return min(max(lockWait, m.left(c)), lockMost)
}

// locking and unlocking bound the time in which the call of a claim may be this manager's and nobody knows it yet: beats say so.
func (m *Manager) locking(c *claim) {
	m.mu.Lock()
	m.locks[c] = m.now()
	m.mu.Unlock()
}

func (m *Manager) unlocking(c *claim) {
	m.mu.Lock()
	delete(m.locks, c)
	m.mu.Unlock()
}

// lock takes a call in doubt out of the stream; exactly one of several that try succeeds.
func (m *Manager) lock(ctx context.Context, c *claim) line {
	ctx, cancel := context.WithTimeoutCause(ctx, m.patience(c), errors.New("waiting for the lock of a call"))
	defer cancel()
	defer m.soonAfterReconnect(cancel)()
	if !m.nc.IsConnected() {
		return unclear
	}
	m.locking(c)
	defer m.unlocking(c)
	body := `{"seq":` + strconv.FormatUint(c.ack.StreamSeq, 10) + `,"no_erase":true}`
	msg, err := m.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE."+c.ack.Stream, []byte(body))
	if err != nil {
		m.log.Warn("lock a call", telemetry.LogCall(c.call.RequestID, c.call.Traceparent), "error", err)
		return unclear
	}
	var answer struct {
		Success bool `json:"success"`
		Error   *struct {
			Code        uint16 `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		m.log.Warn("lock a call", telemetry.LogCall(c.call.RequestID, c.call.Traceparent), "error", fmt.Errorf("read the answer: %w", err))
		return unclear
	}
	if answer.Success {
		m.count.locksWon.Add(1)
		return crossed
	}
	m.count.locksLost.Add(1)
	return lost
}

// Bodies of acknowledgements.
var (
	ackBody      = []byte("+ACK")
	termBody     = []byte("+TERM")
	progressBody = []byte("+WPI")
	nakBody      = []byte("-NAK")
	nakLaterBody = []byte(`-NAK {"delay":10000000}`)
)

// giveBack returns a claim that this manager cannot use: at once the first time (0.1 ms to the next rank), then after
// 10 ms, so that nobody loops on it.
func (m *Manager) giveBack(c *claim) {
	if c.ack.Delivered == 1 {
		m.giveBackNow(c)
		return
	}
	m.count.nacks.Add(1)
	c.traceEnd(telemetry.OutcomeGivenBack)
	c.story.Add(story.GivenBack(noUse, later))
	m.publish(c.ackReply, nakLaterBody)
}

// giveBackNow returns a claim at once.
func (m *Manager) giveBackNow(c *claim) {
	m.count.nacks.Add(1)
	c.traceEnd(telemetry.OutcomeGivenBack)
	c.story.Add(story.GivenBack(noUse, 0))
	m.publish(c.ackReply, nakBody)
}

// giveBackLater returns a caught claim for a moment; see [pace.Again].
func (m *Manager) giveBackLater(c *claim) {
	delay := pace.Again(c.ack.Delivered)
	m.count.nacks.Add(1)
	c.traceEnd(telemetry.OutcomeGivenBack)
	c.story.Add(story.GivenBack(noRoom, delay))
	m.publish(c.ackReply, fmt.Appendf(nil, `-NAK {"delay":%d}`, int64(delay)))
}

// publish sends what nobody waits for; an error means that the connection has been closed.
func (m *Manager) publish(subject string, body []byte) {
	if err := m.nc.Publish(subject, body); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("publish", "subject", subject, "error", err)
	}
}

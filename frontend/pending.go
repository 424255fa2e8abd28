package frontend

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// shards spread the lock of the calls in flight.
const shards = 64

// call is one call in flight. What stands above mu's line is written before the call is known to others and never
// changed; the rest is guarded by its shard.
type call struct {
	token     uint64
	version   *version
	tenant    string
	requestID string
	attempt   uint32
	reply     string        // of a NATS caller, whom the worker answers; "" where waiter waits
	startBy   time.Duration // from its publication
	published uint64        // tick of its publication
	hopeless  time.Time     // by then it has ended if it ever started, even where nobody can tell
	repeats   bool          // its payload may be asked for after its start: it can be published again, or is an event's
	limited   bool          // it counts to its sub-tenant's calls (tenantcalls.go)

	span  telemetry.Span // of the whole call; ended by whoever takes it out of the pending calls
	story story.Call
	tries int           // of an event that was joined: those that it has had
	feed  *console.Feed // that hears of its end, where somebody watches

	// Only of idempotent functions: what to publish again, and until when.
	again  *schema.Call
	giveUp time.Time

	// Below: guarded by the shard's mu.
	waiter   func(ended)   // tells the door in this process that waits; nil once it has gone or has its answer
	asked    chan struct{} // of an event that may run already: closed once somebody tells of it; nil then
	arc      int           // number of its unreserved arc, where reserved is nil
	reserved *reservation  // whose arc it was published on last, as far as is known
	reason   schema.Reason // why there
	fallback *fallback     // until a shard has taken it: what to do where it does not
	stream   *stream       // that its message is in, or was sent to
	floor    uint64        // that stream had reached this sequence before it: see streamLost
	sequence uint64        // in it; 0 until the PubAck is here
	expired  bool          // its start-by has come
	deleting bool          // a delete is on its way
	beat     uint64        // tick of the last beat that named it; 0: none did
	manager  string        // that beat's
	late     bool          // that beat said that it has ended: no other one is a sign of life
	seen     uint64        // tick at which it was last found in the stream
	gone     uint64        // tick at which it was found to be gone from the stream: it may have started
	locked   uint64        // tick of the last beat whose sender tried to take it out of the stream, and did not know yet
	over     uint64        // tick of its end, told before its answer was here
	how      how           // it ended
	payload  []byte        // held for whoever claims it; nil where its message carries it (held.go)
	holds    int           // bytes of payload that count as held
}

// ended is what a door in this process waits for. Whoever tells it holds no lock, and the door does not block.
type ended struct {
	answer *nats.Msg
	err    error
	lost   bool // answer says that the call is lost
}

// pending is the calls in flight, by token. It is safe for concurrent use.
type pending struct {
	limit   int64
	count   atomic.Int64
	held    held
	failed  atomic.Uint64 // that were answered with a function's error
	changed chan struct{} // holds one: C of a version changed that other frontends count
	shards  [shards]shard
}

type shard struct {
	mu    sync.Mutex
	calls map[uint64]*call
	_     [40]byte // one cache line each
}

func newPending(limit int, bytes int64) *pending {
	p := &pending{limit: int64(limit), held: held{limit: bytes}, changed: make(chan struct{}, 1)}
	for i := range p.shards {
		p.shards[i].calls = make(map[uint64]*call)
	}
	return p
}

func (p *pending) shard(token uint64) *shard { return &p.shards[token%shards] }

// enter counts a call in, or reports false when there are too many. It gives C of its version at this frontend with the call
// itself: of calls that come at once each has a number of its own.
func (p *pending) enter(c *call) (inFlight int64, ok bool) {
	if p.count.Add(1) > p.limit {
		p.count.Add(-1)
		return 0, false
	}
	return p.tally(c.version, 1), true
}

// add makes a call known that was counted in.
func (p *pending) add(c *call) {
	s := p.shard(c.token)
	s.mu.Lock()
	s.calls[c.token] = c
	s.mu.Unlock()
}

// tally changes C of a version, and has it told where others count it.
func (p *pending) tally(v *version, by int64) int64 {
	n := v.tally.calls.Add(by)
	if v.tally.shared() {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
	return n
}

// uncount takes a call out of C of its version and of its sub-tenant's calls.
func (p *pending) uncount(c *call) {
	p.tally(c.version, -1)
	c.leaveTenant()
}

// with runs do on a call under its lock, if it is in flight. do must not block; it reports whether the call leaves, and
// then with gives it back.
func (p *pending) with(token uint64, do func(*call) (leaves bool)) *call {
	s := p.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[token]
	if c == nil || !do(c) {
		return nil
	}
	p.leave(s, c)
	return c
}

// done is [pending.with] for calls that leave because all is well.
func (p *pending) done(token uint64, do func(*call) (leaves bool)) {
	if c := p.with(token, do); c != nil {
		c.settle()
		c.span.End()
	}
}

// each runs do on every call, a shard at a time, under its lock, and gives back those that leave, in that order.
func (p *pending) each(do func(*call) (leaves bool)) (left []*call) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for _, c := range s.calls {
			if do(c) {
				p.leave(s, c)
				left = append(left, c)
			}
		}
		s.mu.Unlock()
	}
	return left
}

// leave is called with the shard locked.
func (p *pending) leave(s *shard, c *call) {
	delete(s.calls, c.token)
	p.count.Add(-1)
	p.held.give(c)
	if c.over == 0 {
		p.uncount(c)
	}
}

// take removes a call and gives it to the caller, who alone answers it; nil if it is not in flight. A call that a beat
// has named, or whose end was told, is left where it is if an unstarted one is asked for.
func (p *pending) take(token uint64, unstarted bool) *call {
	return p.with(token, func(c *call) bool { return !unstarted || c.beat == 0 && c.over == 0 })
}

// end takes in the notice that a call has ended. C falls at once; a call whose answer is still to pass through this
// frontend stays until then.
func (p *pending) end(token, tick uint64, h how) {
	p.done(token, func(c *call) bool {
		c.told()
		if c.how = h; h.failed() {
			p.failed.Add(1)
		}
		if c.over != 0 {
			return false
		}
		c.story.Add(story.Ended(c.publication()))
		if c.waiter == nil {
			return true
		}
		c.over = tick
		p.uncount(c)
		return false
	})
}

// answered gives a call's answer to the door that waits for it, and reports false if none does. It is the call's end too: what
// passes through here is told by no other notice.
func (p *pending) answered(token uint64, m *nats.Msg) bool {
	var waiter func(ended)
	if len(m.Header[schema.HeaderFunctionError]) > 0 {
		p.failed.Add(1)
	}
	if c := p.with(token, func(c *call) bool {
		c.told()
		c.storyAnswered(m)
		waiter, c.waiter = c.waiter, nil
		return c.reply == ""
	}); c != nil {
		if c.feed.Watched() {
			c.how = howAnswered(m)
		}
		c.settle()
		c.concluded(m)
	}
	if waiter != nil {
		waiter(ended{answer: m})
	}
	return waiter != nil
}

// told wakes whoever asked for the call. It is called with the shard locked.
func (c *call) told() {
	if c.asked != nil {
		close(c.asked)
		c.asked = nil
		c.story.Add(story.Joined(c.publication(), c.tries))
	}
}

// abandon forgets the door that waited: its caller has gone. The call goes on, and is counted until it ends.
func (p *pending) abandon(token uint64) {
	p.done(token, func(c *call) bool {
		c.waiter = nil
		c.span.Event(telemetry.EventGone, "", "")
		c.story.Add(story.Abandoned(c.publication()))
		return c.over != 0
	})
}

// named takes in a beat: the manager runs these calls, and has run the late ones. A payload that it has, and that nobody will
// ask for again, is let go: a call may run for 15 minutes.
func (p *pending) named(b *schema.Beat, tick uint64) {
	for _, token := range b.Tokens {
		p.with(token, func(c *call) bool {
			c.told()
			if c.beat == 0 {
				c.story.Add(story.Named(c.publication(), b.Manager))
			}
			c.beat, c.manager = tick, b.Manager
			if !c.repeats {
				p.held.give(c)
				c.payload = nil
			}
			return false
		})
	}
	for _, token := range b.Locks {
		p.with(token, func(c *call) bool {
			c.locked = tick
			return false
		})
	}
	for _, token := range b.Late {
		p.with(token, func(c *call) bool {
			c.told()
			if !c.late { // it is said for a while; the wait for an answer that may be lost begins with the first time
				c.late, c.beat, c.manager = true, tick, b.Manager
			}
			return false
		})
	}
}

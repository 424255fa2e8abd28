package frontend

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
)

const (
	// looksPerTick and deletesPerTurn bound what this frontend asks of JetStream's API, whose queue holds 10,000 for all.
	looksPerTick   = 256
	deletesPerTurn = 100

	askAgain  = time.Second            // an unanswered delete is sent again
	unheard   = 2                      // ticks without a PubAck: who publishes to a stream that is being deleted, or whose server is gone, hears nothing
	notNow    = 100 * time.Millisecond // a delete that cannot be sent yet is tried again
	deleteAPI = "$JS.API.STREAM.MSG.DELETE."
	lookAPI   = "$JS.API.STREAM.MSG.GET."
	streamAPI = "$JS.API.STREAM.INFO."
)

// expire is called on the wheel's goroutine at a call's start-by: the message is deleted by its sequence. Deleted means that nobody had started
// it, and nobody will; not found means that somebody did (DESIGN 3). A call whose PubAck is not here yet waits for it,
// and trouble on the way is tried again until the answer is known.
func (f *Frontend) expire(token uint64) {
	var sequence uint64
	var s *stream
	again := time.Duration(0)
	f.pending.with(token, func(c *call) bool {
		c.expired = true
		switch {
		case c.beat != 0, c.over != 0, c.gone != 0:
		case !f.clock.connected(), c.sequence == 0, f.deletes >= deletesPerTurn:
			again = notNow
		default:
			s, sequence, again = c.stream, c.sequence, askAgain
			c.deleting = true
		}
		return false
	})
	if again > 0 {
		f.startBys.add(token, again)
	}
	if sequence == 0 {
		return
	}
	f.deletes++
	f.deleteMessage(s, sequence, token)
}

// deleted takes in what became of the delete at a call's start-by; shard says that it was one in a shard of reserved arcs,
// and is nothing of a call that has been moved from there.
func (f *Frontend) deleted(token uint64, shard bool, m *nats.Msg) {
	var answer struct {
		Success bool    `json:"success"`
		Error   jsError `json:"error"`
	}
	if json.Unmarshal(m.Data, &answer) != nil {
		return // no responders, or nothing that an answer could be: asked again
	}
	switch code := answer.Error.ErrCode; {
	case answer.Success:
		c := f.pending.with(token, func(c *call) bool { return c.onShard() == shard && c.beat == 0 && c.over == 0 })
		if c != nil {
			f.refuse(c, full(f.notTaken(c)))
		}
	case code == jsSequenceNotFound || code == jsNoMessage:
		f.left(token, shard)
	case code == jsStreamNotFound:
		f.askStreamOf(token)
	}
	// Anything else (no responders, a leader that changes, the stream re-created): the wheel tries again, and a lost
	// stream is found after the reconnect.
}

// askStreamOf has the next sweep ask whether the stream of a call is there.
func (f *Frontend) askStreamOf(token uint64) {
	f.pending.with(token, func(c *call) bool {
		c.stream.asked.Store(true)
		return false
	})
}

// left notes that a call's message is not in its stream any more.
func (f *Frontend) left(token uint64, shard bool) {
	tick := f.clock.now()
	f.pending.with(token, func(c *call) bool {
		if c.gone == 0 && c.onShard() == shard {
			c.gone = tick
			c.story.Add(story.Gone(c.publication(), c.expired))
		}
		return false
	})
}

// notTaken says why nobody took a call until its start-by: most often for want of a free environment, but what is larger
// than every manager waits in vain whenever it is called.
func (f *Frontend) notTaken(c *call) string {
	places, memory := schema.Places(c.version.record.MemoryMB), c.version.record.MemoryMB
	if most := f.view.largest(); 0 < most && most < places {
		return fmt.Sprintf("its %d MB take %d places and no manager has more than %d: give the function less memory, or a manager more capacity",
			memory, places, most)
	}
	return "no environment was free within the start-by of " + c.startBy.String()
}

// verdict is what the sweep thinks of a call.
type verdict uint8

const (
	wait       verdict = iota
	look               // see whether its message is still in the stream
	askStream          // nothing was heard of its publication: see whether the stream is still there
	lost               // it may have run, and nobody will tell
	notStarted         // the stream was lost with it, and everybody says that it does not run
)

// moment is what a sweep knows beside the calls.
type moment struct {
	tick        uint64
	reconnected uint64                      // tick of the last reconnect
	beat        func(manager string) uint64 // tick of a manager's last beat
	spoke       func(since, published uint64) bool
	heard       func(since uint64) bool
}

// judge decides on one call, with its shard locked, from ticks of the connected clock alone. DESIGN 3, 6.
func (c *call) judge(now moment) verdict {
	since := func(tick uint64) uint64 { return now.tick - min(now.tick, tick) }
	switch {
	case c.over != 0: // it ended, its answer for our caller got lost
		if since(c.over) >= threeSeconds {
			return lost
		}
	case c.streamLost() && c.beat <= now.reconnected:
		known := max(now.reconnected, c.stream.changed.Load()) // from then on nobody starts it who has not
		quiet := since(max(known, c.published))
		switch {
		case c.beat == 0 && c.sequence == 0 && c.onShard() && unheard <= quiet && quiet < twoSeconds:
			return askStream // it may have been made again since
		case c.beat == 0 && quiet >= twoSeconds && now.spoke(known, c.published):
			// Whom a manager has named, ever, had started: a second reconnect soon after the first, when managers name no more
			// what ended, must not make that forgotten.
			return notStarted
		case quiet >= threeSeconds:
			return lost
		}
	case c.beat != 0:
		// Its manager is silent, or speaks on and names it no more.
		if last := now.beat(c.manager); since(c.beat) >= threeSeconds || last >= c.beat+twoSeconds {
			return lost
		}
	case c.gone != 0:
		// A catcher that won its lock may have moved it, and the PubAck of the copy, which comes at once, cannot have come where
		// this frontend was cut off. The copy outlives no more than any message, so until then it may wait unseen.
		unheard := c.onShard() && now.reconnected >= c.published && since(c.published) < c.outlives()
		// Who took it may be alive and slow to say so: nobody is passed over who has said nothing since, until he counts as gone.
		if since(max(c.gone, c.locked)) >= twoSeconds && !unheard && now.heard(c.gone) {
			return lost
		}
	case since(c.published) >= c.outlives():
		// The PubAck or the answers to the delete got lost. The message has outlived its time to live, so that it starts
		// no more; it may have.
		c.gone = now.tick
	case c.sequence != 0 && !c.deleting && since(max(c.published, c.seen)) >= twoSeconds:
		return look
	case c.sequence == 0 && since(c.published) >= unheard:
		return askStream
	}
	return wait
}

// outlives is how many ticks after its publication a call's message has surely been removed by its time to live.
func (c *call) outlives() uint64 {
	return uint64((c.startBy+ttlGrace*time.Second)/tickTime) + twoSeconds
}

// streamLost reports whether the stream that held the call's message is gone: the one that is there now begins with
// sequences that were not reached when the call was published (DESIGN 9, first_seq).
func (c *call) streamLost() bool {
	first := c.stream.first.Load()
	if c.sequence != 0 {
		return c.sequence < first
	}
	return c.floor < first
}

// sweep judges every call, once a tick.
func (f *Frontend) sweep() {
	f.askAgain()
	f.view.tick(f.clock.now())
	now := moment{
		tick: f.clock.now(), reconnected: f.clock.reconnected.Load(),
		beat: f.view.lastBeat, spoke: f.view.spoke, heard: f.view.heard,
	}
	type question struct {
		stream          *stream
		sequence, token uint64
	}
	var questions []question
	var verdicts []verdict
	out := f.pending.each(func(c *call) bool {
		switch v := c.judge(now); v {
		case askStream:
			c.stream.asked.Store(true) // by the next sweep
		case look:
			if len(questions) < looksPerTick {
				c.seen = now.tick          // not again for a while, whatever becomes of the question
				c.stream.asked.Store(true) // where its server is gone, or somebody deleted it, there may be another by now
				questions = append(questions, question{c.stream, c.sequence, c.token})
			}
		case lost, notStarted:
			verdicts = append(verdicts, v)
			return true
		}
		return false
	})
	for _, q := range questions {
		if err := f.lookAt(q.stream, q.sequence, q.token); err != nil {
			f.log.Debug("look at the stream not sent", "error", err)
			break
		}
	}
	for i, c := range out {
		if verdicts[i] == notStarted {
			f.refuse(c, &schema.Error{
				Code: schema.CodeUnavailable, Message: "the stream that held the call is gone: the NATS server was restarted, or somebody deleted it, before an environment took the call",
			})
		} else {
			f.lose(c)
		}
	}
}

// away is called each tick while this frontend is cut off. Nothing can be found out then, and NATS callers cannot be
// told anything; but whoever waits here is not kept past the moment at which his call must have ended.
func (f *Frontend) away() {
	now := time.Now()
	for _, c := range f.pending.each(func(c *call) bool { return c.waiter != nil && now.After(c.hopeless) }) {
		f.lose(c)
	}
}

// looked takes in whether a call's message is still in the stream.
func (f *Frontend) looked(token uint64, shard bool, m *nats.Msg) {
	e, failed := apiError(m.Data)
	switch {
	case !failed: // still there
	case e.ErrCode == jsNoMessage:
		f.left(token, shard)
	case e.ErrCode == jsStreamNotFound:
		f.askStreamOf(token)
	} // anything else is not known: looked at again
}

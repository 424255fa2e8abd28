package frontend

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

const (
	// looksPerTick and deletesPerTurn bound what this frontend asks of JetStream's API, whose queue holds 10,000 for all.
	looksPerTick   = 256
	deletesPerTurn = 100

	askAgain  = time.Second            // an unanswered delete is sent again
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
	again := time.Duration(0)
	f.pending.with(token, func(c *call) bool {
		switch {
		case c.beat != 0, c.over != 0, c.gone != 0:
		case !f.clock.connected(), c.sequence == 0, f.deletes >= deletesPerTurn:
			again = notNow
		default:
			sequence, again = c.sequence, askAgain
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
	body := append(strconv.AppendUint([]byte(`{"seq":`), sequence, 10), `,"no_erase":true}`...)
	if err := f.nc.PublishMsg(&nats.Msg{Subject: f.deleteSubject, Reply: tokenSubject(f.deleteInbox, token), Data: body}); err != nil {
		f.log.Debug("delete at start-by not sent, will be tried again", "error", err)
	}
}

// deleted takes in what became of the delete at a call's start-by.
func (f *Frontend) deleted(token uint64, m *nats.Msg) {
	var answer struct {
		Success bool    `json:"success"`
		Error   jsError `json:"error"`
	}
	if json.Unmarshal(m.Data, &answer) != nil {
		return // no responders, or nothing that an answer could be: asked again
	}
	switch code := answer.Error.ErrCode; {
	case answer.Success:
		if c := f.pending.take(token, true); c != nil {
			f.refuse(c, full(f.notTaken(c)))
		}
	case code == jsSequenceNotFound || code == jsNoMessage:
		tick := f.clock.now()
		f.pending.with(token, func(c *call) bool {
			if c.gone == 0 {
				c.gone = tick
			}
			return false
		})
	}
	// Anything else (no responders, a leader that changes, the stream re-created): the wheel tries again, and a lost
	// stream is found after the reconnect.
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
	lost               // it may have run, and nobody will tell
	notStarted         // the stream was lost with it, and everybody says that it does not run
)

// moment is what a sweep knows beside the calls.
type moment struct {
	tick        uint64
	reconnected uint64                      // tick of the last reconnect
	streamFirst uint64                      // first sequence of the stream that is there now; 0: not known
	beat        func(manager string) uint64 // tick of a manager's last beat
	spoke       func(since, published uint64) bool
}

// judge decides on one call, with its shard locked, from ticks of the connected clock alone. DESIGN 3, 6.
func (c *call) judge(now moment) verdict {
	since := func(tick uint64) uint64 { return now.tick - min(now.tick, tick) }
	switch {
	case c.over != 0: // it ended, its answer for our caller got lost
		if since(c.over) >= threeSeconds {
			return lost
		}
	case c.streamLost(now.streamFirst) && c.beat <= now.reconnected:
		quiet := since(max(now.reconnected, c.published))
		switch {
		case c.beat == 0 && quiet >= twoSeconds && now.spoke(now.reconnected, c.published):
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
		if since(c.gone) >= twoSeconds {
			return lost
		}
	case since(c.published) >= uint64((c.startBy+ttlGrace*time.Second)/tickTime)+twoSeconds:
		// The PubAck or the answers to the delete got lost. The message has outlived its time to live, so that it starts
		// no more; it may have.
		c.gone = now.tick
	case c.sequence != 0 && !c.deleting && since(max(c.published, c.seen)) >= twoSeconds:
		return look
	}
	return wait
}

// streamLost reports whether the stream that held the call's message is gone: the one that is there now begins with
// sequences that were not reached when the call was published (DESIGN 9, first_seq).
func (c *call) streamLost(first uint64) bool {
	if c.sequence != 0 {
		return c.sequence < first
	}
	return c.floor < first
}

// sweep judges every call, once a tick.
func (f *Frontend) sweep() {
	if f.streamFirst.Load() == 0 || f.streamAsked.Load() {
		f.askStream()
	}
	f.view.tick(f.clock.now())
	now := moment{
		tick: f.clock.now(), reconnected: f.clock.reconnected.Load(), streamFirst: f.streamFirst.Load(),
		beat: f.view.lastBeat, spoke: f.view.spoke,
	}
	type question struct{ token, sequence uint64 }
	var questions []question
	var verdicts []verdict
	out := f.pending.each(func(c *call) bool {
		switch v := c.judge(now); v {
		case look:
			if len(questions) < looksPerTick {
				c.seen = now.tick // not again for a while, whatever becomes of the question
				questions = append(questions, question{c.token, c.sequence})
			}
		case lost, notStarted:
			verdicts = append(verdicts, v)
			return true
		}
		return false
	})
	for _, q := range questions {
		body := append(strconv.AppendUint([]byte(`{"seq":`), q.sequence, 10), '}')
		if err := f.nc.PublishRequest(f.lookSubject, tokenSubject(f.lookInbox, q.token), body); err != nil {
			f.log.Debug("look at the stream not sent", "error", err)
			break
		}
	}
	for i, c := range out {
		if verdicts[i] == notStarted {
			f.refuse(c, &schema.Error{
				Code: schema.CodeUnavailable, Message: "the NATS server was restarted before an environment took the call",
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
func (f *Frontend) looked(token uint64, m *nats.Msg) {
	if e, failed := apiError(m.Data); !failed || e.ErrCode != jsNoMessage {
		return // still there, or not known: looked at again
	}
	tick := f.clock.now()
	f.pending.with(token, func(c *call) bool {
		if c.gone == 0 {
			c.gone = tick
		}
		return false
	})
}

// back is called after a reconnect: the stream of calls may be another one.
func (f *Frontend) back() {
	f.streamAsked.Store(true)
	f.askStream()
}

// askStream asks for the stream of calls. It is repeated each tick until there is an answer.
func (f *Frontend) askStream() {
	f.streamAsked.Store(true)
	if err := f.nc.PublishRequest(f.streamSubject, f.streamInbox, nil); err != nil {
		f.log.Debug("question for the stream not sent", "error", err)
	}
}

// streamSeen takes in the answer to [Frontend.askStream].
func (f *Frontend) streamSeen(m *nats.Msg) {
	var info struct {
		Config struct {
			Name     string `json:"name"`
			FirstSeq uint64 `json:"first_seq"`
		} `json:"config"`
		State struct {
			FirstSeq uint64 `json:"first_seq"`
			LastSeq  uint64 `json:"last_seq"`
		} `json:"state"`
		Error *jsError `json:"error"`
	}
	if len(m.Data) == 0 || json.Unmarshal(m.Data, &info) != nil || info.Error != nil || info.Config.Name != f.names.CallsU() {
		return // not there yet: managers make it on their reconnect
	}
	f.streamFirst.Store(max(info.Config.FirstSeq, 1))
	f.lastSequence.Store(max(f.lastSequence.Load(), info.State.LastSeq))
	f.streamAsked.Store(false)
}

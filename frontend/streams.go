package frontend

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/subjects"
)

// gone is the first sequence of a stream that is not there: whatever was in it is lost.
const gone = math.MaxUint64

// stream is one stream of calls as this frontend knows it: one of unreserved arcs, or a shard of reserved ones. The former are known
// from the start, a shard from the first reservation that needs it, all for ever: there are at most 72. Safe for concurrent use.
type stream struct {
	name                                    string
	number                                  uint64 // its place in streams
	reserved                                bool   // it is a shard
	deleteSubject, lookSubject, infoSubject string
	deleteInbox, lookInbox, infoInbox       string // the first two go on with a call's token

	// Written by the goroutine of the inboxes alone.
	last    atomic.Uint64 // highest sequence seen here
	first   atomic.Uint64 // at its creation: tells one stream from its successor; 0: not known; or gone
	changed atomic.Uint64 // tick at which another one was found, or none: from then on nobody claims from the one before

	asked atomic.Bool // a question for it is open
}

// streams are all that may be: those of unreserved arcs, then the shards.
type streams [subjects.UnreservedStreams + subjects.MaxShards]atomic.Pointer[stream]

// stream gives the stream of a number.
func (f *Frontend) stream(number int) *stream {
	if s := f.streams[number].Load(); s != nil {
		return s
	}
	name, deleted, looked := f.names.CallsU(number), kindDelete, kindLook
	reserved := number >= subjects.UnreservedStreams
	if reserved {
		name, deleted, looked = f.names.CallsR(number-subjects.UnreservedStreams), kindDeleteReserved, kindLookReserved
	}
	f.streams[number].CompareAndSwap(nil, &stream{
		name: name, number: uint64(number), reserved: reserved,
		deleteSubject: deleteAPI + name, lookSubject: lookAPI + name, infoSubject: streamAPI + name,
		deleteInbox: f.inbox + string(deleted) + ".", lookInbox: f.inbox + string(looked) + ".",
		infoInbox: tokenSubject(f.inbox+string(kindStream)+".", uint64(number)),
	})
	return f.streams[number].Load()
}

// shard is the stream of a shard of reserved arcs.
func (f *Frontend) shard(n int) *stream { return f.stream(subjects.UnreservedStreams + n) }

// streamOf is the stream of an unreserved arc.
func (f *Frontend) streamOf(arc int) *stream { return f.stream(arc % subjects.UnreservedStreams) }

// streamNamed is the stream of this name, nil if it is none of calls. For those of calls in flight it allocates nothing.
func (f *Frontend) streamNamed(name []byte) *stream {
	for number := range subjects.UnreservedStreams {
		if u := f.stream(number); u.name == string(name) {
			return u
		}
	}
	prefix := len(f.shardPrefix)
	if len(name) <= prefix || len(name) > prefix+2 || string(name[:prefix]) != f.shardPrefix {
		return nil
	}
	n := 0
	for _, c := range name[prefix:] {
		if c < '0' || c > '9' {
			return nil
		}
		n = 10*n + int(c-'0')
	}
	if n >= subjects.MaxShards {
		return nil
	}
	if s := f.shard(n); s.name == string(name) {
		return s
	}
	return nil
}

// floor is what the stream had surely reached by now. Where none was there it is as much as a number can be: who publishes then is lost if
// there is none, and never with one that is made meanwhile.
func (s *stream) floor() uint64 { return max(s.last.Load(), min(s.first.Load(), gone-1)) }

// saw takes in the sequence of a message that was just stored. One that is stored in a stream that was gone says that there is
// another.
func (f *Frontend) saw(s *stream, sequence uint64) {
	s.last.Store(max(s.last.Load(), sequence))
	if s.first.Load() == gone {
		s.first.Store(0)
		f.ask(s)
	}
}

// back is called after a reconnect: the streams of calls may be others.
func (f *Frontend) back() {
	f.eachStream(func(s *stream) { f.ask(s) })
}

// askAgain asks for the streams of which nothing is known yet, each tick until there is an answer.
func (f *Frontend) askAgain() {
	f.eachStream(func(s *stream) {
		if s.first.Load() == 0 || s.asked.Load() {
			f.ask(s)
		}
	})
}

func (f *Frontend) eachStream(do func(*stream)) {
	for i := range f.streams {
		if s := f.streams[i].Load(); s != nil {
			do(s)
		}
	}
}

// ask asks the server for a stream.
func (f *Frontend) ask(s *stream) {
	s.asked.Store(true)
	if err := f.nc.PublishRequest(s.infoSubject, s.infoInbox, nil); err != nil {
		f.log.Debug("question for a stream not sent", "stream", s.name, "error", err)
	}
}

// streamSeen takes in the answer to [Frontend.ask].
func (f *Frontend) streamSeen(number uint64, m *nats.Msg) {
	if number >= uint64(len(f.streams)) {
		return
	}
	s := f.streams[number].Load()
	var info struct {
		Config struct {
			Name     string `json:"name"`
			FirstSeq uint64 `json:"first_seq"`
		} `json:"config"`
		State struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
		Error *jsError `json:"error"`
	}
	if s == nil || len(m.Data) == 0 || json.Unmarshal(m.Data, &info) != nil {
		return // nobody answers for streams: asked again
	}
	switch {
	case info.Error != nil:
		// Those of unreserved arcs are made by managers on their reconnect and always will be; a shard may never be again. What it held is lost.
		if info.Error.ErrCode == jsStreamNotFound && s.reserved {
			f.found(s, gone)
			s.asked.Store(false)
		}
	case info.Config.Name == s.name:
		f.found(s, max(info.Config.FirstSeq, 1))
		s.last.Store(max(s.last.Load(), info.State.LastSeq))
		s.asked.Store(false)
	}
}

// found takes in which stream is there. Called by the goroutine of the inboxes alone.
func (f *Frontend) found(s *stream, first uint64) {
	if s.first.Load() != first {
		s.changed.Store(f.clock.now())
		s.first.Store(first)
	}
}

// deleteMessage sends the delete of a call's message at its start-by, lookAt the question whether it is still there. The
// inboxes of the answers say whether they are of a shard: a call that was moved has another message on its unreserved arc.
func (f *Frontend) deleteMessage(s *stream, sequence, token uint64) {
	body := append(strconv.AppendUint([]byte(`{"seq":`), sequence, 10), `,"no_erase":true}`...)
	if err := f.nc.PublishMsg(&nats.Msg{Subject: s.deleteSubject, Reply: tokenSubject(s.deleteInbox, token), Data: body}); err != nil {
		f.log.Debug("delete at start-by not sent, will be tried again", "error", err)
	}
}

func (f *Frontend) lookAt(s *stream, sequence, token uint64) error {
	body := append(strconv.AppendUint([]byte(`{"seq":`), sequence, 10), '}')
	return f.nc.PublishRequest(s.lookSubject, tokenSubject(s.lookInbox, token), body)
}

// shardPrefix is what the names of all shards' streams begin with.
func shardPrefix(names subjects.Names) string { return strings.TrimSuffix(names.CallsR(0), "0") }

// arcName is the short name of the arc that a call was published on last.
func (c *call) arcName() string {
	if c.reserved != nil {
		return c.reserved.name
	}
	return subjects.UnreservedName(c.arc)
}

// onShard reports whether the call's message is, as far as is known, in a shard of reserved arcs.
func (c *call) onShard() bool { return c.reserved != nil }

package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Every is how often an owner has its links beat.
const Every = 200 * time.Millisecond

// Bounds of what is kept for a peer that does not acknowledge, far above what environments can have under way.
const (
	maxKept  = 1 << 14
	maxBytes = 256 << 20
)

// What is received is acknowledged with whatever is sent, with the next beat, or once it is as much as this.
const (
	ackFrames = 512
	ackBytes  = 1 << 20
)

// askEvery is how soon what is missing is asked for again, and how soon something is sent again that was sent again before.
const askEvery = Every / 2

// ErrFull says that the peer acknowledges nothing any more.
var ErrFull = errors.New("the peer acknowledges nothing")

// ErrForeign says that a frame is none, or not of this link. What says so comes from whoever knows where the link listens.
var ErrForeign = errors.New("not a frame of this link")

// Link is one side of a link. Safe for concurrent use; frames are received by one goroutine.
type Link struct {
	session string
	publish func([]byte) error
	born    time.Time

	// out is held while frames are published, so that they leave in the order of their numbers. Publishing writes into the
	// connection's buffer; it waits only where that is full.
	out sync.Mutex

	mu       sync.Mutex // guards what follows
	last     uint64     // number of the last frame that was sent
	kept     [][]byte   // bodies that are not acknowledged: of last-len(kept)+1 to last
	bytes    int
	sentFrom uint64 // what was last sent again, from here
	sentAt   time.Duration

	had     uint64 // number of the last frame that was received in order
	lacks   bool   // the peer has sent more than that
	since   time.Duration
	asked   time.Duration // when what lacks was asked for
	frames  int           // received since the last acknowledgement
	size    int
	heard   time.Duration // when anything came last
	resends uint64
}

// New makes a side of the link with this session, which publishes frames by publish. An error of that is nothing to a link:
// what was not sent is asked for.
func New(session string, publish func([]byte) error) *Link {
	return &Link{session: session, publish: publish, born: time.Now()}
}

// Session is the link's name, which both sides put into every frame.
func (l *Link) Session() string { return l.session }

func (l *Link) now() time.Duration { return time.Since(l.born) }

// Send sends a body, which is the link's from then on. [ErrFull] means that it was not taken and the link is of no use any more.
func (l *Link) Send(body []byte) error {
	l.out.Lock()
	defer l.out.Unlock()
	l.mu.Lock()
	if len(l.kept) >= maxKept || l.bytes+len(body) > maxBytes {
		l.mu.Unlock()
		return ErrFull
	}
	l.last++
	l.kept = append(l.kept, body)
	l.bytes += len(body)
	f := l.frame(l.last, body)
	l.mu.Unlock()
	return l.write(f)
}

// frame is a frame that also acknowledges. The mutex is held.
func (l *Link) frame(number uint64, body []byte) schema.LinkFrame {
	l.frames, l.size = 0, 0
	f := schema.LinkFrame{V: schema.Version, Session: l.session, Number: number, Last: l.last, Ack: l.had, Body: body}
	if l.lacks {
		if now := l.now(); l.asked == 0 || now-l.asked >= askEvery {
			f.Again, l.asked = true, now
		}
	}
	return f
}

// write publishes a frame. Link.out is held.
func (l *Link) write(f schema.LinkFrame) error {
	b, err := schema.Marshal(f)
	if err != nil {
		return err
	}
	_ = l.publish(b) // see New
	return nil
}

// Beat tells the peer that this side lives, what it has and what it has sent.
func (l *Link) Beat() error {
	l.out.Lock()
	defer l.out.Unlock()
	l.mu.Lock()
	f := l.frame(0, nil)
	l.mu.Unlock()
	return l.write(f)
}

// Receive takes in a frame and gives its body if it is the next one, else nil. It answers at once where something is missing, and
// sends again what the peer asks for. [ErrForeign] is for what no peer of this link sends.
func (l *Link) Receive(data []byte) (body []byte, err error) {
	var f schema.LinkFrame
	if err := schema.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	l.mu.Lock()
	now := l.now()
	if f.Session != l.session || f.Ack > l.last || f.Number > f.Last {
		l.mu.Unlock()
		return nil, ErrForeign
	}
	l.heard = now
	l.acknowledged(f.Ack)
	switch next := f.Number != 0 && f.Number == l.had+1; {
	case next:
		l.had++
		if body = f.Body; body == nil {
			body = []byte{}
		}
		l.frames++
		l.size += len(body)
		l.lacks, l.since, l.asked = f.Last > l.had, now, now // what is sent again comes at once, one after the other
	case f.Last <= l.had:
		l.lacks = false
	case !l.lacks:
		l.lacks, l.since, l.asked = true, now, 0
	}
	reply := l.lacks && (l.asked == 0 || now-l.asked >= askEvery) || l.frames >= ackFrames || l.size >= ackBytes
	again := f.Again && (f.Ack != l.sentFrom || now-l.sentAt >= askEvery)
	if again {
		l.sentFrom, l.sentAt = f.Ack, now
	}
	l.mu.Unlock()
	if again {
		l.again(f.Ack)
	}
	if reply {
		_ = l.Beat() // encodes, as everything that it could fail by
	}
	return body, nil
}

// acknowledged forgets what the peer has. The mutex is held.
func (l *Link) acknowledged(ack uint64) {
	first := l.last - uint64(len(l.kept)) + 1
	if ack < first {
		return
	}
	n := int(ack - first + 1)
	for i, body := range l.kept[:n] {
		l.bytes -= len(body)
		l.kept[i] = nil
	}
	l.kept = l.kept[n:]
	if len(l.kept) == 0 {
		l.kept = nil
	}
}

// again sends everything after ack once more.
func (l *Link) again(ack uint64) {
	l.out.Lock()
	defer l.out.Unlock()
	l.mu.Lock()
	var frames []schema.LinkFrame
	for i, body := range l.kept {
		if number := l.last - uint64(len(l.kept)-i) + 1; number > ack {
			frames = append(frames, l.frame(number, body))
		}
	}
	l.resends += uint64(len(frames))
	l.mu.Unlock()
	for _, f := range frames {
		_ = l.write(f)
	}
}

// Heard is how long ago anything of the peer came, since the link was made if nothing did.
func (l *Link) Heard() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now() - l.heard
}

// Stuck is for how long something has been missing without that anything of it came.
func (l *Link) Stuck() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lacks {
		return 0
	}
	return l.now() - l.since
}

// Resends is how many frames were sent again, for tests and for people.
func (l *Link) Resends() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resends
}

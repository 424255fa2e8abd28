package manager

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// inbox is where the calls come that pulls bring: those of one generation, or those of many generations of reserved arcs that are
// renewed together (turns.go), which are told apart by the last token of their pulls' reply subjects.
type inbox struct {
	subject string
	shared  bool
	gens    []*generation          // nothing is added once it is listened to
	calls   map[string]*generation // of a shared one, by the subject of the calls
	once    sync.Once
	sub     *nats.Subscription // set by once
	line    lineup             // used on the subscription's goroutine; not of reserved arcs

	live   int  // generations that are not replaced; guarded by Manager.mu
	broken bool // one of many was replaced before its turn; guarded by Manager.mu
}

// add makes a generation's pulls come here.
func (i *inbox) add(g *generation) {
	g.at, g.reply = i, i.subject
	if i.shared {
		g.reply = i.subject[:len(i.subject)-1] + strconv.Itoa(len(i.gens))
		i.calls[g.arc.calls] = g
	}
	i.gens = append(i.gens, g)
	i.live++
}

// of is the generation whose pull brought a message, nil if none did: a call has the subject under which it lies in the stream, a
// status that of the pull's answers.
func (i *inbox) of(msg *nats.Msg) *generation {
	if !i.shared {
		return i.gens[0]
	}
	if g := i.calls[msg.Subject]; g != nil {
		return g
	}
	at, err := strconv.Atoi(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
	if err != nil || at < 0 || at >= len(i.gens) || msg.Subject != i.gens[at].reply {
		return nil
	}
	return i.gens[at]
}

// listen subscribes to an inbox. What comes to one of reserved arcs is taken in by the one goroutine of all of them (crowd.go), and to
// another by its own: there a claim may wait for KV.
func (m *Manager) listen(i *inbox) {
	var sub *nats.Subscription
	var err error
	if i.reserved() {
		if sub, err = m.nc.ChanSubscribe(i.subject, m.crowd.came); err == nil {
			m.crowd.add(sub, i)
		}
	} else {
		sub, err = m.nc.Subscribe(i.subject, func(msg *nats.Msg) {
			m.take(i, msg)
			if i.line.due(msg.Sub) {
				m.crossTogether(&i.line)
			}
		})
		if err == nil {
			err = sub.SetPendingLimits(-1, -1) // bounded by the pulls that were sent
		}
	}
	i.sub = sub
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("listen for claims", "inbox", i.subject, "error", err)
	}
}

func (i *inbox) reserved() bool { return i.gens[0].arc.of != nil }

// take delivers what came to an inbox.
func (m *Manager) take(i *inbox, msg *nats.Msg) {
	if g := i.of(msg); g != nil {
		m.deliver(g, msg)
	} else {
		m.count.garbage.Add(1)
	}
}

// withdraw takes the pulls of an inbox back: the server drops what has no listener, and what is on its way is still handled
// (measured: nothing lost).
func (m *Manager) withdraw(i *inbox) {
	i.once.Do(func() {}) // nobody subscribes from here on
	if i.sub == nil {
		return
	}
	m.crowd.leaves(i.sub, m.now())
	if err := i.sub.Drain(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("withdraw offers", "inbox", i.subject, "error", err)
	}
}

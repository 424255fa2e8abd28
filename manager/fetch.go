package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A payload over [schema.MaxCarried] is with the frontend of its call (DESIGN 3, step 2). A claim crosses its start line
// only with its payload here, so a call whose frontend has gone is never started, and its message ends by its time to
// live.
//
//	delivery ─► fetch ─► pool.Claim ─► begin          the usual way: no environment is held up by a fetch
//	delivery ─► pool.Claim ─► fetch ─► begin          without room: most such claims are given back at once
//
// On the usual way the claim's pull counts as open until its payload is here, so that the environment for which it was
// sent is not offered twice.
const (
	fetchWait   = 2 * time.Second        // from asking for a turn until the payload is here: within a claim's time at this manager
	touchAfter  = 500 * time.Millisecond // after so long the server hears again that the claim is in hands
	maxFetches  = 5                      // at once: 30 MiB at most, half of what a server lets wait for one connection by default
	perFrontend = 3                      // of these: one frontend that hangs leaves the others their turns
	maxPayloads = 256 << 20              // bytes of payloads of claims that have not started; more are given back
)

// nakAbsentBody gives back a claim whose payload is not to be had: its frontend has gone, or is reconnecting, or nobody
// waits for the call any more. It comes again a few times until it is deleted or its time to live is over.
var nakAbsentBody = fmt.Appendf(nil, `-NAK {"delay":%d}`, int64(absentFor))

const absentFor = 500 * time.Millisecond

// errAbsent says that a frontend answered, and has no such payload.
var errAbsent = errors.New("the frontend holds no payload for it")

// lacks reports whether a claim's payload is still with its frontend.
func (c *claim) lacks() bool { return c.call.Held > 0 && c.call.Payload == nil }

// fetches are the turns of those who fetch payloads.
type fetches struct {
	mu    sync.Mutex
	all   chan struct{}
	lanes map[string]*lane // by frontend; none without a user
}

type lane struct {
	turns chan struct{}
	users int
}

func newFetches() fetches {
	return fetches{all: make(chan struct{}, maxFetches), lanes: make(map[string]*lane)}
}

// turn waits for a place among the fetches from a frontend, and of all.
func (f *fetches) turn(ctx context.Context, frontend string) (done func(), err error) {
	f.mu.Lock()
	l := f.lanes[frontend]
	if l == nil {
		l = &lane{turns: make(chan struct{}, perFrontend)}
		f.lanes[frontend] = l
	}
	l.users++
	f.mu.Unlock()
	leave := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(f.lanes, frontend)
		}
	}
	select {
	case l.turns <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	select {
	case f.all <- struct{}{}:
		return func() { <-f.all; <-l.turns; leave() }, nil
	case <-ctx.Done():
		<-l.turns
		leave()
		return nil, context.Cause(ctx)
	}
}

// fetchFirst brings a claim's payload here and then decides on it, in a task of its own.
func (m *Manager) fetchFirst(c *claim, g *generation) {
	m.mu.Lock()
	full := m.fetching.bytes+m.waiting.bytes+c.call.Held > maxPayloads
	room := m.pool.Room() > 0
	if room && !full {
		m.fetching.add(c)
	}
	m.mu.Unlock()
	switch {
	case full:
		m.spend(g)
		m.giveBack(c)
	case !room:
		m.decide(c, g) // which fetches if it comes to a start after all
	default:
		m.spawn(func() {
			err := m.fetch(c)
			m.mu.Lock()
			m.fetching.remove(c)
			m.mu.Unlock()
			if err != nil {
				m.spend(g)
				m.unfetched(c, err)
				return
			}
			m.decide(c, g)
		})
	}
}

// fetchLate brings the payload of a claim here that has its environment already, and goes on with its begin.
func (m *Manager) fetchLate(c *claim, environment string, start schema.Start, init time.Duration) {
	m.spawn(func() {
		if err := m.fetch(c); err != nil {
			m.release(environment)
			m.unfetched(c, err)
			return
		}
		m.begin(c, environment, start, init)
	})
}

// fetch asks the frontend of a claim for its payload, once. The claim is in nobody else's hands meanwhile.
func (m *Manager) fetch(c *claim) error {
	m.touch(c)
	defer m.touch(c)
	m.mu.Lock() // an event that is joined changes hands under it
	frontend, token := c.call.Frontend, c.call.Token
	m.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(m.life, fetchWait, errors.New("waiting for a payload"))
	defer cancel()
	done, err := m.fetches.turn(ctx, frontend)
	if err != nil {
		return err
	}
	defer done()
	msg, err := m.nc.RequestWithContext(ctx, subjects.FrontendInbox(frontend, "f."+fmt.Sprintf("%016x", token)), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: nobody listens", errAbsent)
	case err != nil:
		return err
	case msg.Header.Get(schema.HeaderStatus) != "":
		return fmt.Errorf("%w: status %s", errAbsent, msg.Header.Get(schema.HeaderStatus))
	case len(msg.Data) != c.call.Held:
		return fmt.Errorf("%w: it sent %s bytes, not %d", errAbsent, strconv.Itoa(len(msg.Data)), c.call.Held)
	}
	c.call.Payload = msg.Data
	m.count.fetched.Add(1)
	c.story.Add(story.Fetched(len(msg.Data)))
	return nil
}

// unfetched gives back a claim whose payload did not come.
func (m *Manager) unfetched(c *claim, err error) {
	m.count.unfetched.Add(1)
	m.log.Warn("fetch the payload of a call", telemetry.LogCall(c.call.RequestID, c.call.Traceparent), "frontend", c.call.Frontend, "error", err)
	if !errors.Is(err, errAbsent) {
		m.giveBack(c)
		return
	}
	m.count.nacks.Add(1)
	c.traceEnd(telemetry.OutcomeGivenBack)
	c.story.Add(story.GivenBack(noPayload, absentFor))
	m.publish(c.ackReply, nakAbsentBody)
}

// touch tells the server that a claim is in hands, if it has not heard so for a while and the claim is surely nobody else's.
func (m *Manager) touch(c *claim) {
	now := m.now()
	if since := now - c.touched; since < touchAfter || since >= mine || c.reconnects != m.reconnects() {
		return
	}
	c.touched = now
	m.publish(c.ackReply, progressBody)
}

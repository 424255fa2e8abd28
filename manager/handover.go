package manager

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A pull of an unreserved arc says that something is idle here, not of which function (DESIGN 2). A claimer with nothing warm
// at home hands the claim to a manager that tells an idle environment of this function version and sub-tenant:
//
//	claimer                                  receiver, on hearth.m.<id>.claim
//	   │ ── Ask: function version, tenant ──►   │ pool.Promise: kept for 100 ms
//	   │ ◄─ Promise (20 ms, else go on alone) ──│
//	   │ ── Claim: envelope, ack subject ──────►│ pool.Redeem, ack or lock, run
//	   │ never starts it from here on
//
// On a reserved arc every pull says the same, unless the function has sub-tenants: then a member may be another's. Such a claim is
// handed, inside the arc, to a manager that tells an idle one of its sub-tenant, or a generic one; where there is none it moves to the
// unreserved arc, as a catcher moves it (DESIGN 7).
//
// Nothing confirms the claim: one that is lost, or whose receiver dies, is redelivered by the server after ackWait. It happens
// once a call. A receiver whose promise has lapsed does with the claim what it would with any other.
const promiseWait = 20 * time.Millisecond

// warmElsewhere is the manager to hand a claim to for which nothing is warm here, and what it has; "" if there is none. Manager.mu is
// held.
func (m *Manager) warmElsewhere(c *claim, g *generation) (to string, w warmth) {
	v := m.view.Load()
	if c.handed || g.kind == caught || v.ring == nil || v.ring.Len() < 2 || !m.offering {
		return "", w
	}
	if w = c.warmth(); c.target.Reserved {
		o := g.arc.opening
		if w.tenant == "" || o == nil {
			return "", w
		}
		if to = m.peers.warm(o.order, nil, w, m.now()); to == "" {
			w.tenant = "" // a generic one
			to = m.peers.warm(o.order, nil, w, m.now())
		}
		return to, w
	}
	var buffer [64]int
	order := v.ring.Unreserved(buffer[:0], c.target.Number, v.ring.Len())
	return m.peers.warm(v.ring.Managers(), order, w, m.now()), w
}

func (c *claim) warmth() warmth {
	return warmth{c.arc, c.call.Account, c.call.Function, c.call.Version, c.call.Tenant}
}

// handOn gives a claim to another manager if that one promises an environment, and else goes on with it here.
func (m *Manager) handOn(c *claim, g *generation, to string, w warmth) {
	c.handed = true
	number := m.askFor(c, to)
	if number == 0 {
		m.count.unpromised.Add(1)
		c.span.Event(telemetry.EventUnpromised, telemetry.To, to)
		c.story.Add(story.Unpromised(to))
		m.peers.cold(to, w)
		m.decide(c, &generation{arc: g.arc, kind: g.kind, rank: g.rank, retire: true})
		return
	}
	now := m.now()
	call := c.call
	if m.cfg.Telemetry.Enabled() { // the receiver goes on under this claim
		under := c.span.Context()
		call.Traceparent, call.Tracestate = under.Traceparent, under.Tracestate
	}
	if call.Held > 0 {
		call.Payload = nil // the receiver fetches it itself
	}
	body, err := schema.Marshal(schema.ManagerClaim{V: schema.Version, Claim: &schema.HandedClaim{
		Promise: number, Subject: c.subject, Ack: c.ackReply, Age: c.age + now - c.came, Untouched: now - c.touched,
		Call: schema.EncodeCall(make([]byte, 0, schema.CallSize(&call)), &call),
	}})
	if err != nil {
		m.log.Error("hand a claim over", telemetry.LogCall(call.RequestID, call.Traceparent), "to", to, "error", err)
		return
	}
	m.count.handedOver.Add(1)
	c.span.String(telemetry.To, to)
	c.traceEnd(telemetry.OutcomeHandedOver)
	c.story.Add(story.HandedOn(to))
	m.publish(m.names.ManagerClaim(to), body)
}

// askFor asks a manager to keep an environment for a claim. 0: it has none, or did not answer in time.
func (m *Manager) askFor(c *claim, to string) (promise uint64) {
	kind := kindOf(c.home)
	body, err := schema.Marshal(schema.ManagerClaim{V: schema.Version, Ask: &kind})
	if err != nil {
		m.log.Error("ask for a promise", "of", to, "error", err)
		return 0
	}
	ctx, cancel := context.WithTimeoutCause(m.life, promiseWait, errors.New("waiting for a promise"))
	defer cancel()
	msg, err := m.nc.RequestWithContext(ctx, m.names.ManagerClaim(to), body)
	if err != nil {
		m.log.Debug("ask for a promise", "of", to, "error", err)
		return 0
	}
	var answer schema.Promise
	if err := schema.Unmarshal(msg.Data, &answer); err != nil {
		m.log.Debug("ask for a promise", "of", to, "error", err)
		return 0
	}
	return answer.Number
}

// given hears what another manager asks, or hands over. All of it is input: what is not of this fabric is left aside, and
// nothing is answered or acknowledged for it (SECURITY 2).
func (m *Manager) given(msg *nats.Msg) {
	var rec schema.ManagerClaim
	err := schema.Unmarshal(msg.Data, &rec)
	switch {
	case err != nil || !rec.One():
	case rec.Ask != nil && subjects.FabricReplyAllowed(msg.Reply):
		m.promise(msg.Reply, rec.Ask)
		return
	case rec.Way != nil && subjects.FabricReplyAllowed(msg.Reply) && m.makeWay(msg.Reply, rec.Way):
		return
	case rec.Claim != nil && m.takeOver(rec.Claim):
		return
	}
	m.count.garbage.Add(1)
	m.log.Warn("leave aside what is no claim of this fabric", "bytes", len(msg.Data), "error", err)
}

// promise answers with what is kept for the asker, 0 for nothing.
func (m *Manager) promise(reply string, ask *schema.PromiseAsk) {
	answer := schema.Promise{V: schema.Version}
	m.mu.Lock()
	if m.offering {
		var arc string
		if answer.Number, arc = m.pool.Promise(time.Now(), homeOf(ask)); arc != "" {
			m.offers.kick() // one pull too many is out
		}
	}
	m.mu.Unlock()
	m.tell(reply, answer)
}

// takeOver runs a claim that another manager hands over. It reports false for what cannot be one.
func (m *Manager) takeOver(h *schema.HandedClaim) bool {
	if !m.names.AckAllowed(h.Ack) || h.Age < 0 || h.Untouched < 0 {
		return false
	}
	ack, ok := subjects.ParseAck(h.Ack)
	if !ok {
		return false
	}
	c := &claim{subject: h.Subject, ack: ack, ackReply: h.Ack, reconnects: m.reconnects(), handed: true}
	c.target, ok = m.names.ParseArc(h.Subject)
	if !ok || !m.lies(&c.target, ack) || schema.DecodeCall(h.Call, &c.call) != nil || !c.consistent() ||
		c.target.Reserved && c.call.Tenant == "" {
		return false
	}
	c.home = pool.Home{Key: c.call.Key, Reservation: c.target.Epoch}
	c.arc = m.arcName(c.target)
	m.count.takenOver.Add(1)
	m.judge(c, m.now())
	c.age, c.touched = max(c.age, h.Age), c.came-h.Untouched
	c.doubt = c.doubt || c.age >= unseen || h.Untouched >= unseen
	m.traceArrival(c)
	m.storyArrival(c, story.PullNone)
	if c.age > c.call.StartBy {
		m.drop(c)
		return true
	}
	now := time.Now()
	m.mu.Lock()
	a := m.offers.arc(m, c.arc)
	if a == nil { // a reserved arc that this manager knows nothing of
		m.mu.Unlock()
		m.giveBack(c)
		return true
	}
	c.rank = a.rank
	g := &generation{arc: a, rank: a.rank, retire: true}
	d := m.pool.Redeem(now, c.home, h.Promise)
	if d.Action != pool.Run {
		m.mu.Unlock()
		m.decide(c, g)
		return true
	}
	a.needed = now
	m.mu.Unlock()
	m.begin(c, d.Environment, d.Start, 0)
	if d.Make != nil || len(d.End) > 0 {
		m.carryOut(pool.Plan[*claim]{Make: d.Make, End: d.End}, nil)
	}
	return true
}

// lies reports whether a delivery with this ack is one of the arc that a call names.
func (m *Manager) lies(t *subjects.ArcCall, ack subjects.Ack) bool {
	if t.Reserved {
		return t.Number < subjects.MaxShards && ack.Stream == m.names.CallsR(t.Number) && ack.Consumer == m.names.ReservedDurable(t.Epoch)
	}
	return t.Number < subjects.MaxArcs && ack.Stream == m.names.CallsOf(t.Number) && ack.Consumer == m.names.UnreservedDurable(t.Number)
}

// lapse takes back what was promised for claims that did not come.
func (m *Manager) lapse() {
	for {
		m.mu.Lock()
		id, ok := m.pool.Lapsed(time.Now())
		if !ok {
			m.mu.Unlock()
			return
		}
		m.endTurn(id, m.pool.Release(time.Now(), id))
	}
}

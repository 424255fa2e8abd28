package manager

import (
	"errors"
	"time"

	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// carryOut does what the pool decided, after the mutex has been let go.
func (m *Manager) carryOut(plan pool.Plan[*claim], failure *schema.FunctionError) {
	for _, id := range plan.End {
		m.count.ended.Add(1)
		m.worker.End(id)
	}
	offer := len(plan.End)+len(plan.Run)+len(plan.Refuse) > 0
	for _, mk := range plan.Make {
		if mk.Replaces {
			m.spawn(func() { m.replace(mk) }) // which has the offers looked at when it begins
		} else {
			m.spawn(func() { m.make(mk, nil) })
			offer = true
		}
	}
	for _, c := range plan.Fail {
		m.spawn(func() { m.fail(c, failure) })
	}
	m.forget(plan.Refuse)
	for _, c := range plan.Refuse {
		m.giveBack(c)
	}
	for _, s := range plan.Run {
		m.forget([]*claim{s.Claim})
		m.spawn(func() { m.begin(s.Claim, s.Environment, schema.StartSpecialised, 0) })
	}
	if offer {
		m.offers.kick()
	}
}

// forget takes claims that the pool has let go of off those that wait: the server is no longer told that they are in hands.
func (m *Manager) forget(given []*claim) {
	if len(given) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range given {
		m.waiting.remove(c)
	}
}

// makeInPlace makes an environment for a claim. The idle ones that the pool took out of use for it end once it has its permits: a
// call that a cap of its own function throttles drives nobody else's environment out.
func (m *Manager) makeInPlace(mk pool.Make, of []string) {
	if !m.spawned(func() { m.make(mk, of) }) {
		m.carryOut(pool.Plan[*claim]{End: of}, nil)
	}
	m.offers.kick()
}

// replaceAfter is how long the member that takes the place of one that was bound lets that one's call go before it. To make a sandbox keeps
// the processors busy for a millisecond or two, which most calls that bind one would wait for (measured: 1.7 times as long as without).
const replaceAfter = pace.ReplaceAfter

// replace makes a member in the place of one that was bound to a sub-tenant.
func (m *Manager) replace(mk pool.Make) {
	wait := time.NewTimer(replaceAfter)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-m.life.Done(): // it is told so
	}
	m.offers.kick()
	m.make(mk, nil)
}

// make binds an environment and has the worker begin it, in the place of those that are set aside for it, if any. Variables are opened
// for the binding alone and kept nowhere.
func (m *Manager) make(mk pool.Make, aside []string) {
	aside, err := m.permits.take(m.life, mk, aside)
	if err != nil {
		if schema.CodeOf(err) == schema.CodeThrottled {
			m.count.unpermitted.Add(1)
		}
		m.restore(aside)
		m.unbound(mk.Environment, err)
		return
	}
	m.count.evicted.Add(int64(len(aside)))
	m.carryOut(pool.Plan[*claim]{End: aside}, nil)
	binding, err := m.binding(m.life, mk)
	if err != nil {
		m.log.Warn("bind an environment", "environment", mk.Environment, "function", mk.Spec.Function, "version", mk.Home.Version,
			"error", err)
		m.unbound(mk.Environment, err)
		return
	}
	if err := m.permits.stands(mk.Environment); err != nil {
		m.unbound(mk.Environment, err)
		return
	}
	m.count.made.Add(1)
	m.worker.Make(mk.Environment, binding, m.notify)
}

// restore gives idle environments back to the pool that were set aside for one that has no permit.
func (m *Manager) restore(aside []string) {
	for _, id := range aside {
		m.mu.Lock()
		if turn, ok := m.pool.Restore(time.Now(), id); ok {
			m.endTurn(id, turn)
		} else {
			m.mu.Unlock()
		}
	}
}

// unbound ends an environment that could not be bound. Where the function version is gone, the claim that fails with it
// is refused as it would have been a moment later, for nothing has run; what keeps this manager from binding is told as a
// failed init. That there is no permit for it is nobody's failure.
func (m *Manager) unbound(environment string, err error) {
	m.permits.back(environment)
	m.grants.remove(environment)
	why := bindingFailure(err)
	m.mu.Lock()
	var plan pool.Plan[*claim]
	switch schema.CodeOf(err) {
	case schema.CodeInternal:
		m.mu.Unlock()
		m.notify(schema.EnvironmentEvent{Environment: environment, Kind: schema.EnvironmentFailed, Error: why})
		return
	case schema.CodeThrottled, schema.CodeUnavailable:
		plan = m.pool.Denied(time.Now(), environment, why.Message)
	default:
		plan = m.pool.Failed(time.Now(), environment, why.Message)
	}
	m.mu.Unlock()
	refused := plan.Fail
	plan.Fail = nil
	m.carryOut(plan, nil)
	for _, c := range refused {
		if errors.Is(err, errElsewhere) {
			m.forget([]*claim{c})
			m.giveBack(c)
			continue
		}
		m.cannotRun(c, err)
	}
	m.changed()
}

// notify hears from the worker what became of an environment. It does not block: what needs the server's answer runs in
// a task of its own.
func (m *Manager) notify(ev schema.EnvironmentEvent) {
	now := time.Now()
	if ev.Kind != schema.EnvironmentParked {
		m.permits.back(ev.Environment)
		m.grants.remove(ev.Environment)
	}
	switch ev.Kind {
	case schema.EnvironmentParked:
		m.mu.Lock()
		turn := m.pool.Parked(now, ev.Environment, ev.InitDuration)
		m.endTurn(ev.Environment, turn)
		if turn.First && subjects.IsReservedName(turn.Arc) {
			m.tellSoon() // the controller waits for it, or a manager that leaves
			m.settled()
		}
	case schema.EnvironmentFailed:
		m.mu.Lock()
		plan := m.pool.Failed(now, ev.Environment, initFailure(ev.Error))
		m.mu.Unlock()
		m.count.failedInits.Add(1)
		m.carryOut(plan, ev.Error)
		m.changed()
	case schema.EnvironmentGone:
		m.mu.Lock()
		plan := m.pool.Gone(now, ev.Environment)
		m.mu.Unlock()
		m.carryOut(plan, nil)
		m.changed()
	}
}

// initFailure is why an init failed, as the status of a reservation tells it.
func initFailure(e *schema.FunctionError) string {
	if e == nil {
		return "the init failed"
	}
	return e.Type + ": " + e.Message
}

// changed tells who waits for the pool's end, the offers and the status that environments came or went.
func (m *Manager) changed() {
	m.offers.kick()
	m.tellSoon()
	m.settled()
}

// endTurn does what an environment's turn says. It is called with Manager.mu held, and lets it go.
func (m *Manager) endTurn(id string, turn pool.Turn[*claim]) {
	if turn.Run {
		m.waiting.remove(turn.Claim)
	}
	within, above := m.offers.top(m, turn.Arc)
	m.mu.Unlock()
	m.send(within)
	m.send(above)
	if turn.More != nil {
		m.carryOut(*turn.More, nil)
	}
	switch {
	case turn.Run:
		m.begin(turn.Claim, id, turn.Start, turn.Init)
	case turn.End:
		m.count.ended.Add(1)
		m.worker.End(id)
		m.changed()
	}
}

// release gives an environment back whose call did not start in it.
func (m *Manager) release(id string) {
	m.mu.Lock()
	m.endTurn(id, m.pool.Release(time.Now(), id))
}

package fleet

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// signWait bounds the making of a token for a worker: less than that one waits.
const signWait = 4 * time.Second

// token answers the worker's question for the token of one of its environments. A worker that was taken over gets those of the
// environments that it holds, one at a time each, and no other's (SECURITY 1, K).
func (s *session) token(m *nats.Msg) {
	f := s.fleet
	var ask schema.WorkerTokenAsk
	if err := schema.Unmarshal(m.Data, &ask); err != nil || !subjects.OfWorker(m.Reply, s.worker) {
		f.refuse(s.worker, "a question for a token that is none")
		return
	}
	f.mu.Lock()
	e := s.environments[ask.Environment]
	ok := e != nil && e.token != nil && !s.closed
	busy := ok && e.signing
	if ok {
		e.signing = true
	}
	f.mu.Unlock()
	switch {
	case !ok:
		f.refuse(s.worker, "a question for the token of "+strconv.Quote(clip(ask.Environment)))
		f.sendToken(m.Reply, s.worker, &schema.WorkerToken{Error: "this worker has no such environment, or it has no token"})
	case busy:
		f.sendToken(m.Reply, s.worker, &schema.WorkerToken{Error: "one is being made"})
	default:
		f.spawn(func() { s.sign(e, ask.Tenant, m.Reply) })
	}
}

// sign has the manager make the token of an environment, and sends it to its worker, if the environment still is that worker's.
func (s *session) sign(e *environment, tenant, reply string) {
	f := s.fleet
	ctx, cancel := context.WithTimeoutCause(f.life, signWait, errors.New("the token provider does not answer"))
	defer cancel()
	t, err := e.token(ctx, tenant)
	answer := &schema.WorkerToken{Text: t.Text, Life: t.Life}
	f.mu.Lock()
	e.signing = false
	gone := s.environments[e.id] != e
	f.mu.Unlock()
	switch {
	case gone:
		return
	case err != nil:
		f.log.Warn("make a token", "environment", e.id, "error", err)
		answer = &schema.WorkerToken{Error: clip(err.Error())}
	}
	f.sendToken(reply, s.worker, answer)
}

func (f *Fleet) sendToken(reply, worker string, t *schema.WorkerToken) {
	t.V = schema.Version
	b, err := schema.Marshal(t)
	if err == nil && f.nc.IsConnected() { // else it would lie in the connection's buffer, and is asked for again
		err = f.nc.Publish(reply, b)
	}
	if err != nil {
		f.log.Warn("send a token to a worker", "worker", worker, "error", err)
	}
}

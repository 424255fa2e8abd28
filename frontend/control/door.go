package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/sourcegraph/conc/panics"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// QueueGroup is the group in which frontends share the requests.
const QueueGroup = "hearth-api"

// otherGroup is the group in which they share what no endpoint hears. It is not [QueueGroup]: the server counts all subscriptions of one
// group that match a subject as one, and would hand known operations to this one instead of to their endpoints.
const otherGroup = QueueGroup + "-other"

// counters are what STATS tells beside micro's own numbers, which count a request when it is taken, not when it is done.
type counters struct {
	answered, refused, throttled, dropped atomic.Uint64
}

// Stats are counts since the service was made.
type Stats struct {
	Answered  uint64 `json:"answered"`
	Refused   uint64 `json:"refused"`   // answered with an error
	Throttled uint64 `json:"throttled"` // of these: the queue was full
	Dropped   uint64 `json:"dropped"`   // asked for an answer where none may go (SECURITY 2)
}

// Stats counts what came in over NATS.
func (s *Service) Stats() Stats {
	return Stats{s.stats.answered.Load(), s.stats.refused.Load(), s.stats.throttled.Load(), s.stats.dropped.Load()}
}

// serve registers the micro service: one endpoint an operation, so that PING, INFO and STATS list them. What they answer
// is the library's and leaves by the library; the permissions of frontends bound where to. What no endpoint hears is heard by a plain
// subscription beside them: an endpoint would be listed, and counts whatever it is handed. It comes last and goes first, so that where
// it is heard the endpoints are too, and a known name without them still gets the server's "no responders" at once.
func (s *Service) serve() error {
	service, err := micro.AddService(s.nc, micro.Config{
		Name: s.cfg.Names.Prefix() + "-api", Version: s.cfg.Build, QueueGroup: QueueGroup,
		Description:  "functions, versions, aliases and the fabric itself",
		StatsHandler: func(*micro.Endpoint) any { return s.Stats() },
	})
	if err != nil {
		return fmt.Errorf("register the service: %w", err)
	}
	for _, op := range operations() {
		err := service.AddEndpoint(op.name, micro.HandlerFunc(s.take), micro.WithEndpointSubject(s.cfg.Names.APIAny(op.name)))
		if err != nil {
			return fmt.Errorf("register %s: %w", op.name, joinStop(err, service))
		}
	}
	others, err := s.nc.QueueSubscribe(s.cfg.Names.APIAll(), otherGroup, s.other)
	if err != nil {
		return fmt.Errorf("subscribe to unknown operations: %w", joinStop(err, service))
	}
	s.micro, s.others = service, others
	if err := s.nc.FlushTimeout(usualDeadline); err != nil {
		return fmt.Errorf("subscribe: %w", errors.Join(err, s.deafen()))
	}
	return nil
}

// deafen takes no request any more; those that have come are still handed on.
func (s *Service) deafen() error {
	err := s.others.Drain()
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil // as micro sees it
	}
	return errors.Join(err, s.micro.Stop())
}

func joinStop(err error, service micro.Service) error {
	if stop := service.Stop(); stop != nil {
		return fmt.Errorf("%w; and stop it again: %w", err, stop)
	}
	return err
}

// take runs on a subscription's goroutine, so it only passes the request on or refuses it.
func (s *Service) take(r micro.Request) {
	if !subjects.ReplyAllowed(r.Reply()) {
		s.stats.dropped.Add(1)
		return
	}
	if !s.ready.Load() {
		s.refuse(r.Reply(), schema.Errorf(schema.CodeUnavailable, "this frontend is stopping"))
		return
	}
	select {
	case s.queue <- r:
	default:
		s.stats.throttled.Add(1)
		err := schema.Errorf(schema.CodeThrottled, "%d control requests wait at this frontend", cap(s.queue))
		err.Reason = "CallerRateLimitExceeded"
		s.refuse(r.Reply(), err)
	}
}

// other hears everything that is asked, and answers what is no endpoint's: each request is answered once, and what is misspelt, of
// another build or of Lambda alone is told so instead of looking as if no frontend were there.
func (s *Service) other(m *nats.Msg) {
	switch {
	case s.heard(m.Subject):
		return
	case !subjects.ReplyAllowed(m.Reply):
		s.stats.dropped.Add(1)
		return
	case !s.ready.Load():
		s.refuse(m.Reply, schema.Errorf(schema.CodeUnavailable, "this frontend is stopping"))
		return
	}
	account, operation, ok := s.cfg.Names.ParseAPI(m.Subject)
	if !ok {
		s.refuse(m.Reply, schema.Errorf(schema.CodeUnknownOperation, "subject %q: ask %s.api.<account>.<Operation>; account %q is the fabric",
			clip(m.Subject), s.cfg.Names.Prefix(), subjects.FabricAccount))
		return
	}
	if _, err := s.find(account, operation); err != nil {
		s.refuse(m.Reply, err)
	}
}

// heard reports whether an endpoint has the subject, as the server matches it: whatever the account is.
func (s *Service) heard(subject string) bool {
	_, name, ok := strings.Cut(strings.TrimPrefix(subject, s.cfg.Names.Prefix()+".api."), ".")
	return ok && slices.ContainsFunc(operations(), func(op operation) bool { return op.name == name })
}

// work answers requests until Stop, and then those that still wait.
func (s *Service) work() {
	for {
		select {
		case r := <-s.queue:
			s.answer(r)
		case <-s.stop:
			for {
				select {
				case r := <-s.queue:
					s.refuse(r.Reply(), schema.Errorf(schema.CodeUnavailable, "this frontend is stopping"))
				default:
					return
				}
			}
		}
	}
}

func (s *Service) answer(r micro.Request) {
	account, operation, ok := s.cfg.Names.ParseAPI(r.Subject())
	if !ok {
		s.refuse(r.Reply(), schema.Errorf(schema.CodeNotFound, "subject %q names no account", clip(r.Subject())))
		return
	}
	if len(r.Data()) > MaxRequest {
		s.refuse(r.Reply(), schema.Errorf(schema.CodeInvalidRequest, "%s: a request of %d bytes; at most %d: code goes to the object "+
			"store first", operation, len(r.Data()), MaxRequest))
		return
	}
	var body []byte
	var rest func(context.Context) ([]byte, error)
	var err error
	if broken := panics.Try(func() { body, rest, err = s.do(context.Background(), account, operation, r.Data()) }); broken != nil {
		err = s.broken(broken, account, operation)
	}
	if rest == nil {
		s.tell(r, operation, body, err)
		return
	}
	s.workers.Go(func() {
		var body []byte
		var err error
		if broken := panics.Try(func() { body, err = rest(context.Background()) }); broken != nil {
			err = s.broken(broken, account, operation)
		}
		s.tell(r, operation, body, err)
	})
}

func (s *Service) broken(broken *panics.Recovered, account, operation string) error {
	s.log.Error("operation panicked", "operation", operation, "account", account, "panic", broken.String())
	return schema.Errorf(schema.CodeInternal, "%s: failed inside", operation)
}

// tell sends an answer or a refusal.
func (s *Service) tell(r micro.Request, operation string, body []byte, err error) {
	if limit := s.nc.MaxPayload(); err == nil && int64(len(body)) > limit {
		err = schema.Errorf(schema.CodeInternal, "%s: an answer of %d bytes; this NATS server carries %d: ask for fewer items",
			operation, len(body), limit)
	}
	if err != nil {
		s.refuse(r.Reply(), err)
		return
	}
	s.stats.answered.Add(1)
	s.send(&nats.Msg{Subject: r.Reply(), Data: body})
}

// refuse answers with the headers of a micro error and the body of Lambda's.
func (s *Service) refuse(reply string, err error) {
	s.stats.refused.Add(1)
	status, text := schema.ErrorHeaders(err)
	body, encode := json.Marshal(schema.APIErrorOf(err))
	if encode != nil {
		s.log.Error("error without a body", "error", encode)
	}
	s.send(&nats.Msg{
		Subject: reply, Data: body, Header: nats.Header{schema.HeaderErrorCode: {status}, schema.HeaderError: {text}},
	})
}

func (s *Service) send(m *nats.Msg) {
	if err := s.nc.PublishMsg(m); err != nil {
		s.log.Warn("answer not sent", "error", err)
	}
}

// settle waits, for at most a moment, until every frontend has seen a change, so that a call by another one finds it.
// One that is late does not undo the change.
func (s *Service) settle(ctx context.Context, revision uint64) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Settle)
	defer cancel()
	start := time.Now()
	if err := s.view.WaitFunctions(ctx, revision); err != nil {
		s.log.Info("frontends lag", "revision", revision, "waited", time.Since(start), "error", err)
	}
}

package control

import (
	"context"
	"encoding/json"
	"fmt"
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
// is the library's and leaves by the library; the permissions of frontends bound where to.
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
	if err := s.nc.FlushTimeout(usualDeadline); err != nil {
		return fmt.Errorf("subscribe: %w", joinStop(err, service))
	}
	s.micro = service
	return nil
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

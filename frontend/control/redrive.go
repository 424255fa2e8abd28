package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// Bounds of one request that takes dead letters away; the answer's marker goes on from there.
const (
	lettersAtOnce = 500
	lettersTime   = 4 * time.Second
	acceptTime    = 5 * time.Second // for the PubAck of a redriven event
)

// redriveDeadLetters hands dead letters in again, as new events with all their tries before them.
func (s *Service) redriveDeadLetters(ctx context.Context, account string, request []byte) (any, error) {
	return s.takeLetters(ctx, account, "RedriveDeadLetters", request, s.redrive)
}

// deleteDeadLetters deletes them.
func (s *Service) deleteDeadLetters(ctx context.Context, account string, request []byte) (any, error) {
	return s.takeLetters(ctx, account, "DeleteDeadLetters", request, func(context.Context, string, *jetstream.RawStreamMsg) error { return nil })
}

// errNoFunction says that a dead letter cannot be redriven.
var errNoFunction = errors.New("its subject named no function")

// takeLetters does something with each of the dead letters that the request names, and deletes it when that is done. Whoever
// deletes it has done it: of two at once, the other finds it missing.
func (s *Service) takeLetters(ctx context.Context, account, operation string, request []byte,
	do func(context.Context, string, *jetstream.RawStreamMsg) error,
) (any, error) {
	in, err := decode[schema.DeadLettersInput](request)
	if err != nil {
		return nil, err
	}
	if one := oneOf(in.FunctionName != "", len(in.Ids) > 0, in.All); !one {
		return nil, schema.Invalid(schema.FieldError{Field: "Ids", Allowed: "either Ids, or FunctionName, or All has to say which dead letters"})
	}
	stream, err := s.deadStream(ctx)
	if err != nil {
		return nil, err
	}
	t := &taking{s: s, stream: stream, account: account, do: do, out: &schema.DeadLettersDone{}}
	if len(in.Ids) > 0 {
		err = t.named(ctx, in)
	} else {
		err = t.all(ctx, in)
	}
	if err != nil {
		var known *schema.Error
		if errors.As(err, &known) && t.out.Done > 0 {
			known.Message = fmt.Sprintf("%s (%d were done before)", known.Message, t.out.Done)
		}
		return nil, err
	}
	s.log.Info("dead letters taken away", "operation", operation, "account", account, "done", t.out.Done)
	return t.out, nil
}

func oneOf(said ...bool) bool {
	n := 0
	for _, b := range said {
		if b {
			n++
		}
	}
	return n == 1
}

// taking is one request under way.
type taking struct {
	s       *Service
	stream  jetstream.Stream
	account string
	do      func(context.Context, string, *jetstream.RawStreamMsg) error
	out     *schema.DeadLettersDone
}

func (t *taking) named(ctx context.Context, in *schema.DeadLettersInput) error {
	if in.Marker != "" {
		return schema.Invalid(schema.FieldError{Field: "Marker", Allowed: "is for FunctionName and All"})
	}
	sequences, err := sequencesOf(in.Ids)
	if err != nil {
		return err
	}
	for _, sequence := range sequences {
		m, err := t.s.deadLetter(ctx, t.stream, t.account, sequence)
		if err != nil {
			return err
		}
		id := strconv.FormatUint(sequence, 10)
		if m == nil {
			t.out.Missing = append(t.out.Missing, id)
			continue
		}
		if err := t.take(ctx, m, true); err != nil {
			return err
		}
	}
	return nil
}

// all takes what was there when the first request came, a bounded number a request: a function that fails again makes new dead
// letters meanwhile, and they are not meant.
func (t *taking) all(ctx context.Context, in *schema.DeadLettersInput) error {
	_, at, err := readSequences(in.Marker, "taken", 2)
	if err != nil {
		return err
	}
	filter, name, err := t.s.deadFilter(t.account, in.FunctionName)
	if err != nil {
		return err
	}
	messages, err := t.s.messages(ctx, t.s.cfg.Names.Stream(topology.DeadLetters), at[0]+1, filter)
	if err != nil {
		return err
	}
	last := at[1]
	if in.Marker == "" {
		last = messages.last()
	}
	begin := time.Now()
	seen := 0
	for position := at[0]; ; seen++ {
		m, err := messages.next(ctx)
		if err != nil {
			return err
		}
		if m == nil || m.Sequence > last {
			break
		}
		if seen == lettersAtOnce || time.Since(begin) > lettersTime {
			t.out.NextMarker = sequenceMarker("taken", "", position, last)
			return nil
		}
		if err := t.take(ctx, m, false); err != nil {
			return err
		}
		position = m.Sequence
	}
	return t.s.knownOrHasLeft(ctx, t.account, name, seen > 0 || in.Marker != "")
}

// take does the one thing with one dead letter. One that was named tells what became of it.
func (t *taking) take(ctx context.Context, m *jetstream.RawStreamMsg, named bool) error {
	id := strconv.FormatUint(m.Sequence, 10)
	err := t.do(ctx, t.account, m)
	if errors.Is(err, errNoFunction) {
		t.out.Failed = append(t.out.Failed, id)
		return nil
	}
	if err != nil {
		return err
	}
	err = t.stream.DeleteMsg(ctx, m.Sequence)
	var gone *jetstream.APIError
	switch {
	case err == nil:
		t.out.Done++
	case errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful), errors.As(err, &gone) && gone.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		if named {
			t.out.Missing = append(t.out.Missing, id)
		}
	default:
		return fmt.Errorf("delete dead letter %s: %w", id, err)
	}
	return nil
}

// redrive publishes a dead letter's event anew and waits until the stream has it: a handler that dies before the dead letter is
// deleted leaves it, and whoever redrives it again within the stream's window makes no second event. The id has more than the
// number in it, which anybody could have used up before: what a stranger cannot know, when and of what it died.
func (s *Service) redrive(ctx context.Context, account string, m *jetstream.RawStreamMsg) error {
	var d schema.DeadLetter
	if err := schema.Unmarshal(m.Data, &d); err != nil {
		s.log.Warn("a dead letter cannot be read", "sequence", m.Sequence, "error", err)
		return errNoFunction
	}
	e := &d.Event
	if schema.ValidateFunctionName(e.Function) != nil {
		return errNoFunction
	}
	byName := ""
	if e.BySubject {
		byName = e.Tenant
	}
	sum := sha256.Sum256(m.Data)
	h := nats.Header{schema.HeaderMsgID: {fmt.Sprintf("redrive/%d/%s", m.Sequence, hex.EncodeToString(sum[:16]))}}
	for name, value := range map[string]string{
		schema.HeaderQualifier: e.Qualifier, schema.HeaderRequestID: e.RequestID, schema.HeaderClientContext: string(e.ClientContext),
		schema.HeaderTraceparent: e.Traceparent, schema.HeaderTracestate: e.Tracestate, schema.HeaderDeadTry: e.FirstTry,
	} {
		if value != "" {
			h[name] = []string{value}
		}
	}
	if !e.BySubject && e.Tenant != "" {
		h[schema.HeaderTenant] = []string{e.Tenant}
	}
	wait, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	reply, err := s.nc.RequestMsgWithContext(wait, &nats.Msg{Subject: s.cfg.Names.Event(account, e.Function, byName), Header: h, Data: e.Payload})
	if err != nil {
		return fmt.Errorf("redrive dead letter %d: %w", m.Sequence, err)
	}
	if _, err := schema.ReadAccepted(reply.Data); err != nil {
		return err
	}
	return nil
}

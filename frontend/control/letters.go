package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// answerRoom is what an answer needs beside the payloads of its items, in bytes.
const answerRoom = 64 << 10

// listDeadLetters lists the events that will not be tried again, oldest first, each with its payload and why.
func (s *Service) listDeadLetters(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.EventsInput](request)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	_, after, err := readSequences(in.Marker, "deadletters", 1)
	if err != nil {
		return nil, err
	}
	filter, name, err := s.deadFilter(account, in.FunctionName)
	if err != nil {
		return nil, err
	}
	if len(in.Ids) > 0 {
		return s.someDeadLetters(ctx, account, in)
	}
	messages, err := s.messages(ctx, s.cfg.Names.Stream(topology.DeadLetters), after[0]+1, filter)
	if err != nil {
		return nil, err
	}
	page := s.letterPage(size)
	for {
		m, err := messages.next(ctx)
		if err != nil {
			return nil, err
		}
		if m == nil {
			break
		}
		if !page.add(m) {
			page.out.NextMarker = sequenceMarker("deadletters", "", page.last)
			break
		}
	}
	return page.out, s.knownOrHasLeft(ctx, account, name, page.last > 0 || in.Marker != "")
}

// someDeadLetters are those that the request names, as far as they are there and fit.
func (s *Service) someDeadLetters(ctx context.Context, account string, in *schema.EventsInput) (any, error) {
	if in.FunctionName != "" || in.Marker != "" {
		return nil, schema.Invalid(schema.FieldError{Field: "Ids", Allowed: "without FunctionName and Marker"})
	}
	sequences, err := sequencesOf(in.Ids)
	if err != nil {
		return nil, err
	}
	stream, err := s.deadStream(ctx)
	if err != nil {
		return nil, err
	}
	page := s.letterPage(len(sequences))
	for _, sequence := range sequences {
		m, err := s.deadLetter(ctx, stream, account, sequence)
		if err != nil {
			return nil, err
		}
		if m != nil && !page.add(m) {
			return nil, schema.Invalid(schema.FieldError{Field: "Ids", Allowed: "fewer: the answer would be too large"})
		}
	}
	return page.out, nil
}

// letterPage is a page that is being filled.
type letterPage struct {
	s     *Service
	out   *schema.DeadLettersOutput
	size  int
	room  int // bytes that the answer may still take
	bytes int // read for it
	last  uint64
}

func (s *Service) letterPage(size int) *letterPage {
	return &letterPage{
		s: s, size: size, room: min(pageBytes/2, int(s.nc.MaxPayload())-answerRoom),
		out: &schema.DeadLettersOutput{DeadLetters: []schema.DeadLetterItem{}},
	}
}

// add takes a dead letter in, or reports that the page is full without it.
func (p *letterPage) add(m *jetstream.RawStreamMsg) bool {
	if len(p.out.DeadLetters) == p.size || p.bytes > pageBytes {
		return false
	}
	item := p.s.letterItem(m)
	text, err := jsonOf(item)
	if err == nil && len(text) > p.room && len(p.out.DeadLetters) > 0 {
		return false
	}
	if err != nil || len(text) > int(p.s.nc.MaxPayload())-answerRoom { // alone it would not leave either
		item.Payload, item.Base64 = nil, false
	}
	p.out.DeadLetters = append(p.out.DeadLetters, item)
	p.room, p.bytes, p.last = p.room-len(text), p.bytes+len(m.Data), m.Sequence
	return true
}

func (s *Service) letterItem(m *jetstream.RawStreamMsg) schema.DeadLetterItem {
	item := schema.DeadLetterItem{ID: strconv.FormatUint(m.Sequence, 10), Died: m.Time.UTC()}
	var d schema.DeadLetter
	if err := schema.Unmarshal(m.Data, &d); err != nil {
		s.log.Warn("a dead letter cannot be read", "sequence", m.Sequence, "error", err)
		item.Error = &schema.EventError{Code: string(schema.CodeInternal), Message: "this dead letter cannot be read"}
		return item
	}
	e := &d.Event
	item.Function, item.Qualifier, item.Tenant, item.RequestID = e.Function, e.Qualifier, e.Tenant, e.RequestID
	item.Reason, item.Error, item.Attempts, item.Accepted, item.Died = d.Reason, d.Error, e.Attempts, moment(e.Accepted), moment(d.Died)
	item.Bytes = len(e.Payload)
	switch {
	case json.Valid(e.Payload):
		item.Payload = json.RawMessage(e.Payload)
	case utf8.Valid(e.Payload):
		item.Payload, _ = jsonOf(string(e.Payload)) // a string cannot fail
	default:
		item.Payload, _ = jsonOf(base64.StdEncoding.EncodeToString(e.Payload))
		item.Base64 = true
	}
	return item
}

// sequencesOf reads the ids of dead letters, each once.
func sequencesOf(ids []string) ([]uint64, error) {
	if len(ids) > schema.MaxDeadLetters {
		return nil, schema.Invalid(schema.FieldError{Field: "Ids", Got: strconv.Itoa(len(ids)) + " of them", Allowed: fmt.Sprintf("at most %d", schema.MaxDeadLetters)})
	}
	seen := make(map[uint64]bool, len(ids))
	var out []uint64
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != id {
			return nil, schema.Invalid(schema.FieldError{Field: "Ids", Got: clip(id), Allowed: "ids of dead letters, as ListDeadLetters has them"})
		}
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out, nil
}

func (s *Service) deadStream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := s.store.js.Stream(ctx, s.cfg.Names.Stream(topology.DeadLetters))
	if err != nil {
		return nil, fmt.Errorf("look at the dead letters: %w", err)
	}
	return stream, nil
}

// deadLetter reads one dead letter of an account; nil: it is not there.
func (s *Service) deadLetter(ctx context.Context, stream jetstream.Stream, account string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	m, err := stream.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read dead letter %d: %w", sequence, err)
	case !s.deadSubject(account, m.Subject):
		return nil, nil // somebody else's
	}
	return m, nil
}

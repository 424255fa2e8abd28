package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	strayAtOnce = 4      // subjects that are drained at once
	maxPassed   = 1000   // subjects with wildcards that are remembered
	strayScan   = 10_000 // messages of others that are passed over for one whose subject has wildcards
	noMessage   = 10037  // JetStream: nothing there
)

// drainStray takes what lies under a subject of no known function to the dead letters, one message after the other: read,
// buried, deleted. It has no consumer: names are cheap to invent, and consumers are not. Two frontends that drain the same do
// no harm, for it is buried under one id and deleted by its sequence.
func (p *Pollers) drainStray(s *stream, subject string) {
	p.mu.Lock()
	if p.strange[subject] || len(p.strange) >= strayAtOnce {
		p.mu.Unlock()
		return
	}
	p.strange[subject] = true
	p.mu.Unlock()
	p.slow.Go(func() {
		if err := p.drain(p.life, s, subject); err != nil && p.life.Err() == nil {
			p.trouble.log(p.log, "events of no function stay where they are", "subject", short(subject), "error", err)
		}
		p.mu.Lock()
		delete(p.strange, subject)
		p.mu.Unlock()
	})
}

func (p *Pollers) drain(ctx context.Context, s *stream, subject string) error {
	t, ok := p.names.ParseEvent(subject)
	why := error(nil)
	if ok {
		known, err := p.runner.Lookup(ctx, t.Account, t.Function)
		if err != nil || known {
			return err // a poller takes it
		}
		why = schema.Errorf(schema.CodeNotFound, "Function not found: %s", schema.ARN(t.Account, t.Function, ""))
	}
	from := p.searched(subject, 0)
	defer func() { p.searched(subject, from) }()
	for passed := 0; passed < strayScan; {
		m, sequence, at, err := p.message(ctx, s.name, subject, from)
		if err != nil {
			return err
		}
		if m == nil {
			from = 0 // from the beginning, should there be more of them one day
			return nil
		}
		from = sequence + 1
		if m.Subject != subject {
			passed++
			continue
		}
		e, err := accepted(p.runner, p.names, subjects.DefaultAccount, identity(subjects.DefaultAccount, p.created(subjects.DefaultAccount), sequence), at, m)
		if why != nil {
			err = why
		}
		e.LastError = refusal(err)
		if err := p.bury(ctx, &verdict{next: failed, reason: schema.DeadInvalid, event: e}); err != nil {
			return err
		}
		if err := p.remove(ctx, s.name, sequence); err != nil {
			return err
		}
	}
	return nil
}

// searched remembers up to which sequence a stream was searched for a subject with wildcards, as which every other subject
// looks: so a search costs each of their messages one look, however often it is taken up again. to is 0 to ask.
func (p *Pollers) searched(subject string, to uint64) (from uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !strings.ContainsAny(subject, "*>"):
	case to > 0 && len(p.passed) < maxPassed:
		p.passed[subject] = to
	case to > 0:
		clear(p.passed)
	default:
		from = p.passed[subject]
		delete(p.passed, subject)
	}
	return max(1, from)
}

// message is the next message of a subject from a sequence on, nil if there is none.
func (p *Pollers) message(ctx context.Context, stream, subject string, from uint64) (m *nats.Msg, sequence uint64, at time.Time, err error) {
	question, err := json.Marshal(map[string]any{"seq": from, "next_by_subj": subject})
	if err != nil {
		return nil, 0, at, err
	}
	var answer struct {
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
		Error *apiError `json:"error"`
	}
	if err := p.ask(ctx, "$JS.API.STREAM.MSG.GET."+stream, question, &answer); err != nil {
		return nil, 0, at, err
	}
	switch got := answer.Message; {
	case answer.Error != nil && answer.Error.Code == noMessage:
		return nil, 0, at, nil
	case answer.Error != nil || got == nil:
		return nil, 0, at, fmt.Errorf("read a message of %s: %w", stream, answer.Error.asError())
	default:
		m = &nats.Msg{Subject: got.Subject, Data: got.Data}
		if len(got.Header) > 0 {
			if m.Header, err = nats.DecodeHeadersMsg(got.Header); err != nil {
				m.Header, err = nil, nil // it is buried without
			}
		}
		return m, got.Sequence, got.Time, nil
	}
}

// remove deletes a message that was buried.
func (p *Pollers) remove(ctx context.Context, stream string, sequence uint64) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	body := append(strconv.AppendUint([]byte(`{"seq":`), sequence, 10), `,"no_erase":true}`...)
	if err := p.ask(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, body, &answer); err != nil {
		return err
	}
	if answer.Error != nil && answer.Error.Code != 10043 && answer.Error.Code != noMessage { // another frontend was first
		return fmt.Errorf("delete message %d of %s: %w", sequence, stream, answer.Error.asError())
	}
	return nil
}

// apiError is the error member of JetStream's answers.
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) asError() error {
	if e == nil {
		return errors.New("an answer that cannot be read")
	}
	return fmt.Errorf("%s (%d)", e.Description, e.Code)
}

// ask asks JetStream's API.
func (p *Pollers) ask(ctx context.Context, subject string, question []byte, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lookWait, errors.New("waiting for JetStream"))
	defer cancel()
	m, err := p.nc.RequestWithContext(ctx, subject, question)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", subject, err)
	}
	return nil
}

package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// The states of an event that lies in a stream.
const (
	eventWaiting  = "waiting"
	eventRunning  = "running"
	eventRetrying = "retrying"
)

// pageBytes bounds the payloads that are read for one page of a list: an event may have 1 MiB.
const pageBytes = 8 << 20

// listEvents counts a function's events, and lists them: first the accepted ones in their order, then those that have been tried.
// Which of them run, counts and list take from the same look at the pollers' consumers.
func (s *Service) listEvents(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.EventsInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListEvents", "FunctionName", "Marker", "MaxItems"); err != nil {
		return nil, err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	stage, after, err := readSequences(in.Marker, "events", 1)
	if err != nil {
		return nil, err
	}
	out := &schema.EventsOutput{FunctionName: name, Events: []schema.EventItem{}}
	running, err := s.countEvents(ctx, account, name, out)
	if err != nil {
		return nil, err
	}
	if out.Waiting+out.Running+out.Retrying+out.DeadLetters == 0 {
		_, err := s.read(ctx, account, name) // events may outlive their function, so the name is judged only now
		return out, err
	}
	return out, s.pageOfEvents(ctx, account, name, stage, after[0], size, running, out)
}

// outEvents is what is out at the pollers of a function: of its accepted events, and of those that became due for another try.
type outEvents struct{ first, again claims }

// countEvents asks the streams what lies there, and the pollers' consumers how much of it is out. The answers are of
// different moments, and a count never falls below nothing by that.
func (s *Service) countEvents(ctx context.Context, account, name string, out *schema.EventsOutput) (running outEvents, err error) {
	events, retries, durable := s.cfg.Names.Events(account), s.cfg.Names.Stream(topology.Retries), s.cfg.Names.EventDurable(account, name)
	if running.first, err = s.claimed(ctx, events, durable); err != nil {
		return running, err
	}
	if running.again, err = s.claimed(ctx, retries, durable); err != nil {
		return running, err
	}
	var first uint64
	for _, filter := range s.cfg.Names.EventFilters(account, name) {
		n, err := s.count(ctx, events, filter)
		if err != nil {
			return running, err
		}
		first += n
	}
	held, err := s.count(ctx, retries, s.cfg.Names.RetryHeldOf(account, name))
	if err != nil {
		return running, err
	}
	due, err := s.count(ctx, retries, s.cfg.Names.RetryDue(account, name))
	if err != nil {
		return running, err
	}
	if out.DeadLetters, err = s.count(ctx, s.cfg.Names.Stream(topology.DeadLetters), s.cfg.Names.Dead(account, name)); err != nil {
		return running, err
	}
	runningFirst, runningAgain := min(running.first.n, first), min(running.again.n, due)
	out.Waiting, out.Running, out.Retrying = first-runningFirst, runningFirst+runningAgain, held+due-runningAgain
	return running, nil
}

// pageOfEvents lists from where the page before ended.
func (s *Service) pageOfEvents(ctx context.Context, account, name, stage string, after uint64, size int, running outEvents,
	out *schema.EventsOutput,
) error {
	names := s.cfg.Names
	retries := names.Stream(topology.Retries)
	for _, part := range [...]struct {
		state, stream string
		filters       []string
		out           claims
	}{
		{eventWaiting, names.Events(account), names.EventFilters(account, name), running.first},
		{eventRetrying, retries, []string{names.RetryHeldOf(account, name), names.RetryDue(account, name)}, running.again},
	} {
		if stage == eventRetrying && part.state == eventWaiting {
			continue
		}
		messages, err := s.messages(ctx, part.stream, after+1, part.filters...)
		if err != nil {
			return err
		}
		after = 0
		bytes := 0
		for last := uint64(0); ; {
			m, err := messages.next(ctx)
			if err != nil {
				return err
			}
			if m == nil {
				break
			}
			if len(out.Events) == size || bytes > pageBytes {
				// At the beginning of a part the page ended with the part before.
				out.NextMarker = sequenceMarker("events", part.state, last)
				return nil
			}
			item := s.eventItem(m)
			item.State = part.state
			if part.out.hold(m.Sequence) && (part.state == eventWaiting || m.Subject == names.RetryDue(account, name)) {
				item.State = eventRunning
			}
			out.Events = append(out.Events, item)
			last, bytes = m.Sequence, bytes+len(m.Data)
		}
	}
	return nil
}

// eventItem is what can be told of an event as it lies in its stream. What cannot be read is left empty: the poller buries it.
func (s *Service) eventItem(m *jetstream.RawStreamMsg) schema.EventItem {
	item := schema.EventItem{Sequence: m.Sequence, Accepted: m.Time.UTC(), Bytes: len(m.Data)}
	if target, ok := s.cfg.Names.ParseEvent(m.Subject); ok {
		item.RequestID, item.Qualifier, item.Tenant = m.Header.Get(schema.HeaderRequestID), m.Header.Get(schema.HeaderQualifier), target.Tenant
		if item.Tenant == "" {
			item.Tenant = m.Header.Get(schema.HeaderTenant)
		}
		return item
	}
	var e schema.Event
	if err := schema.Unmarshal(m.Data, &e); err != nil {
		s.log.Warn("an event that waits cannot be read", "sequence", m.Sequence, "error", err)
		return item
	}
	item.RequestID, item.Qualifier, item.Tenant, item.Bytes = e.RequestID, e.Qualifier, e.Tenant, len(e.Payload)
	item.Attempts, item.Accepted, item.LastError = e.Attempts, moment(e.Accepted), e.LastError
	due := m.Time.UTC() // of one that is due: when it became so
	if at, ok := strings.CutPrefix(m.Header.Get(jetstream.ScheduleHeader), "@at "); ok {
		if t, err := time.Parse(time.RFC3339, at); err == nil {
			due = t.UTC()
		}
	}
	item.Due = &due
	return item
}

// deadSubject reports whether a message lies among the dead letters of an account.
func (s *Service) deadSubject(account, subject string) bool {
	prefix := strings.TrimSuffix(s.cfg.Names.DeadOf(account), "*")
	return strings.HasPrefix(subject, prefix)
}

// deadFilter is the filter of the dead letters of a function, "" for all of the account's.
func (s *Service) deadFilter(account, functionName string) (filter, name string, err error) {
	if functionName == "" {
		return s.cfg.Names.DeadOf(account), "", nil
	}
	if name, err = unqualified(functionName); err != nil {
		return "", "", err
	}
	return s.cfg.Names.Dead(account, name), name, nil
}

// knownOrHasLeft refuses a function's name under which nothing is: neither a function nor what one left.
func (s *Service) knownOrHasLeft(ctx context.Context, account, name string, found bool) error {
	if name == "" || found {
		return nil
	}
	if _, err := s.read(ctx, account, name); err != nil {
		return fmt.Errorf("no dead letter, and %w", err)
	}
	return nil
}

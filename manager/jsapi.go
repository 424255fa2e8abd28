package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Requests to JetStream that its client has no words for, or answers from a follower. Each is asked of the stream's leader.

const (
	errCodeNoMessage  jetstream.ErrorCode = 10037
	errCodeNoStream   jetstream.ErrorCode = 10059
	errCodeNoConsumer jetstream.ErrorCode = 10014
)

// api asks JetStream for something; an error that it answers is a [jetstream.APIError].
func (m *Manager) api(ctx context.Context, subject string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	msg, err := m.nc.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &failed); err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	if failed.Error != nil {
		return fmt.Errorf("ask %s: %w", subject, failed.Error)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	return nil
}

// is reports whether an error is one of these that JetStream answers.
func is(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, c := range codes {
		if api.ErrorCode == c {
			return true
		}
	}
	return false
}

// stored is one message of a stream.
type stored struct {
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
	Data     []byte `json:"data"`
}

// removed reports whether an entry of a bucket says that its key is gone: it was deleted, or its time was over.
func (s *stored) removed() bool {
	return bytes.Contains(s.Header, []byte("KV-Operation: ")) || bytes.Contains(s.Header, []byte("Nats-Marker-Reason: "))
}

// lastOn is the last message of a subject; its sequence is 0 if there is none, or no stream.
func (m *Manager) lastOn(ctx context.Context, stream, subject string) (stored, error) {
	var answer struct {
		Message stored `json:"message"`
	}
	err := m.api(ctx, "STREAM.MSG.GET."+stream, map[string]string{"last_by_subj": subject}, &answer)
	if is(err, errCodeNoMessage, errCodeNoStream) {
		return stored{}, nil
	}
	return answer.Message, err
}

// purge removes every message of a subject; nothing is to do where there is no stream.
func (m *Manager) purge(ctx context.Context, stream, subject string) error {
	err := m.api(ctx, "STREAM.PURGE."+stream, map[string]string{"filter": subject}, nil)
	if is(err, errCodeNoStream) {
		return nil
	}
	return err
}

// holding is what a stream holds: how many messages by subject, and the names of its consumers.
type holding struct {
	created   time.Time
	messages  uint64
	subjects  map[string]uint64
	consumers map[string]bool
}

// holds asks what a stream holds; ok is false if there is no such stream.
func (m *Manager) holds(ctx context.Context, stream string) (h holding, ok bool, err error) {
	var info struct {
		Created time.Time `json:"created"`
		State   struct {
			Messages uint64            `json:"messages"`
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := m.api(ctx, "STREAM.INFO."+stream, map[string]string{"subjects_filter": ">"}, &info); err != nil {
		if is(err, errCodeNoStream) {
			return h, false, nil
		}
		return h, false, err
	}
	h = holding{created: info.Created, messages: info.State.Messages, subjects: info.State.Subjects, consumers: make(map[string]bool)}
	for more := true; more; {
		var page struct {
			Total     int      `json:"total"`
			Consumers []string `json:"consumers"`
		}
		if err := m.api(ctx, "CONSUMER.NAMES."+stream, map[string]int{"offset": len(h.consumers)}, &page); err != nil {
			if is(err, errCodeNoStream) {
				return h, false, nil
			}
			return h, false, err
		}
		for _, name := range page.Consumers {
			h.consumers[name] = true
		}
		more = len(page.Consumers) > 0 && len(h.consumers) < page.Total
	}
	return h, true, nil
}

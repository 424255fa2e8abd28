package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

// messages reads the messages of a stream on some subjects in the order of their sequences, each by a request of its own:
// nothing is claimed by it and no consumer is made, whose filter would bar the pollers'.
type messages struct {
	nc      *nats.Conn
	stream  jetstream.Stream
	filters []string
	heads   []*jetstream.RawStreamMsg // the next of each filter that has one
	from    []uint64                  // where to look for it; 0: there is none
}

func (s *Service) messages(ctx context.Context, stream string, from uint64, filters ...string) (*messages, error) {
	st, err := s.store.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	m := &messages{nc: s.nc, stream: st, filters: filters, heads: make([]*jetstream.RawStreamMsg, len(filters)), from: make([]uint64, len(filters))}
	for i := range m.from {
		m.from[i] = max(from, 1)
	}
	return m, nil
}

// next is the message with the lowest sequence, nil when there is none any more.
func (m *messages) next(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	var first *jetstream.RawStreamMsg
	at := 0
	for i, filter := range m.filters {
		if m.heads[i] == nil && m.from[i] > 0 {
			head, err := m.read(ctx, m.from[i], filter)
			switch {
			case errors.Is(err, jetstream.ErrMsgNotFound):
				m.from[i] = 0
			case err != nil:
				return nil, fmt.Errorf("read a message on %s: %w", filter, err)
			default:
				m.heads[i], m.from[i] = head, head.Sequence+1
			}
		}
		if h := m.heads[i]; h != nil && (first == nil || h.Sequence < first.Sequence) {
			first, at = h, i
		}
	}
	m.heads[at] = nil
	return first, nil
}

// read is the first message from a sequence on that lies under a filter. nats.go's own reading takes a stored message for an answer of
// the server where it has no body and a Status among its headers, which are its writer's: one letter of that kind would hide all
// behind it. What has a sequence is a message; the server's own headers come last.
func (m *messages) read(ctx context.Context, from uint64, filter string) (*jetstream.RawStreamMsg, error) {
	if !m.stream.CachedInfo().Config.AllowDirect { // its answers keep the two apart
		return m.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	}
	question, err := json.Marshal(map[string]any{"seq": from, "next_by_subj": filter})
	if err != nil {
		return nil, err
	}
	a, err := m.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+m.stream.CachedInfo().Config.Name, question)
	if err != nil {
		return nil, err
	}
	last := func(name string) string {
		if values := a.Header[name]; len(values) > 0 {
			return values[len(values)-1]
		}
		return ""
	}
	if last(jetstream.SequenceHeader) == "" {
		if status := last(schema.HeaderStatus); status != "404" {
			return nil, fmt.Errorf("the server answered %q %s", status, last("Description"))
		}
		return nil, jetstream.ErrMsgNotFound
	}
	head := &jetstream.RawStreamMsg{Subject: last(jetstream.SubjectHeader), Header: a.Header, Data: a.Data}
	if head.Sequence, err = strconv.ParseUint(last(jetstream.SequenceHeader), 10, 64); err == nil {
		head.Time, err = time.Parse(time.RFC3339Nano, last(jetstream.TimeStampHeaer))
	}
	if err != nil {
		return nil, fmt.Errorf("the server's headers of a message: %w", err)
	}
	return head, nil
}

// last is the sequence of the newest message of the stream, of any subject.
func (m *messages) last() uint64 { return m.stream.CachedInfo().State.LastSeq }

// countPages bounds how much of a stream's subjects is read to count what lies under a filter: each page is 100,000 of them.
const countPages = 10

// count is how many messages lie under a filter; where that takes more subjects than countPages, at least so many.
func (s *Service) count(ctx context.Context, stream, filter string) (n uint64, err error) {
	seen := 0
	for range countPages {
		request, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": seen})
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", filter, err)
		}
		m, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, request)
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", filter, err)
		}
		var info struct {
			Total int                 `json:"total"`
			Error *jetstream.APIError `json:"error"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		if err := json.Unmarshal(m.Data, &info); err != nil {
			return 0, fmt.Errorf("count %s: %w", filter, err)
		}
		if info.Error != nil {
			return 0, fmt.Errorf("count %s: %w", filter, info.Error)
		}
		for _, messages := range info.State.Subjects {
			n += messages
		}
		if seen += len(info.State.Subjects); len(info.State.Subjects) == 0 || seen >= info.Total {
			break
		}
	}
	return n, nil
}

// claims is what of a work queue is out at the pollers of one durable, at one moment.
type claims struct {
	n    uint64 // messages that are delivered and not acknowledged
	upTo uint64 // highest sequence that was delivered
}

// hold reports whether a message that still lies in the stream, under the durable's filter, is out: what was acknowledged lies
// there no more.
func (c claims) hold(sequence uint64) bool { return c.n > 0 && sequence <= c.upTo }

// claimed asks for the claims of a durable; there are none where nobody has made it.
func (s *Service) claimed(ctx context.Context, stream, durable string) (claims, error) {
	c, err := s.store.js.Consumer(ctx, stream, durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return claims{}, nil
	case err != nil:
		return claims{}, fmt.Errorf("look at consumer %s of %s: %w", durable, stream, err)
	}
	info := c.CachedInfo()
	return claims{uint64(info.NumAckPending), info.Delivered.Stream}, nil
}

// sequenceMarker is the marker of a page that ends with a message of a stream.
func sequenceMarker(kind, stream string, sequences ...uint64) string {
	item := []string{stream}
	for _, n := range sequences {
		item = append(item, strconv.FormatUint(n, 10))
	}
	return writeMarker(kind, item...)
}

// readSequences reads a [sequenceMarker] with n sequences, all 0 for the first page.
func readSequences(marker, kind string, n int) (stream string, sequences []uint64, err error) {
	item, err := readMarker(marker, kind, n+1)
	if err != nil {
		return "", nil, err
	}
	sequences = make([]uint64, n)
	for i, text := range item[1:] {
		if text == "" {
			continue
		}
		if sequences[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return "", nil, schema.Invalid(schema.FieldError{Field: "Marker", Got: clip(marker), Allowed: "the NextMarker of the page before"})
		}
	}
	return item[0], sequences, nil
}

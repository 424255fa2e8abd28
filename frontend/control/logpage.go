package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Bounds of what one answer reads and holds.
const (
	logAnswer     = 1 << 20  // bytes of JSON, about
	logScan       = 16 << 20 // bytes of messages; who looks for one request among many pages on
	logBatch      = 256      // messages asked for at once
	logBatchBytes = 2 << 20
)

// readLogs reads what there is, within the bounds of one answer, and says where the next one goes on.
func (s *Service) readLogs(ctx context.Context, q logQuery) (*schema.LogsOutput, place, error) {
	stream, err := s.store.js.Stream(ctx, s.cfg.Names.Stream(topology.Logs))
	if err != nil {
		return nil, place{}, fmt.Errorf("look at the log: %w", err)
	}
	info := stream.CachedInfo()
	life, first, last := info.Created.UnixNano(), max(info.State.FirstSeq, 1), info.State.LastSeq
	page := &logPage{q: q, names: s.cfg.Names, out: &schema.LogsOutput{Lines: []schema.LogLineItem{}},
		whole: int(min(logAnswer, s.nc.MaxPayload()-4<<10))}
	page.room = page.whole
	page.next = place{stream: life, seq: first}
	if q.from.seq > 0 {
		// Another life of the stream counts from 1 again.
		if page.out.Behind = q.from.stream != life || q.from.seq < first; !page.out.Behind {
			page.next = q.from
		}
	}
	for more := page.next.seq <= last; more && !page.full; {
		ask := messageRequest{Seq: page.next.seq}
		if q.from.seq == 0 && !q.since.IsZero() && page.scanned == 0 {
			ask = messageRequest{Since: &q.since}
		}
		if more, err = s.eachLog(ctx, ask, page); err != nil {
			return nil, place{}, fmt.Errorf("read the log: %w", err)
		}
		if page.scanned >= logScan && more {
			page.full = true
		}
	}
	page.out.More = page.full
	if !page.full {
		// Whatever lies up to the last message is not of this function, so nobody has to walk over it again.
		page.next = place{stream: life, seq: max(page.next.seq, last+1)}
	}
	page.out.Cursor = page.next.String()
	return page.out, page.next, nil
}

// logPage is an answer that is being filled.
type logPage struct {
	q       logQuery
	names   subjects.Names
	out     *schema.LogsOutput
	next    place
	whole   int // bytes of JSON that an answer has room for
	room    int // of these, left
	scanned int // bytes of messages
	full    bool
}

// add takes the lines of one message from where the page stands, until it is full.
func (p *logPage) add(subject string, seq uint64, data []byte) error {
	p.scanned += len(data) + 1
	if seq != p.next.seq {
		p.next.seq, p.next.line = seq, 0
	}
	_, function, version, tenant, ok := p.names.ParseLog(subject)
	of := schema.LogFunction{Name: function, Version: version, Tenant: tenant}
	var batch schema.LogLines
	if !ok {
		return fmt.Errorf("message %d: subject %q is none of log lines", seq, clip(subject))
	}
	if err := schema.Unmarshal(data, &batch); err != nil {
		return fmt.Errorf("message %d: %w", seq, err)
	}
	for ; p.next.line < len(batch.Lines); p.next.line++ {
		l := &batch.Lines[p.next.line]
		if p.q.request != "" && l.RequestID != p.q.request || l.Time.Before(p.q.since) {
			continue
		}
		had, room := len(p.out.Lines), p.room
		for _, text := range l.Texts(of) {
			item := schema.LogLineItem{Time: moment(l.Time), RequestID: l.RequestID, Function: function, Version: version, Tenant: tenant,
				Manager: batch.Manager, Environment: batch.Environment, Platform: l.Platform, Type: l.Kind.Type(), Cut: l.Cut,
				Text: strings.ToValidUTF8(text, "\uFFFD")}
			p.room -= p.fit(&item)
			p.out.Lines = append(p.out.Lines, item)
		}
		if had > 0 && (p.room < 0 || len(p.out.Lines) > p.q.most) {
			p.out.Lines, p.room, p.full = p.out.Lines[:had], room, true
			return nil
		}
	}
	p.next = place{stream: p.next.stream, seq: seq + 1}
	return nil
}

// fit is how many bytes of JSON a line takes. One that no answer has room for is cut: six bytes may stand for one.
func (p *logPage) fit(item *schema.LogLineItem) int {
	for {
		b, err := json.Marshal(item)
		if err != nil || len(b) < p.whole || item.Text == "" {
			return len(b) + 1
		}
		item.Text, item.Cut = strings.ToValidUTF8(item.Text[:len(item.Text)/2], ""), true
	}
}

// eachLog reads the next messages into the page, and reports whether there are more.
func (s *Service) eachLog(ctx context.Context, ask messageRequest, page *logPage) (more bool, err error) {
	ask.Subject = page.q.filter
	return s.eachMessage(ctx, s.cfg.Names.Stream(topology.Logs), ask, func(subject string, seq uint64, data []byte) error {
		if page.full {
			return nil
		}
		err := page.add(subject, seq, data)
		if err != nil {
			page.next = place{stream: page.next.stream, seq: seq + 1}
		}
		return err
	})
}

// messageRequest asks a stream for the next messages of a subject, from a sequence or a time on (ADR-31).
type messageRequest struct {
	Seq     uint64     `json:"seq,omitempty"`
	Since   *time.Time `json:"start_time,omitempty"`
	Subject string     `json:"next_by_subj"`
	Batch   int        `json:"batch"`
	Bytes   int        `json:"max_bytes"`
}

// eachMessage reads the next messages, and reports whether there are more. That is one request and no consumer: answers come one a
// message, then one without a body that says how many are left. A message of which take says that it is none is left aside.
func (s *Service) eachMessage(
	ctx context.Context, stream string, ask messageRequest, take func(subject string, seq uint64, data []byte) error,
) (more bool, err error) {
	ask.Batch, ask.Bytes = logBatch, logBatchBytes
	request, err := json.Marshal(ask)
	if err != nil {
		return false, err
	}
	answers, err := s.nc.SubscribeSync(s.nc.NewInbox())
	if err != nil {
		return false, err
	}
	defer func() { _ = answers.Unsubscribe() }() // fails on a closed connection only
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, answers.Subject, request); err != nil {
		return false, err
	}
	for {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return false, err
		}
		// What a message was stored with comes first, under whatever names its writer chose, and then what the server adds to it.
		sequence := lastOf(m.Header, jetstream.SequenceHeader)
		if sequence == "" {
			switch status := m.Header.Get("Status"); status {
			case "204":
				return m.Header.Get("Nats-Num-Pending") != "0", nil
			case "404":
				return false, nil
			case "503":
				return false, nats.ErrNoResponders
			default:
				return false, fmt.Errorf("the server answers %q %s", status, m.Header.Get("Description"))
			}
		}
		seq, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil {
			return false, fmt.Errorf("a message without a sequence: %w", err)
		}
		if err := take(lastOf(m.Header, jetstream.SubjectHeader), seq, m.Data); err != nil {
			s.log.Warn("left aside what does not belong into a stream", "stream", stream, "error", err)
		}
	}
}

func lastOf(h nats.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

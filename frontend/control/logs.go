package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// Bounds of GetLogs.
const (
	usualLines  = 500
	mostLines   = 5000
	mostSeconds = 20
	logLook     = 5 * time.Second // how long one who waits trusts that he would be told
)

// logQuery is a request of GetLogs as it is carried out.
type logQuery struct {
	account, name, qualifier string
	filter                   string
	request                  string
	since                    time.Time // zero: from the oldest
	from                     place     // zero: since
	most                     int
	wait                     time.Duration
}

// place is where an answer goes on: a line of a message of one life of the stream. As a text it is the cursor.
type place struct {
	stream int64 // when the stream was made, Unix ns
	seq    uint64
	line   int // of the message, the first to show
}

func (p place) String() string {
	return strconv.FormatInt(p.stream, 36) + "." + strconv.FormatUint(p.seq, 36) + "." + strconv.Itoa(p.line)
}

func parsePlace(cursor string) (p place, ok bool) {
	parts := strings.Split(cursor, ".")
	if len(parts) != 3 || len(cursor) > 64 {
		return place{}, false
	}
	var errs [3]error
	p.stream, errs[0] = strconv.ParseInt(parts[0], 36, 64)
	p.seq, errs[1] = strconv.ParseUint(parts[1], 36, 64)
	p.line, errs[2] = strconv.Atoi(parts[2])
	return p, errors.Join(errs[:]...) == nil && p.stream > 0 && p.seq > 0 && p.line >= 0
}

// getLogs answers with lines of a function, the oldest wanted first. Where there is none yet and the request says so, it
// waits for the first, as long as there is a seat.
func (s *Service) getLogs(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.LogsInput](request)
	if err != nil {
		return nil, err
	}
	q, err := s.logQuery(ctx, account, in)
	if err != nil {
		return nil, err
	}
	out, next, err := s.readLogs(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(out.Lines) == 0 {
		if err := s.hasLog(ctx, q); err != nil {
			return nil, err
		}
	}
	if len(out.Lines) > 0 || out.More || out.Behind || q.wait == 0 {
		return out, nil
	}
	select {
	case s.seats <- struct{}{}:
	default:
		return out, nil
	}
	q.from = next
	return later(func(ctx context.Context) (any, error) {
		defer func() { <-s.seats }()
		return s.awaitLogs(ctx, q, out)
	}), nil
}

func (s *Service) logQuery(ctx context.Context, account string, in *schema.LogsInput) (logQuery, error) {
	q := logQuery{account: account, request: in.RequestID, most: cmp.Or(in.MaxLines, usualLines), wait: time.Duration(in.WaitSeconds) * time.Second}
	var err error
	if q.name, q.qualifier, err = target(in.FunctionName, in.Qualifier); err != nil {
		return q, err
	}
	if in.TenantID != "" {
		if err := schema.ValidateTenant(in.TenantID); err != nil {
			return q, err
		}
	}
	var bad []schema.FieldError
	if in.MaxLines < 0 || in.MaxLines > mostLines {
		bad = append(bad, schema.FieldError{Field: "MaxLines", Got: strconv.Itoa(in.MaxLines), Allowed: fmt.Sprintf("1 to %d", mostLines)})
	}
	if in.WaitSeconds < 0 || in.WaitSeconds > mostSeconds {
		bad = append(bad, schema.FieldError{Field: "WaitSeconds", Got: strconv.Itoa(in.WaitSeconds), Allowed: fmt.Sprintf("0 to %d", mostSeconds)})
	}
	if in.Cursor != "" {
		var ok bool
		if q.from, ok = parsePlace(in.Cursor); !ok {
			bad = append(bad, schema.FieldError{Field: "Cursor", Got: clip(in.Cursor), Allowed: "the cursor of an answer"})
		}
	} else if in.Since != nil {
		q.since = *in.Since
	}
	if err := schema.Invalid(bad...); err != nil {
		return q, err
	}
	version := q.qualifier
	if version != "" && version != schema.Latest && !numbered(version) {
		rec, err := s.read(ctx, account, q.name)
		if err != nil {
			return q, err
		}
		v, ok := resolve(rec, version)
		if !ok {
			return q, notFound(account, q.name, version)
		}
		version = v.Version
	}
	q.filter = s.cfg.Names.LogsOf(account, q.name, version, in.TenantID)
	return q, nil
}

// hasLog refuses a function, or a version, that is not there and has left no line either.
func (s *Service) hasLog(ctx context.Context, q logQuery) error {
	rec, err := s.read(ctx, q.account, q.name)
	if err == nil {
		if _, ok := resolve(rec, q.qualifier); ok || q.qualifier == "" {
			return nil
		}
		err = notFound(q.account, q.name, q.qualifier)
	}
	if schema.CodeOf(err) != schema.CodeNotFound {
		return err
	}
	stream, lookErr := s.store.js.Stream(ctx, s.cfg.Names.Stream(topology.Logs))
	if lookErr != nil {
		return fmt.Errorf("look at the log: %w", lookErr)
	}
	if _, lookErr = stream.GetLastMsgForSubject(ctx, q.filter); errors.Is(lookErr, jetstream.ErrMsgNotFound) {
		return err
	}
	return lookErr
}

// awaitLogs waits for a first line and answers with what has come by then; out is what there was so far.
func (s *Service) awaitLogs(ctx context.Context, q logQuery, out *schema.LogsOutput) (*schema.LogsOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for {
		err := s.awaitLine(ctx, q)
		if ctx.Err() != nil {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		read, next, err := s.readLogs(ctx, q)
		switch {
		case err != nil && ctx.Err() != nil:
			return out, nil
		case err != nil:
			return nil, err
		case len(read.Lines) > 0 || read.More || read.Behind:
			return read, nil
		}
		out, q.from = read, next
	}
}

// awaitLine returns when the stream has a message that the query has not seen, or after a while all the same: should the
// server have lost the consumer that tells, it is made again. That consumer delivers headers to an inbox of ours.
func (s *Service) awaitLine(ctx context.Context, q logQuery) error {
	inbox, err := s.nc.SubscribeSync(s.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("wait for log lines: %w", err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // fails on a closed connection only
	if err := inbox.AutoUnsubscribe(1); err != nil {
		return fmt.Errorf("wait for log lines: %w", err)
	}
	look, cancel := context.WithTimeout(ctx, logLook)
	defer cancel()
	stream := s.cfg.Names.Stream(topology.Logs)
	teller, err := s.store.js.CreatePushConsumer(look, stream, jetstream.ConsumerConfig{
		DeliverSubject: inbox.Subject, FilterSubject: q.filter, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: q.from.seq,
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, Replicas: 1, InactiveThreshold: 2 * logLook,
	})
	if err != nil {
		return fmt.Errorf("wait for log lines: %w", err)
	}
	if _, err := inbox.NextMsgWithContext(look); err != nil && look.Err() == nil {
		return fmt.Errorf("wait for log lines: %w", err)
	}
	away, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTime)
	defer cancel()
	if err := s.store.js.DeleteConsumer(away, stream, teller.CachedInfo().Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		s.log.Debug("a consumer of log lines ends by its time", "error", err)
	}
	return nil
}

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
)

// Streams is what a worker without a right to JetStream has of streams: its manager looks at what it asks for and passes it on, and
// the NATS server answers into the worker's own inbox (schema/remote.go). No session is needed for it. Safe for concurrent use.
type Streams struct {
	nc              *nats.Conn
	names           subjects.Names
	manager, worker string
}

var _ worker.CodeStore = (*Streams)(nil)

// NewStreams makes it for a worker of a manager, over a connection that stays the caller's and whose own inboxes are the worker's.
func NewStreams(nc *nats.Conn, names subjects.Names, manager, worker string) *Streams {
	return &Streams{nc: nc, names: names, manager: manager, worker: worker}
}

// StoreLog stores a batch of log lines and returns when it stands in the stream: a [worker.ShipperConfig.Store]. It is a
// [worker.ErrLinesRefused] if they are of what this worker does not run, as its manager knows, and a [worker.ErrLinesLater] while a manager
// that has just started does not know it yet.
func (s *Streams) StoreLog(ctx context.Context, subject string, batch []byte) error {
	to := s.names.ManagerLog(s.manager, s.worker, subject)
	if to == "" {
		return fmt.Errorf("store log lines: %q is not where they go", subject)
	}
	_, err := s.put(ctx, to, batch)
	switch {
	case errors.Is(err, errRefused):
		return fmt.Errorf("%w: %w", worker.ErrLinesRefused, err)
	case errors.Is(err, errLater):
		return fmt.Errorf("%w: %w", worker.ErrLinesLater, err)
	}
	return err
}

// StoreUsage stores a record and returns when it stands in the stream: a [worker.LedgerConfig.Store]. It is a [worker.ErrUsageRefused]
// if the manager does not pass the record on, and a [worker.ErrUsageTwice] if the stream has one with its number.
func (s *Streams) StoreUsage(ctx context.Context, r *schema.UsageRecord) error {
	b, err := schema.Marshal(r)
	if err != nil {
		return err
	}
	ack, err := s.ask(ctx, subjects.ManagerUsage(s.manager, s.worker), b)
	switch {
	case errors.Is(err, errRefused):
		return fmt.Errorf("%w: %w", worker.ErrUsageRefused, err)
	case err == nil && ack.Duplicate:
		return worker.ErrUsageTwice
	}
	return err
}

// putLease writes this worker's lease, none to give it up, where message last stands.
func (s *Streams) putLease(ctx context.Context, record []byte, last uint64) (sequence uint64, err error) {
	b, err := schema.Marshal(schema.WorkerLease{V: schema.Version, Record: record, Last: last})
	if err != nil {
		return 0, err
	}
	return s.put(ctx, subjects.ManagerLease(s.manager, s.worker), b)
}

var (
	errRefused = errors.New("the manager refuses to pass it on")
	errLater   = errors.New("the manager does not pass it on yet: it is too much at once, or the manager has just started")
)

// put waits for the PubAck of what the manager stores. An answer of the server that it did not is a [*jetstream.APIError].
func (s *Streams) put(ctx context.Context, subject string, body []byte) (sequence uint64, err error) {
	ack, err := s.ask(ctx, subject, body)
	return ack.Seq, err
}

// pubAck is what the server answers.
type pubAck struct {
	Error     *jetstream.APIError `json:"error"`
	Stream    string              `json:"stream"`
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
}

// ask is put, with all that the PubAck says.
func (s *Streams) ask(ctx context.Context, subject string, body []byte) (ack pubAck, err error) {
	if !s.nc.IsConnected() {
		return ack, fmt.Errorf("ask manager %s: %w", s.manager, nats.ErrDisconnected)
	}
	m, err := s.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return ack, fmt.Errorf("ask manager %s: %w", s.manager, err)
	}
	switch status := m.Header.Get(schema.HeaderStatus); status {
	case "":
	case schema.StatusRefused:
		return ack, errRefused
	case schema.StatusLater:
		return ack, errLater
	default:
		return ack, fmt.Errorf("manager %s answers %s", s.manager, status)
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil:
		return ack, fmt.Errorf("the answer of the stream: %w", err)
	case ack.Error != nil:
		return ack, ack.Error
	case ack.Stream == "":
		return ack, errors.New("the answer of the stream is none")
	}
	return ack, nil
}

// A question that is under way when the connection breaks is never answered: it is asked again, and a package of which nothing comes
// any more fails, where an environment would wait for it as long as its manager lives.
const (
	codeWait  = 5 * time.Second // for an answer, and for the next piece
	codeTries = 3
	codePause = 100 * time.Millisecond
)

var errUnanswered = errors.New("the code store does not answer")

// Open reads the zip with this SHA-256, message by message: 0.2 ms for each 128 KB. What it reads is checked against that by who
// asks for it. Cancelling ctx ends the reading too.
func (s *Streams) Open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
	m, err := s.get(ctx, subjects.Piece{SHA256: sha256})
	if err != nil && !errors.Is(err, errNoMessage) {
		return nil, 0, fmt.Errorf("read package %s: %w", sha256, err)
	}
	var info jetstream.ObjectInfo
	if err == nil {
		if err := json.Unmarshal(m.Data, &info); err != nil {
			return nil, 0, fmt.Errorf("read package %s: its entry: %w", sha256, err)
		}
	}
	if err != nil || info.Deleted {
		return nil, 0, schema.Errorf(schema.CodeNotFound, "package %s is not in the code store: deploy the function again", sha256)
	}
	next := subjects.Piece{SHA256: sha256, Chunks: info.NUID, From: 1}
	return &pieces{ctx: ctx, store: s, next: next, left: info.Chunks}, int64(info.Size), nil
}

var errNoMessage = errors.New("there is no such message")

// get asks for one message; asking again for what was not answered is safe.
func (s *Streams) get(ctx context.Context, p subjects.Piece) (*nats.Msg, error) {
	subject := subjects.ManagerCode(s.manager, s.worker, p)
	for try := 1; ; try++ {
		within, cancel := context.WithTimeoutCause(ctx, codeWait, errUnanswered)
		m, err := s.nc.RequestWithContext(within, subject, nil)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && try == codeTries:
			return nil, fmt.Errorf("%w: %w", errUnanswered, err)
		case err != nil:
			if !pause(ctx, time.Duration(try)*codePause) { // no responders come at once, as while a stream changes its leader
				return nil, context.Cause(ctx)
			}
		case m.Header.Get(schema.HeaderStatus) == schema.StatusUnknown:
			return nil, errNoMessage
		case m.Header.Get(schema.HeaderStatus) == schema.StatusRefused:
			return nil, errRefused
		case m.Header.Get(schema.HeaderStatus) != "":
			return nil, fmt.Errorf("the code store answers %s %s", m.Header.Get(schema.HeaderStatus), m.Header.Get("Description"))
		default:
			return m, nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pieces is a package that is being read.
type pieces struct {
	ctx   context.Context // of its Open
	store *Streams
	next  subjects.Piece // where the next piece is looked for
	left  uint32
	rest  []byte
}

// Read gives what comes next of the package.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.left == 0 {
			return 0, io.EOF
		}
		m, err := p.store.get(p.ctx, p.next)
		if err != nil {
			return 0, fmt.Errorf("read a piece of a package: %w", err)
		}
		sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read a piece of a package: its sequence: %w", err)
		}
		p.next.From, p.rest = sequence+1, m.Data
		p.left--
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Close ends the reading.
func (p *pieces) Close() error { return nil }

package deploy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
)

// directStore reads packages out of the object store message by message. It is slower than codeStore, 0.2 ms for each 128 KB, and
// needs no consumer: who may make one on a stream may have its messages delivered to any subject of the account, and a worker
// may be taken over (SECURITY 1, K).
type directStore struct {
	nc            *nats.Conn
	store, stream string
}

var _ worker.CodeStore = (*directStore)(nil)

func newDirectStore(nc *nats.Conn, names subjects.Names) *directStore {
	return &directStore{nc: nc, store: names.Bucket(topology.Code), stream: topology.CodeStream(names)}
}

// Open reads the zip with this SHA-256. What it reads is checked against that by who asks for it.
func (d *directStore) Open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
	entry := "$O." + d.store + ".M." + base64.URLEncoding.EncodeToString([]byte(sha256))
	m, err := d.get(ctx, "."+entry, nil)
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
	return &pieces{ctx: ctx, store: d, subject: "$O." + d.store + ".C." + info.NUID, left: info.Chunks, next: 1}, int64(info.Size), nil
}

var errNoMessage = errors.New("there is no such message")

// get asks the stream for one message; asking again for what was not answered is safe.
func (d *directStore) get(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	for try := 1; ; try++ {
		within, cancel := context.WithTimeoutCause(ctx, codeWait, errUnanswered)
		m, err := d.nc.RequestWithContext(within, "$JS.API.DIRECT.GET."+d.stream+subject, body)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && try == codeTries:
			return nil, fmt.Errorf("%w: %w", errUnanswered, err)
		case err != nil:
			if !pause(ctx, time.Duration(try)*directPause) { // no responders come at once, as while a stream changes its leader
				return nil, context.Cause(ctx)
			}
		case m.Header.Get("Status") == "404":
			return nil, errNoMessage
		case m.Header.Get("Status") != "":
			return nil, fmt.Errorf("the code store answers %s %s", m.Header.Get("Status"), m.Header.Get("Description"))
		default:
			return m, nil
		}
	}
}

const directPause = 100 * time.Millisecond

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
	ctx     context.Context // of its Open, as codeStore's
	store   *directStore
	subject string
	left    uint32
	next    uint64 // sequence from which the next piece is looked for
	rest    []byte
}

// Read gives what comes next of the package.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.left == 0 {
			return 0, io.EOF
		}
		m, err := p.store.get(p.ctx, "", fmt.Appendf(nil, `{"next_by_subj":%q,"seq":%d}`, p.subject, p.next))
		if err != nil {
			return 0, fmt.Errorf("read a piece of a package: %w", err)
		}
		sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read a piece of a package: its sequence: %w", err)
		}
		p.next, p.rest = sequence+1, m.Data
		p.left--
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Close ends the reading.
func (p *pieces) Close() error { return nil }

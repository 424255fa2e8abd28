package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
)

// codeStore gives workers their packages out of the fabric's object store.
type codeStore struct {
	js   jetstream.JetStream
	name string
}

var _ worker.CodeStore = (*codeStore)(nil)

func newCodeStore(js jetstream.JetStream, names subjects.Names) *codeStore {
	return &codeStore{js: js, name: names.Bucket(topology.Code)}
}

// A question to the store that is under way when the connection breaks is never answered: it is asked again, and a package of
// which nothing comes any more fails, where an environment would wait for it as long as its manager lives.
const (
	codeWait  = 5 * time.Second // for an answer, and for the next piece
	codeTries = 3
)

var errUnanswered = errors.New("the code store does not answer")

// Open reads the zip with this SHA-256. Cancelling ctx ends the reading too.
func (c *codeStore) Open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
	for try := 1; ; try++ {
		within, cancel := context.WithCancelCause(ctx)
		late := time.AfterFunc(codeWait, func() { cancel(errUnanswered) })
		object, size, err := c.open(within, sha256)
		if err == nil && late.Stop() {
			return &code{ReadCloser: object, late: late, cancel: cancel}, size, nil
		}
		late.Stop()
		if err == nil {
			err = object.Close()
		}
		unanswered := errors.Is(context.Cause(within), errUnanswered)
		cancel(nil)
		if !unanswered || ctx.Err() != nil {
			return nil, 0, err
		}
		if try == codeTries {
			return nil, 0, fmt.Errorf("read package %s: %w", sha256, errUnanswered)
		}
	}
}

// code is a package that is being read.
type code struct {
	io.ReadCloser
	late   *time.Timer // cancels the reading
	cancel context.CancelCauseFunc
}

// Read reads the next piece. It does not wait for longer than [codeWait].
func (c *code) Read(b []byte) (int, error) {
	c.late.Reset(codeWait)
	defer c.late.Stop()
	return c.ReadCloser.Read(b)
}

// Close ends the reading.
func (c *code) Close() error {
	c.late.Stop()
	defer c.cancel(nil)
	return c.ReadCloser.Close()
}

func (c *codeStore) open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
	store, err := c.js.ObjectStore(ctx, c.name)
	if err != nil {
		return nil, 0, fmt.Errorf("open the code store: %w", err)
	}
	object, err := store.Get(ctx, sha256)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, 0, schema.Errorf(schema.CodeNotFound, "package %s is not in the code store: deploy the function again", sha256)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read package %s: %w", sha256, err)
	}
	info, err := object.Info()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("read package %s: %w", sha256, err), object.Close())
	}
	return object, int64(info.Size), nil
}

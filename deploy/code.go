package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// Open reads the zip with this SHA-256. Cancelling ctx ends the reading too.
func (c *codeStore) Open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
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

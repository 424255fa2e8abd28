package topology

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/subjects"
)

// Replicas is how many servers of a cluster of NATS servers keep what must not be lost: one of three may go. A single server keeps it
// alone. DESIGN 9, S54.
const Replicas = 3

const (
	noPeers      jetstream.ErrorCode = 10005 // fewer servers than replicas are there: a cluster that is starting, or one that is too small
	notClustered jetstream.ErrorCode = 10074 // the server has the name of a cluster, for its leaf nodes, and keeps its streams alone
)

// few reports whether a stream was refused because too few servers of the cluster are there.
func few(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == noPeers
}

// alone reports whether a stream was refused because its server keeps streams by itself.
func alone(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == notClustered
}

// kept is a stream that must not be lost as the servers behind js keep it. Streams of calls are not: an expected sequence, which
// guards a reserved arc, is refused without reason on a replicated stream (measured), and whose server is gone is made again.
func kept(js jetstream.JetStream, c jetstream.StreamConfig) jetstream.StreamConfig {
	if clustered(js) {
		c.Replicas = Replicas
	}
	return c
}

func clustered(js jetstream.JetStream) bool { return js.Conn().ConnectedClusterName() != "" }

// ensureBucket makes a KV bucket. In a cluster it waits until the bucket answers here: the server of this connection hears of its
// leader a moment after that was chosen, and until then says that nobody is there.
func ensureBucket(ctx context.Context, js jetstream.JetStream, names subjects.Names, kind string) error {
	err := ensureStream(ctx, js, fixed(kept(js, Bucket(names, kind))))
	if err != nil || !clustered(js) {
		return err
	}
	err = retry(ctx, func(ctx context.Context) error {
		kv, err := js.KeyValue(ctx, names.Bucket(kind))
		if err == nil {
			_, err = kv.Get(ctx, "nothing")
		}
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return nil
		case errors.Is(err, jetstream.ErrBucketNotFound): // another manager has just made it, and that has not gone round yet
			return fmt.Errorf("%w: %w", errAgain, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for bucket %s: %w", names.Bucket(kind), err)
	}
	return nil
}

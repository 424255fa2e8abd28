package topology

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// ReservedArc is the consumer of the reserved arc of one opening of a reservation. Its filter is that one subject; its name
// carries the epoch, which never repeats. DESIGN 6, 9.
func ReservedArc(names subjects.Names, shard int, account, function, version string, epoch uint64) jetstream.ConsumerConfig {
	return arc(names.ReservedDurable(epoch), names.ReservedCall(shard, account, function, version, epoch))
}

// EnsureShard makes the stream of one shard of reserved arcs where it is missing. It behaves as [EnsureStores] does; a shard
// that there is not is a [schema.CodeInvalidParameter].
func EnsureShard(ctx context.Context, js jetstream.JetStream, names subjects.Names, shard int) error {
	if err := checkShard(shard); err != nil {
		return err
	}
	return ensureStream(ctx, js, func() jetstream.StreamConfig { return CallsR(names, shard, time.Now()) })
}

// EnsureReservedArc makes the consumer of a reserved arc where it is missing, and the stream of its shard before it. It behaves
// as [EnsureShard] does.
func EnsureReservedArc(
	ctx context.Context, js jetstream.JetStream, names subjects.Names, shard int, account, function, version string, epoch uint64,
) error {
	if err := checkShard(shard); err != nil {
		return err
	}
	stream := func() jetstream.StreamConfig { return CallsR(names, shard, time.Now()) }
	return ensureConsumer(ctx, js, stream, ReservedArc(names, shard, account, function, version, epoch))
}

func checkShard(shard int) error {
	if shard < 0 || shard >= subjects.MaxShards {
		return schema.Errorf(schema.CodeInvalidParameter, "shard: is %d; 0 to %d", shard, subjects.MaxShards-1)
	}
	return nil
}

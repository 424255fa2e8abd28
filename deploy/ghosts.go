package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// sweepGhosts removes events that are done and still lie on their stream: acknowledged while the disk was full, when a consumer
// could note that and the stream could not remove them. The server looks for such messages at its start on interest streams
// alone, so on a work queue they would stay for as long as their consumer does, and run again after it (nats-server 2.15.2,
// checkForOrphanMsgs; tried). What lies below a consumer's acknowledgement floor is done, whatever happens meanwhile.
func sweepGhosts(ctx context.Context, nc *nats.Conn, names subjects.Names) (swept int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("use JetStream: %w", err)
	}
	for _, name := range eventQueues(names) {
		s, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue // the first start
		}
		if err != nil {
			return swept, fmt.Errorf("look at stream %s: %w", name, err)
		}
		if s.CachedInfo().State.Msgs == 0 {
			continue
		}
		consumers := s.ListConsumers(ctx)
		for c := range consumers.Info() {
			n, err := sweepBelow(ctx, s, c)
			if swept += n; err != nil {
				return swept, fmt.Errorf("remove events that are done from %s: %w", name, err)
			}
		}
		if err := consumers.Err(); err != nil {
			return swept, fmt.Errorf("list the consumers of %s: %w", name, err)
		}
	}
	return swept, nil
}

// eventQueues are the streams that events leave when they are done.
func eventQueues(names subjects.Names) []string {
	return []string{names.Events(subjects.DefaultAccount), names.Stream(topology.Retries)}
}

func sweepBelow(ctx context.Context, s jetstream.Stream, c *jetstream.ConsumerInfo) (swept int, err error) {
	filters := c.Config.FilterSubjects
	if c.Config.FilterSubject != "" {
		filters = []string{c.Config.FilterSubject}
	}
	for _, filter := range filters {
		for from := uint64(1); from <= c.AckFloor.Stream; {
			m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence > c.AckFloor.Stream {
				break
			}
			if err != nil {
				return swept, err
			}
			if err := s.DeleteMsg(ctx, m.Sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return swept, err
			}
			swept++
			from = m.Sequence + 1
		}
	}
	return swept, nil
}

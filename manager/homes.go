package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// In a cluster of NATS servers each stream of calls has its home on one of them (DESIGN 9), and goes with it: nobody answers for it, and
// it cannot be made again as long as the cluster remembers where it was. So the controller asks after each, deletes the one whose home
// is gone, and has it made elsewhere. What it held is lost: frontends see another stream under the name, and answer who waited.
const (
	homeLook = 500 * time.Millisecond // between looks, and what an answer may take
	homeGone = time.Second            // without an answer, while the cluster's leader answers

	errCodeOffline jetstream.ErrorCode = 10118
)

// homes is what the controller heard of the streams of calls.
type homes struct {
	m      *Manager
	silent map[string]time.Duration // since when nobody answers for a stream
}

// homesLoop looks after the homes of the streams of calls until ctx ends. On a server that is none of a cluster it does nothing.
func (k *keeper) homesLoop(ctx context.Context) {
	h := homes{k.m, make(map[string]time.Duration)}
	tick := time.NewTicker(homeLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if k.m.nc.ConnectedClusterName() == "" {
			continue
		}
		for _, stream := range h.gone(ctx, k.callStreams()) {
			if err := k.rehome(ctx, stream); err != nil && ctx.Err() == nil {
				k.m.log.Warn("make a stream of calls again whose NATS server is gone", "stream", stream, "error", err)
			}
		}
	}
}

// callStreams are the streams of calls that are there, as far as is known.
func (k *keeper) callStreams() []string {
	names := []string{k.m.names.CallsU()}
	k.mu.Lock()
	defer k.mu.Unlock()
	used := k.used()
	for shard := range subjects.MaxShards {
		if k.shards[shard].there || used[shard] > 0 {
			names = append(names, k.m.names.CallsR(shard))
		}
	}
	return names
}

// gone asks after these streams, and gives those that nobody has answered for long enough.
func (h *homes) gone(ctx context.Context, streams []string) (gone []string) {
	sent := h.m.now()
	answers := make([]bool, len(streams))
	led := false
	p := pool.New().WithMaxGoroutines(16)
	p.Go(func() { led = h.asks(ctx, h.absent(streams)) })
	for i, stream := range streams {
		p.Go(func() { answers[i] = h.asks(ctx, stream) })
	}
	p.Wait()
	if !led || ctx.Err() != nil {
		clear(h.silent) // who is cut off hears of nobody; and without a leader nothing can be made again
		return nil
	}
	for i, stream := range streams {
		since, silent := h.silent[stream]
		switch {
		case answers[i]:
			delete(h.silent, stream)
		case !silent:
			h.silent[stream] = sent
		case h.m.now()-since >= homeGone:
			delete(h.silent, stream)
			gone = append(gone, stream)
		}
	}
	return gone
}

// absent is a stream of calls that there is not: the cluster's leader says so.
func (h *homes) absent(streams []string) string {
	for shard := subjects.MaxShards - 1; shard >= 0; shard-- {
		if name := h.m.names.CallsR(shard); !slices.Contains(streams, name) {
			return name
		}
	}
	return streams[0]
}

// asks reports whether somebody who can tell answers for a stream.
func (h *homes) asks(ctx context.Context, stream string) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, homeLook, errors.New("asking after a stream of calls"))
	defer cancel()
	err := h.m.api(ctx, "STREAM.INFO."+stream, struct{}{}, nil)
	var api *jetstream.APIError
	return err == nil || errors.As(err, &api) && api.ErrorCode != errCodeOffline && api.Code != 503
}

// rehome makes a stream of calls again on another server.
func (k *keeper) rehome(ctx context.Context, stream string) error {
	m := k.m
	ctx, cancel := context.WithTimeoutCause(ctx, setUpWait, errors.New("making a stream of calls again"))
	defer cancel()
	if err := m.js.DeleteStream(ctx, stream); err != nil && !is(err, errCodeNoStream) {
		return fmt.Errorf("delete it: %w", err)
	}
	m.log.Warn("the NATS server of a stream of calls is gone: the stream is made again, and the calls that it held are answered",
		"stream", stream)
	if stream != m.names.CallsU() {
		signal(k.sweep) // sees that it is gone, and opens its arcs anew
		return nil
	}
	// Nothing else is made sure of here: other streams may have to find a new leader, which takes seconds.
	if err := topology.EnsureArcs(ctx, m.js, m.names, m.view.Load().fabric); err != nil {
		return err
	}
	m.offerAnew()
	return nil
}

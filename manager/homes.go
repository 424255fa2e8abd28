package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// In a cluster of NATS servers each stream of calls has its home on one of them (DESIGN 9), and goes with it: nobody answers for it, and
// it cannot be made again as long as the cluster remembers where it was. So the controller asks after each, deletes the one whose home
// is gone, and has it made elsewhere. What it held is lost: frontends see another stream under the name, and answer who waited.
//
// A home that is slow is not gone: every question may be answered until homeGone is over, and one answer is enough. The cluster's leader
// is asked as well: while it does not answer nothing could be made again, and this manager may be the one that is cut off. So a stream is
// missed only from the first question on that the leader answers and nobody else does.
//
// A server that is back sooner has the stream again, empty and from its first sequence on: a start-by or a lock of a call of before would
// take one of now. So a stream whose last sequence goes back is made again, too.
const (
	homeLook = 500 * time.Millisecond // between questions
	homeGone = 2 * time.Second        // without an answer, of which for homeSure the cluster's leader answers
	homeSure = time.Second
	homesAsk = 16 // questions of one round at once

	errCodeOffline jetstream.ErrorCode = 10118
)

// homes is what the controller heard of the streams of calls.
type homes struct {
	m *Manager

	mu  sync.Mutex
	by  map[string]*home
	led time.Duration // when the last question was sent that the cluster's leader answered
}

// home is what was heard of one stream.
type home struct {
	heard  time.Duration // when the last question was sent that was answered, or the first one
	missed time.Duration // when the first one was sent after that which the leader alone answered; 0: none was
	last   uint64        // the highest sequence that the stream was known to have had
	lastAt time.Duration // when that was heard
	anew   bool          // it has begun anew
}

// homesLoop looks after the homes of the streams of calls until ctx ends. On a server that is none of a cluster it does nothing.
func (k *keeper) homesLoop(ctx context.Context) {
	h := homes{m: k.m, by: make(map[string]*home)}
	var rounds conc.WaitGroup // at most homeGone / homeLook of them, and one
	defer rounds.Wait()
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
		streams := k.callStreams()
		h.claimed()
		var again conc.WaitGroup // side by side, while what was found of them is true
		for _, stream := range h.gone(streams, k.m.now()) {
			again.Go(func() {
				if err := k.rehome(ctx, stream); err != nil && ctx.Err() == nil {
					k.m.log.Warn("make a stream of calls again whose NATS server is gone", "stream", stream, "error", err)
				}
			})
		}
		again.Wait()
		rounds.Go(func() { h.round(ctx, streams) })
	}
}

// callStreams are the streams of calls that are there, as far as is known.
func (k *keeper) callStreams() []string {
	var names []string
	for stream := range subjects.UnreservedStreams {
		names = append(names, k.m.names.CallsU(stream))
	}
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

// gone gives those of these streams for which nobody has answered for long enough, and forgets the others.
func (h *homes) gone(streams []string, now time.Duration) (gone []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.by, func(stream string, _ *home) bool { return !slices.Contains(streams, stream) })
	led := now-h.led < homeSure
	for _, stream := range streams {
		at := h.by[stream]
		switch {
		case at == nil:
			h.by[stream] = &home{heard: now}
		case at.anew:
			delete(h.by, stream)
			gone = append(gone, stream)
		case !led:
			at.missed = 0
		case at.missed > 0 && now-at.missed >= homeSure && now-at.heard >= homeGone:
			delete(h.by, stream)
			gone = append(gone, stream)
		}
	}
	return gone
}

// round asks after these streams once, and after the leader.
func (h *homes) round(ctx context.Context, streams []string) {
	ctx, cancel := context.WithTimeoutCause(ctx, homeGone, errors.New("asking after a stream of calls"))
	defer cancel()
	sent := h.m.now()
	p := pool.New().WithMaxGoroutines(homesAsk)
	p.Go(func() {
		if _, ok := h.asks(ctx, h.absent(streams)); ok {
			h.leads(sent)
		}
	})
	for _, stream := range streams {
		p.Go(func() {
			if last, ok := h.asks(ctx, stream); ok {
				h.answers(stream, sent, h.m.now(), last)
			}
		})
	}
	p.Wait()
}

// claimed takes in what this manager has claimed from the streams of unreserved arcs: one may begin anew between two questions, and before
// this manager was the controller. Reserved arcs have their markers.
func (h *homes) claimed() {
	now := h.m.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for stream := range subjects.UnreservedStreams {
		at := h.by[h.m.names.CallsU(stream)]
		if last := h.m.clocks.claimed(stream); at != nil && last > at.last {
			at.last, at.lastAt = last, now
		}
	}
}

// leads notes that the leader answered what was sent then.
func (h *homes) leads(sent time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.led = max(h.led, sent)
	for _, at := range h.by {
		if at.missed == 0 && sent > at.heard {
			at.missed = sent
		}
	}
}

// answers notes that somebody answered now for a stream what was sent then, and its last sequence; 0: it is not there.
func (h *homes) answers(stream string, sent, now time.Duration, last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.by[stream]
	if at == nil {
		return
	}
	if sent >= at.heard {
		at.heard, at.missed = sent, 0
	}
	switch {
	case last >= at.last:
		at.last, at.lastAt = last, now
	case last > 0 && sent >= at.lastAt: // and no answer that others overtook
		at.anew = true
	}
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

// asks reports whether somebody who can tell answers for a stream, and the last sequence of one that is there.
func (h *homes) asks(ctx context.Context, stream string) (last uint64, ok bool) {
	var info struct { // of which nothing else is read: it is asked for often
		State struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	err := h.m.api(ctx, "STREAM.INFO."+stream, struct{}{}, &info)
	var api *jetstream.APIError
	return info.State.LastSeq, err == nil || errors.As(err, &api) && api.ErrorCode != errCodeOffline && api.Code != 503
}

// rehome makes a stream of calls again on another server.
func (k *keeper) rehome(ctx context.Context, stream string) error {
	m := k.m
	ctx, cancel := context.WithTimeoutCause(ctx, setUpWait, errors.New("making a stream of calls again"))
	defer cancel()
	if err := m.js.DeleteStream(ctx, stream); err != nil && !is(err, errCodeNoStream) {
		return fmt.Errorf("delete it: %w", err)
	}
	m.log.Warn("the NATS server of a stream of calls is gone, or was: the stream is made again, and the calls that it held are answered",
		"stream", stream)
	number, unreserved := m.names.UnreservedNumber(stream)
	if !unreserved {
		signal(k.sweep) // sees that it is gone, and opens its arcs anew
		return nil
	}
	// Nothing else is made sure of here: other streams may have to find a new leader, which takes seconds.
	if err := topology.EnsureCallsU(ctx, m.js, m.names, number, m.view.Load().fabric.Arcs); err != nil {
		return err
	}
	m.offerAnew()
	return nil
}

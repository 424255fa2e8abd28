package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

const (
	demoReserved = 10 // environments
	demoShrunk   = 4
	demoSteady   = 8 // callers while the reservation shrinks
	demoAround   = 5 // rounds of all callers before it shrinks, and after
)

// runReservation reserves environments for a version of the function, has a burst go beyond them, and shrinks the reservation
// under calls.
func (d *demo) runReservation(ctx context.Context, e *example) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	version, where, err := d.reserve(ctx, e)
	d.tell(stepReservation, e.name, begin, fmt.Sprintf("%d environments of version %s are ready ahead of calls: %s", demoReserved, version, where), err)
	if err != nil {
		return context.Cause(ctx)
	}
	if e.name == echoName {
		if err := d.runBurst(ctx, e, version); err != nil {
			return err
		}
	} else {
		d.report.step(demoStep{Step: stepLeftOut, OK: true, Function: stepBurst, Detail: fmt.Sprintf(
			"%d processes of %s would take too much memory, and the Go example cannot be built here", demoBurst, e.name)})
	}
	begin = time.Now()
	detail, err := d.shrink(ctx, e, version)
	d.tell(stepShrink, e.name, begin, detail, err)
	return context.Cause(ctx)
}

// reserve publishes a version and waits until its environments are ready and one of them has answered.
func (d *demo) reserve(ctx context.Context, e *example) (version, where string, err error) {
	published, err := d.client.PublishVersion(ctx, schema.FunctionInput{FunctionName: e.name})
	if err != nil {
		return "", "", err
	}
	version = published.Version
	if _, err := d.client.Reserve(ctx, e.name, version, demoReserved); err != nil {
		return version, "", err
	}
	r, err := d.untilReserved(ctx, e.name, version, func(r *schema.ReservationOutput) bool { return r.Status == schema.ReservationReady })
	if err != nil {
		return version, "", err
	}
	parts := make([]string, len(r.Arc))
	for i, m := range r.Arc {
		parts[i] = fmt.Sprintf("%d on %s", m.Members, m.Manager)
	}
	answer, err := d.client.Invoke(ctx, client.Call{Function: e.name, Qualifier: version, Payload: e.payload})
	switch {
	case err != nil:
	case answer.Reason != schema.ReasonReserved || answer.Start != schema.StartWarm:
		err = fmt.Errorf("a call of it was %s for reason %q on arc %s", answer.Start, answer.Reason, answer.Arc)
	default:
		_, err = e.check(answer.Payload)
	}
	return version, strings.Join(parts, ", "), err
}

// untilReserved waits until a reservation stands so.
func (d *demo) untilReserved(ctx context.Context, function, version string, so func(*schema.ReservationOutput) bool) (*schema.ReservationOutput, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := findReservation(ctx, d.client, function, version)
		switch {
		case err != nil:
			return nil, err
		case r == nil:
			return nil, fmt.Errorf("%s:%s has no reservation", function, version)
		case so(r):
			return r, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reservation of %s:%s: %d of %d ready, %s %s: %w", function, version, r.Size, r.Limit, r.Status, r.Reason, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// shrink lowers the limit while callers keep more environments busy than it then has: none of their calls may go cold, for the
// others serve on until they are idle. Then it waits until they have gone.
func (d *demo) shrink(ctx context.Context, e *example, version string) (string, error) {
	var (
		mu      sync.Mutex
		reasons = make(map[schema.Reason]int)
		cold    int
		first   error
		rounds  atomic.Int64
		stop    atomic.Bool
		callers conc.WaitGroup
	)
	for range demoSteady {
		callers.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				begin := time.Now()
				answer, err := d.client.Invoke(ctx, client.Call{Function: e.name, Qualifier: version, Payload: e.payload})
				if err == nil {
					_, err = e.check(answer.Payload)
				}
				mu.Lock()
				if err == nil {
					reasons[answer.Reason]++
					d.report.count(answer.Start, time.Since(begin), true)
					if answer.Start == schema.StartCold {
						cold++
					}
				} else if first == nil {
					first = err
				}
				mu.Unlock()
				rounds.Add(1)
			}
		})
	}
	after := func(n int64) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for from := rounds.Load(); rounds.Load() < from+n && ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
	after(demoAround * demoSteady)
	_, err := d.client.Reserve(ctx, e.name, version, demoShrunk)
	spilled := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return reasons[schema.ReasonSpillover] > 0 || first != nil
	}
	for err == nil && !spilled() && ctx.Err() == nil {
		after(demoSteady)
	}
	after(demoAround * demoSteady)
	stop.Store(true)
	callers.Wait()
	switch {
	case err != nil:
		return "", err
	case first != nil:
		return "", first
	case cold > 0:
		return "", fmt.Errorf("%d calls went cold while it shrank", cold)
	case reasons[schema.ReasonSpillover] == 0:
		return "", errors.New("no call went to an environment beyond the new limit")
	}
	r, err := d.untilReserved(ctx, e.name, version, func(r *schema.ReservationOutput) bool { return r.Size == demoShrunk })
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d to %d under %d callers: %s, none cold; then the others went, %d stay", demoReserved, demoShrunk, demoSteady,
		reasonsText(reasons), r.Size), nil
}

// reasonsText is how many calls took their arc for which reason, most first.
func reasonsText(reasons map[schema.Reason]int) string {
	var parts []string
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), func(a, b schema.Reason) int { return reasons[b] - reasons[a] }) {
		parts = append(parts, fmt.Sprintf("%d %s", reasons[reason], reason))
	}
	return strings.Join(parts, ", ")
}

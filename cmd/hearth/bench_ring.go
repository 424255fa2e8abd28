package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

// ringReservations are how many reservations a ring change is measured with.
const ringReservations = 200

const (
	ringLook    = 50 * time.Millisecond // between two looks while the ring changes
	ringManager = "joiner"              // who comes and goes
)

// ringChange is what a manager that comes or goes makes of the reservations while all of them are called in turns.
type ringChange struct {
	Reservations int     `json:"reservations"`
	Moved        int     `json:"moved"`     // reservations of which a share went to another manager
	Asked        float64 `json:"ring_s"`    // from the manager's start, or the request that it goes, to the ring that says so
	Held         float64 `json:"held_s"`    // from that ring until every manager holds its share
	Settled      float64 `json:"settled_s"` // and until nobody holds more
	Calls        int     `json:"calls"`
	Cold         int     `json:"cold"` // calls that no ready environment ran
	Elsewhere    int     `json:"elsewhere"`
	Errors       int     `json:"errors"`
	FirstError   string  `json:"first_error,omitempty"`
	P50          float64 `json:"p50_us"`
	Most         float64 `json:"max_us"`
}

// changeRing has a manager join the fabric with as many reservations as are busy, and leave it again.
func (b *reservationBench) changeRing(ctx context.Context) error {
	defer b.app.progress("changing a ring")()
	s := b.sides[min(1, len(b.sides)-1)]
	if n := min(b.flags.reservations, ringReservations); n > len(s.functions) {
		if err := s.reserve(ctx, n, benchLimit); err != nil {
			return err
		}
	}
	credential, err := deploy.MakeCredential(deploy.CredentialConfig{
		Role: deploy.RoleManager, ID: ringManager, DataDir: filepath.Join(s.folder, "data"),
	})
	if err != nil {
		return err
	}
	if err := s.admitted(ctx, credential.File); err != nil {
		return err
	}
	var joined *part
	b.result.Join, err = s.change(ctx, func() error {
		joined, err = startSelf(ctx, "manager", "--id", ringManager, "--server", s.target.url, "--creds", credential.File, "--data", filepath.Join(s.folder, ringManager),
			"--driver", b.flags.driver, "--capacity", strconv.Itoa(4*len(s.functions)*benchLimit/benchManagers), "--drain-timeout", "1s", "--ephemeral")
		return err
	}, func(ring []schema.RingManager) bool {
		return slices.ContainsFunc(ring, func(m schema.RingManager) bool { return m.ID == ringManager && m.State == schema.MemberActive })
	})
	if joined != nil {
		defer joined.interrupt()
	}
	if err != nil {
		return err
	}
	b.result.Leave, err = s.change(ctx, func() error {
		_, err := s.client.Drain(ctx, schema.DrainInput{Manager: ringManager})
		return err
	}, func(ring []schema.RingManager) bool {
		return !slices.ContainsFunc(ring, func(m schema.RingManager) bool { return m.ID == ringManager && m.State == schema.MemberActive })
	})
	return err
}

// admitted waits until the server knows the credential.
func (s *reservationFabric) admitted(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, fmt.Errorf("the fabric does not take %s in", file))
	defer cancel()
	for {
		c, err := client.Connect(ctx, client.Options{URL: s.target.url, Creds: file, Name: "hearth bench"})
		if err == nil {
			c.Close()
			return nil
		}
		if err := pause(ctx, ringLook); err != nil {
			return err
		}
	}
}

// interrupt ends a role in order and waits.
func (p *part) interrupt() {
	_ = p.cmd.Cancel()
	p.stop()
}

// change makes a change, measures until the ring and then all shares are as it wants them, and calls all the while.
func (s *reservationFabric) change(ctx context.Context, do func() error, so func([]schema.RingManager) bool) (*ringChange, error) {
	out := &ringChange{Reservations: len(s.functions)}
	before, err := s.client.Reservations(ctx, "")
	if err != nil {
		return nil, err
	}
	caller := newRingCaller(s)
	stop := caller.start(ctx)
	defer stop()
	begin := time.Now()
	if err := do(); err != nil {
		return nil, err
	}
	for {
		ring, err := s.client.Ring(ctx, "")
		if err != nil {
			return nil, err
		}
		if so(ring.Managers) {
			break
		}
		if err := pause(ctx, ringLook); err != nil {
			return nil, err
		}
	}
	turned := time.Now()
	out.Asked = rounded(turned.Sub(begin).Seconds())
	var now []schema.ReservationOutput
	for _, wait := range []struct {
		into *float64
		so   func(*schema.ReservationMember) bool
	}{
		{&out.Held, func(m *schema.ReservationMember) bool { return m.Members >= m.Share }},
		{&out.Settled, func(m *schema.ReservationMember) bool { return m.Members == m.Share }},
	} {
		if err := s.until(ctx, ringLook, func(all []schema.ReservationOutput) bool { now = all; return stand(all, wait.so) }); err != nil {
			return nil, err
		}
		*wait.into = rounded(time.Since(turned).Seconds())
	}
	out.Moved = moved(before, now)
	stop()
	caller.sum(out)
	return out, nil
}

// stand reports whether every member of every reservation stands so.
func stand(all []schema.ReservationOutput, so func(*schema.ReservationMember) bool) bool {
	for i := range all {
		for k := range all[i].Arc {
			if !so(&all[i].Arc[k]) {
				return false
			}
		}
	}
	return true
}

// moved counts the reservations whose members live elsewhere.
func moved(before, now []schema.ReservationOutput) (n int) {
	held := func(r *schema.ReservationOutput) map[string]int {
		at := make(map[string]int)
		for _, m := range r.Arc {
			if m.Members > 0 {
				at[m.Manager] = m.Members
			}
		}
		return at
	}
	was := make(map[string]map[string]int)
	for i := range before {
		was[before[i].Function] = held(&before[i])
	}
	for i := range now {
		for manager, members := range held(&now[i]) {
			if was[now[i].Function][manager] < members {
				n++
				break
			}
		}
	}
	return n
}

// ringCaller calls all reservations, one after the other.
type ringCaller struct {
	calls *reservedCaller

	mu        sync.Mutex
	latencies []time.Duration
	failed    int
	first     string
}

func newRingCaller(s *reservationFabric) *ringCaller {
	return &ringCaller{calls: newReservedCaller([]*conn{s.client}, s.target.names, s.functions, echoPayload())}
}

// start calls until stop, which waits and may be called twice.
func (c *ringCaller) start(ctx context.Context) (stop func()) {
	var loop conc.WaitGroup
	var stopped atomic.Bool
	loop.Go(func() {
		for i := 0; !stopped.Load() && ctx.Err() == nil; i++ {
			begin := time.Now()
			err := c.calls.callAt(ctx, 0, i%len(c.calls.invoke))
			c.mu.Lock()
			if err != nil {
				c.failed++
				if c.first == "" {
					c.first = err.Error()
				}
			} else {
				c.latencies = append(c.latencies, time.Since(begin))
			}
			c.mu.Unlock()
		}
	})
	return sync.OnceFunc(func() {
		stopped.Store(true)
		loop.Wait()
	})
}

// sum tells what came of the calls, which have ended.
func (c *ringCaller) sum(out *ringChange) {
	out.Calls, out.Errors, out.FirstError = len(c.latencies), c.failed, c.first
	out.Cold, out.Elsewhere = int(c.calls.cold.Load()), int(c.calls.elsewhere.Load())
	out.P50, out.Most = rounded(quantile(c.latencies, 0.5)), rounded(quantile(c.latencies, 1))
}

package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// growth is what this manager may still make of a function in a window of ten seconds. permits.mu guards it.
type growth struct {
	began time.Time // of the window, on the server's clock as far as claims tell it
	left  int
	spent int           // the growth that the window was found to be spent at; 0: it was not
	users int           // who look at it
	ready chan struct{} // closed when who writes has done; nil while nobody does
}

// grow takes one environment of what a function may get in the window that is now. Windows follow one another from the first
// environment on; what is not used in one adds nothing to the next (S12).
func (p *permits) grow(ctx context.Context, account, function string) error {
	most := p.m.view.Load().fabric.Growth
	if most <= 0 {
		return nil
	}
	key := "g." + functionKey(account, function)
	p.mu.Lock()
	g := p.growth[key]
	if g == nil {
		g = new(growth)
		p.growth[key] = g
	}
	g.users++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		g.users--
		p.mu.Unlock()
	}()
	for {
		p.mu.Lock()
		if g.left > 0 && within(g.began, p.m.serverNow()) {
			g.left--
			p.mu.Unlock()
			return nil
		}
		if p.spent(g, most) {
			began := g.began
			p.mu.Unlock()
			return p.grown(function, most, began)
		}
		ready := g.ready
		if ready == nil {
			g.ready = make(chan struct{})
		}
		p.mu.Unlock()
		if ready != nil {
			select {
			case <-ctx.Done():
				return schema.Errorf(schema.CodeUnavailable, "no permit for an environment: %w", context.Cause(ctx))
			case <-ready:
				continue
			}
		}
		began, n, err := p.window(ctx, key, most)
		p.mu.Lock()
		switch {
		case n > 0:
			g.began, g.left, g.spent = began, n-1, 0
		case err == nil:
			g.began, g.left, g.spent = began, 0, most
		}
		close(g.ready)
		g.ready = nil
		p.mu.Unlock()
		switch {
		case err != nil:
			return schema.Errorf(schema.CodeUnavailable, "no permit for an environment: %w", err)
		case n > 0:
			return nil
		}
		return p.grown(function, most, began)
	}
}

// grown is why a function gets no environment more in the window that began then.
func (p *permits) grown(function string, most int, began time.Time) error {
	left := began.Add(growthEvery).Sub(p.m.serverNow()) // too much where another manager, which knows the server's clock better, began it
	return &schema.Error{
		Code: schema.CodeThrottled, Reason: schema.ThrottleRate, Retry: min(growthEvery, max(time.Second, left)),
		Message: fmt.Sprintf("function %s got all %d environments that it may get in %v; `hearth fabric set growth=N` sets another limit",
			function, most, growthEvery),
	}
}

// spent reports whether the window that is now was found to have nothing left, at this growth or more. permits.mu is held.
func (p *permits) spent(g *growth, most int) bool {
	return g.spent >= most && within(g.began, p.m.serverNow())
}

// grows reports whether an environment counts as growth of its function.
func grows(mk *pool.Make) bool { return mk.Home.Reservation == 0 || mk.Replaces }

// mayGrow reports whether an environment may be made as far as growth is known here: nothing ends in the place of one that may not.
func (p *permits) mayGrow(mk *pool.Make) bool {
	if !grows(mk) {
		return true
	}
	most := p.m.view.Load().fabric.Growth
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.growth["g."+functionKey(mk.Spec.Account, mk.Spec.Function)]
	return g == nil || most <= 0 || !p.spent(g, most)
}

func within(began, now time.Time) bool {
	age := now.Sub(began)
	return age < growthEvery && age > -growthEvery // a window that lies far ahead is that of a wrong clock
}

// window takes a part of the growth of the window that is now, or opens the next one.
func (p *permits) window(ctx context.Context, key string, most int) (began time.Time, n int, err error) {
	for try := range permitTries {
		rec, revision, err := p.readLimits(ctx, key)
		if err != nil {
			return began, 0, err
		}
		if now := p.m.serverNow(); !within(rec.Began, now) {
			rec.Began, rec.Made = now.UTC(), 0
		}
		n = min(max(1, most/growthParts), most-rec.Made)
		if n <= 0 {
			return rec.Began, 0, nil
		}
		rec.Made += n
		if err = p.writeLimits(ctx, key, rec, revision); err == nil {
			return rec.Began, n, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return began, 0, err
		}
		if err := p.m.pause(ctx, try); err != nil {
			return began, 0, err
		}
	}
	return began, 0, fmt.Errorf("key %s of bucket limits is changed by others all the time", key)
}

// serverNow is the time on the server's clock, as the claims of the last minute tell it: clocks of two hosts are never compared
// (DESIGN 3). Before the first claim it is this host's.
func (m *Manager) serverNow() time.Time {
	if stamp, ok := m.clocks.stamp(m.now()); ok {
		return time.Unix(0, stamp)
	}
	return time.Now()
}

// pause waits a little, longer with each try and never equally long, so that rivals do not meet again.
func (m *Manager) pause(ctx context.Context, try int) error {
	timer := time.NewTimer(m.jitter(time.Duration(1+min(try, 16)) * 2 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package frontend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"
)

// drainLook is how often a stopping frontend looks whether its calls have ended.
const drainLook = 10 * time.Millisecond

// farewell is how long HTTP callers that still wait when the time of Stop is over have to take the answer that their
// call is lost.
const farewell = time.Second

// Stop takes no more calls, waits until those in flight have ended, and ends. When ctx ends first it goes on at once:
// NATS callers are still answered by their workers, HTTP callers hear that their call is lost. It is safe twice and
// before Start; its error names what was left.
func (f *Frontend) Stop(ctx context.Context) error {
	err := f.life.Stop(ctx, f.stop)
	f.halt() // also of a frontend that never started: it has a listener to close
	return err
}

func (f *Frontend) stop(ctx context.Context) error {
	f.serving.Store(false)
	var errs []error
	var pollers conc.WaitGroup
	var pollersErr error
	pollers.Go(func() { pollersErr = f.events.Stop(ctx) }) // they run events through this frontend until they end
	if f.service != nil {
		if err := f.leave(ctx); err != nil {
			f.log.Info("leaving the queue group of calls", "error", err)
		}
	}
	if f.door != nil {
		if err := f.door.drain(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	pollers.Wait()
	if pollersErr != nil {
		errs = append(errs, pollersErr)
	}
	f.stopping.Store(true)
	if err := f.drain(ctx); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// quietLooks is for how many looks in a row nothing may have arrived before a frontend that has left takes it that nothing
// is on the way to its handler. It is a tenth of a second: on a machine that has much else to do a handler may not run for some
// of them though it has more, and what came to it then would be refused.
const quietLooks = 10

// leaveWait bounds the wait for the server to say that it gives this frontend nothing more.
const leaveWait = 2 * time.Second

// leave has the server give the calls that come now to other frontends, and waits until those are begun that it had given
// to this one: refused, they would be calls that failed because of an orderly restart. After the answer to a flush all of
// them are in this process; what micro's subscription still holds it does not tell, so that a handler which had nothing to
// do for some looks counts as one that has nothing more.
func (f *Frontend) leave(ctx context.Context) error {
	if err := f.service.Stop(); err != nil { // begins to drain
		return err
	}
	if !f.nc.IsConnected() {
		return nil // nothing comes from a server that is away
	}
	within, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	if err := f.nc.FlushWithContext(within); err != nil {
		return err // cut off: nothing comes from the server any more
	}
	seen := f.arrived.Load()
	for quiet := 0; quiet < quietLooks; quiet++ {
		if err := pause(ctx, drainLook); err != nil {
			return err
		}
		if now := f.arrived.Load(); now != seen || f.arriving.Load() > 0 {
			quiet, seen = -1, now
		}
	}
	return nil
}

// drain waits for the calls in flight.
func (f *Frontend) drain(ctx context.Context) error {
	for f.pending.count.Load() > 0 && !f.nc.IsClosed() {
		if err := pause(ctx, drainLook); err != nil {
			return fmt.Errorf("drain: %d calls are still in flight: %w", f.pending.count.Load(), err)
		}
	}
	return nil
}

// halt ends everything that Start began, however far it came, and waits for it.
func (f *Frontend) halt() { f.halted.Do(f.end) }

func (f *Frontend) end() {
	f.stopping.Store(true)
	f.events.Close()
	close(f.done) // callers of this process that still wait are answered
	if f.door != nil {
		f.door.close()
	}
	if f.service != nil {
		_ = f.service.Stop() // again, where it was not stopped in order; nothing to tell
	}
	for _, sub := range f.subs {
		_ = sub.Unsubscribe() // fails on a closed connection, where there is nothing left to unsubscribe
	}
	if f.cancel != nil {
		f.cancel()
	}
	f.watches.stop()
	f.loops.Wait()
	for {
		select {
		case m := <-f.misses: // came while nobody looked names up any more
			f.send(&nats.Msg{Subject: m.reply, Header: refusal(shuttingDown(), "")})
		default:
			return
		}
	}
}

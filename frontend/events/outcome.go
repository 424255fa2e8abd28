package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

const (
	ackTime = 5 * time.Second // that a PubAck is waited for

	// What a stream does not take is held and tried again a few times, each pause twice the one before: run again, the function
	// would have a try that nobody counts. Then the event goes back for longer, so that it does not keep others out.
	holdTries = 4
	firstHold = time.Second
	lastAway  = 5 * time.Minute
)

// carryOut writes what a decision says and, once it is stored, acknowledges the event. Where it is not to be stored the event
// stays where it is and comes back.
func (p *Pollers) carryOut(ctx context.Context, c *claim, v verdict) {
	pause := firstHold
	for try := 1; ; try++ {
		err := p.write(ctx, &v)
		if err == nil {
			c.p.release(c, ackBody)
			return
		}
		p.trouble.log(p.log, "an event's end is not stored, the event stays", "function", c.event.Function, "error", err)
		if try == holdTries {
			away := min(lastAway, firstHold<<min(c.ack.Delivered+holdTries, 16))
			c.p.release(c, fmt.Appendf(nil, `-NAK {"delay":%d}`, away.Nanoseconds()))
			return
		}
		select {
		case <-ctx.Done():
			c.p.release(c, nakBody)
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause *= 2
	}
}

// write stores what a decision says.
func (p *Pollers) write(ctx context.Context, v *verdict) error {
	switch v.next {
	case done:
		return p.tell(ctx, v)
	case retry:
		p.count.retries.Add(1)
		return p.hold(ctx, v)
	default:
		if v.to != "" && v.event.Hops < maxHops {
			if err := p.tell(ctx, v); err != errTooLarge {
				return err
			}
		}
		return p.bury(ctx, v)
	}
}

// hold puts the next try of an event on RETRIES, where a schedule keeps it until it is due. Schedules have whole seconds, and
// an event must not come early, so they are rounded up.
func (p *Pollers) hold(ctx context.Context, v *verdict) error {
	due := v.due.Add(time.Second - time.Nanosecond).Truncate(time.Second).UTC()
	e := &v.event
	return p.store(ctx, &nats.Msg{
		Subject: p.names.RetryHeld(e.Account, e.Function, tryOf(e)+"/"+strconv.Itoa(e.Throttles)),
		Header: nats.Header{
			jetstream.ScheduleHeader:       {"@at " + due.Format(time.RFC3339)},
			jetstream.ScheduleTargetHeader: {p.names.RetryDue(e.Account, e.Function)},
		},
	}, e, e)
}

// bury puts an event on DEADLETTERS, with everything that is known of it. Its id is the event's: buried twice, because whoever
// buried it died before he could acknowledge it, it lies there once.
func (p *Pollers) bury(ctx context.Context, v *verdict) error {
	p.count.dead.Add(1)
	if v.reason == schema.DeadInvalid {
		p.runner.Refused(&v.event)
	}
	d := schema.DeadLetter{V: schema.Version, Event: v.event, Reason: v.reason, Error: v.event.LastError, Died: p.now()}
	d.Event.LastError = nil // it stands beside
	return p.store(ctx, &nats.Msg{
		Subject: p.names.Dead(v.event.Account, v.event.Function), Header: nats.Header{jetstream.MsgIDHeader: {"dead/" + v.event.ID}},
	}, &d, &d)
}

// store encodes a record into a message and has it stored. Where it is larger than what the server takes, the answers of the
// function are left out of it, never the event.
func (p *Pollers) store(ctx context.Context, m *nats.Msg, record any, parts ...any) (err error) {
	for range 2 {
		if m.Data, err = schema.Marshal(record); err != nil {
			return fmt.Errorf("encode what goes to %s: %w", m.Subject, err)
		}
		if int64(len(m.Data)) <= p.nc.MaxPayload()-schema.MaxHeader/4 {
			break
		}
		for _, part := range parts {
			switch part := part.(type) {
			case *schema.Event:
				if part.LastError != nil {
					part.LastError = bodiless(part.LastError)
				}
			case *schema.DeadLetter:
				if part.Error != nil {
					part.Error = bodiless(part.Error)
				}
			}
		}
	}
	return p.send(ctx, m)
}

func bodiless(e *schema.EventError) *schema.EventError {
	less := *e
	less.Body = nil
	return &less
}

// send publishes a message and waits until it is stored.
func (p *Pollers) send(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ackTime, errors.New("waiting for the acknowledgement of a stream"))
	defer cancel()
	if _, err := p.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	return nil
}

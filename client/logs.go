package client

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// How one who follows a log waits for the fabric: for lines that come, beside the answer's own way, and after a failure.
const (
	followWait  = 20 * time.Second // of LogsInput.WaitSeconds
	followSlack = 5 * time.Second
	followFirst = 200 * time.Millisecond
	followMost  = 5 * time.Second
)

// LogsPage reads lines of a function, the oldest wanted first. The next page is asked for with the Cursor of this one.
// [schema.CodeNotFound]: there is no such function, and none has left a line.
func (c *Client) LogsPage(ctx context.Context, in schema.LogsInput) (*schema.LogsOutput, error) {
	return c.logs(ctx, in, controlPatience)
}

// logs waits no longer than the answer may take, so that a frontend that ended meanwhile is noticed.
func (c *Client) logs(ctx context.Context, in schema.LogsInput, patience time.Duration) (*schema.LogsOutput, error) {
	out := new(schema.LogsOutput)
	if err := c.doWithin(ctx, c.account, "GetLogs", in, out, patience); err != nil {
		return nil, err
	}
	return out, nil
}

// Logs are the lines of a function that are there, fetched a page at a time. An error ends the sequence.
func (c *Client) Logs(ctx context.Context, in schema.LogsInput) iter.Seq2[schema.LogLineItem, error] {
	return func(yield func(schema.LogLineItem, error) bool) {
		in.WaitSeconds = 0
		for {
			out, err := c.LogsPage(ctx, in)
			if err != nil {
				yield(schema.LogLineItem{}, err)
				return
			}
			for _, l := range out.Lines {
				if !yield(l, nil) {
					return
				}
			}
			if !out.More {
				return
			}
			in.Cursor = out.Cursor
		}
	}
}

// LogsEvent is what [Client.FollowLogs] tells: a line, or how it stands.
type LogsEvent struct {
	Line   schema.LogLineItem
	Kind   LogsEventKind
	Reason error // of LogsWaiting
}

// LogsEventKind is what a [LogsEvent] tells.
type LogsEventKind uint8

// The kinds of events.
const (
	LogsLine    LogsEventKind = iota // Line is the next line
	LogsBehind                       // lines before the next one are gone, by age or size
	LogsReached                      // everything that was there has been told; told once
	LogsWaiting                      // nobody answers now, for this Reason; it is asked again until somebody does
)

// FollowLogs are the lines of a function that are there and those that come, until ctx ends or an error that will not pass,
// which is told last. A fabric that is away for a while is waited for.
func (c *Client) FollowLogs(ctx context.Context, in schema.LogsInput) iter.Seq2[LogsEvent, error] {
	return func(yield func(LogsEvent, error) bool) {
		reached, failed, pause := false, false, followFirst
		for ctx.Err() == nil {
			in.WaitSeconds = 0
			if reached {
				in.WaitSeconds = int(followWait / time.Second)
			}
			out, err := c.logs(ctx, in, time.Duration(in.WaitSeconds)*time.Second+followSlack)
			switch {
			case err != nil && ctx.Err() != nil:
				return
			case err != nil && (!passing(err) || c.nc.IsClosed()):
				yield(LogsEvent{}, err)
				return
			case err != nil:
				if !failed && !yield(LogsEvent{Kind: LogsWaiting, Reason: err}, nil) {
					return
				}
				failed = true
				if !sleep(ctx, rand.N(pause)+pause/2) {
					return
				}
				pause = min(2*pause, followMost)
				continue
			}
			failed, pause = false, followFirst
			if out.Behind && in.Cursor != "" && !yield(LogsEvent{Kind: LogsBehind}, nil) {
				return
			}
			for _, l := range out.Lines {
				if !yield(LogsEvent{Line: l}, nil) {
					return
				}
			}
			if in.Cursor = out.Cursor; !out.More && !reached {
				reached = true
				if !yield(LogsEvent{Kind: LogsReached}, nil) {
					return
				}
			}
		}
	}
}

// passing reports whether an error says that nobody is there now, or that too many are.
func passing(err error) bool {
	switch schema.CodeOf(err) {
	case schema.CodeUnavailable, schema.CodeNoAnswer, schema.CodeThrottled:
		return true
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

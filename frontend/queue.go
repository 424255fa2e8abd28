package frontend

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// pendingStatuses is how many statuses may wait here. What comes beyond is dropped; the next whole ones repeat it.
const pendingStatuses = 8192

// statusQueue makes one queue of statuses and calls, though they come by different subscriptions: a call is routed after all
// that was told before it arrived. A manager tells that a member is idle before it answers the call that made it so; without
// this the caller's next call would be decided on the view of before (DESIGN 5). So are the ends of calls whose sub-tenant is limited: they
// are told before the answer, and looked at before another call of it is throttled.
//
//	read loop     status ──► channel, counted     call ──► the endpoint's queue
//	statuses' loop    │ taken in, counted             │
//	                  ▼                               ▼
//	call              waits until as many are taken in as had come
type statusQueue struct {
	subs  []*nats.Subscription // do not change once calls come
	came  chan *nats.Msg
	taken atomic.Int64

	mu      sync.Mutex
	more    sync.Cond
	waiting int
	ended   bool
}

func newStatusQueue() *statusQueue {
	q := &statusQueue{came: make(chan *nats.Msg, pendingStatuses)}
	q.more.L = &q.mu
	return q
}

// subscribe begins to listen, to one more subject. It is done before run.
func (q *statusQueue) subscribe(nc *nats.Conn, subject string) error {
	sub, err := nc.ChanSubscribe(subject, q.came)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	q.subs = append(q.subs, sub)
	return nil
}

// run takes statuses in until ctx ends.
func (q *statusQueue) run(ctx context.Context, heard func(*nats.Msg)) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.ended = true
		q.more.Broadcast()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-q.came:
			heard(m)
			q.taken.Add(1)
			q.mu.Lock()
			if q.waiting > 0 {
				q.more.Broadcast()
			}
			q.mu.Unlock()
		}
	}
}

// catchUp returns once everything is taken in that had come before it was called: at once, most often. It waits for another
// goroutine of this process, never for the network.
func (q *statusQueue) catchUp() {
	var came int64
	for _, sub := range q.subs {
		n, err := sub.Delivered() // counts what nats.go's read loop put into the channel
		if err != nil {
			return
		}
		came += n
	}
	if q.taken.Load() >= came {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting++
	for q.taken.Load() < came && !q.ended {
		q.more.Wait()
	}
	q.waiting--
}

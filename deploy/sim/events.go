package sim

import "time"

// queue is what happens next: events by their time and, within one, in the order in which they were made.
type queue struct {
	events []event
	made   uint64
}

type event struct {
	at     time.Duration
	number uint64
	do     func()
}

func (q *queue) before(i, j int) bool {
	a, b := &q.events[i], &q.events[j]
	return a.at < b.at || a.at == b.at && a.number < b.number
}

func (q *queue) add(at time.Duration, do func()) {
	q.made++
	q.events = append(q.events, event{at, q.made, do})
	for i := len(q.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.before(i, up) {
			return
		}
		q.events[i], q.events[up] = q.events[up], q.events[i]
		i = up
	}
}

// take removes the first event. There is one.
func (q *queue) take() event {
	first, last := q.events[0], len(q.events)-1
	q.events[0], q.events[last] = q.events[last], event{}
	q.events = q.events[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			return first
		}
		if down+1 < last && q.before(down+1, down) {
			down++
		}
		if !q.before(down, i) {
			return first
		}
		q.events[i], q.events[down] = q.events[down], q.events[i]
		i = down
	}
}

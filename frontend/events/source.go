package events

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/subjects"
)

const (
	// AckWait is how long a claimed event may go untouched before it is given to the next poller. DESIGN 4.
	AckWait = 6 * time.Second

	pullExpires = 5 * time.Second // before AckWait, so that a hung poller swallows an event once, and not once per pull
	pullSlack   = 2 * time.Second // after which a pull that has expired and did not say so is taken for lost
	pullBytes   = 8 << 20         // of one pull: what a burst of large events may bring

	// idleFor is for how long a poller without events goes on pulling; the server removes its consumer as long after that, when
	// no frontend pulls from it. DESIGN 4.
	idleFor = 5 * time.Minute
)

// source is one of the two places from which a function's events come: EVENTS, and RETRIES for those that are due again. What
// is not of its making is guarded by poller.mu.
type source struct {
	stream string
	config jetstream.ConsumerConfig
	next   string // of pulls

	inbox   string             // of pulls; "" until it is open
	sub     *nats.Subscription // nil until then
	open    int                // pulled and not delivered yet, as far as is known
	expires time.Time          // by then the last pull is over, whatever became of it
	pending uint64             // in the stream, as the last delivery told
	claims  claims
	begun   int   // of these, how many run
	waiting queue // the others
}

func newSource(stream, durable string, filters ...string) *source {
	return &source{stream: stream, next: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + durable, config: consumer(durable, filters...)}
}

// consumer is the durable consumer of a function on one of its streams.
func consumer(durable string, filters ...string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: durable, FilterSubjects: filters, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: AckWait, MaxDeliver: -1, MaxAckPending: -1, // pulls bound the claims
		ReplayPolicy: jetstream.ReplayInstantPolicy, InactiveThreshold: idleFor,
	}
}

// pull is a request for n events, to be sent after the mutex was let go.
type pull struct {
	src *source
	n   int
}

func pullBody(n int) []byte {
	return fmt.Appendf(nil, `{"batch":%d,"expires":%d,"max_bytes":%d}`, n, int64(pullExpires), pullBytes)
}

// ended takes in that a pull is over without having brought all that it asked for, and reports whether the source has to be
// opened anew. poller.mu is held.
func (s *source) ended(m *nats.Msg) (reopen bool) {
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		left = s.open // it does not say, so nothing is known of the others either
	}
	s.open = max(0, s.open-left)
	switch m.Header.Get("Status") {
	case "408", "404":
		s.pending = 0
		return false
	case "100":
		return false
	case "409":
		switch m.Header.Get("Description") {
		case "Message Size Exceeds MaxBytes", "Batch Completed", "Exceeded MaxWaiting", "Leadership Change", "Server Shutdown":
			return false
		}
	}
	return true // 503: no such consumer; 409: deleted
}

// sources are the two of a function.
func sources(names subjects.Names, account, function, retries string) (fresh, due *source) {
	durable := names.EventDurable(account, function)
	return newSource(names.Events(account), durable, names.EventFilters(account, function)...),
		newSource(retries, durable, names.RetryDue(account, function))
}

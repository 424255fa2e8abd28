package topology

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Settings of an arc's consumer that whoever pulls from it has to know. DESIGN 2, 9.
const (
	// AckWait is how long a claim may stay without its ack before the call goes to another manager. Open pulls expire
	// before it.
	AckWait = 3 * time.Second
	// PriorityGroup is the one priority group of every arc's consumer; a pull names it.
	PriorityGroup = "h"
	// MaxWaiting is how many pulls may wait on an arc. A full queue refuses warm pulls too, and it is immutable.
	MaxWaiting = 65536
)

// Bounds of the streams.
const (
	CallsMaxBytes   = 64 << 20 // of each CALLS stream: about what may wait on one subject
	CallsPerSubject = 1000     // calls that wait on one subject
	eventsMaxBytes  = 1 << 30  // of each account's EVENTS
	deadMaxBytes    = 256 << 20
	logsMaxBytes    = 512 << 20
	logsMaxAge      = 7 * 24 * time.Hour
	logsPerSubject  = 65_536 // batches of one function version and sub-tenant
	usageMaxBytes   = 256 << 20
	usageMaxAge     = 400 * 24 * time.Hour // a year, and a month to look back at it
	spareConsumers  = 64                   // above those that a CALLS stream is meant to have: a raised number of arcs, people who look
	eventsConsumers = 20_000
	dedupWindow     = 2 * time.Minute
	usageDedup      = 24 * time.Hour
	unlimited       = -1
)

// Kinds of streams that are one of their kind; names.Stream(kind) is the stream.
const (
	Retries     = "RETRIES"
	DeadLetters = "DEADLETTERS"
	Logs        = "LOGS"
	Usage       = "USAGE"
)

// CallsU is a stream of unreserved arcs (names.CallsU), with the first sequence that a creator at this moment gives it: Unix
// microseconds, so that the sequences of a stream made again lie above those of the lost one, and no start-by, lock or
// marker of then meets a message of now. Its calls live in memory: whoever waits for their answer is told at once when
// the server goes.
func CallsU(names subjects.Names, stream int, now time.Time) jetstream.StreamConfig {
	var taken []string
	for nn := stream; nn < subjects.MaxArcs; nn += subjects.UnreservedStreams {
		taken = append(taken, names.UnreservedFilter(nn))
	}
	return calls(names.CallsU(stream), len(taken), now, taken...)
}

// CallsR is the stream of one shard of reserved arcs and of their open markers. It is made when a reservation needs it.
func CallsR(names subjects.Names, shard int, now time.Time) jetstream.StreamConfig {
	return calls(names.CallsR(shard), ReservedArcs, now, names.ReservedAll(shard), names.MarkersAll(shard))
}

// ReservedArcs is how many reserved arcs a shard holds at most: every ack walks all consumers of its stream (1,000
// cost five times what 64 do).
const ReservedArcs = 64

func calls(name string, consumers int, now time.Time, taken ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:      name,
		Subjects:  taken,
		Retention: jetstream.WorkQueuePolicy,
		Storage:   jetstream.MemoryStorage,
		Replicas:  1,
		// Full is an error that the frontend hears at once, never a message that goes silently.
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    CallsPerSubject,
		MaxBytes:             CallsMaxBytes,
		MaxMsgs:              unlimited,
		// Explicit: the server's own limit is 1,000, and -1 does not lift it.
		MaxConsumers: consumers + spareConsumers,
		AllowMsgTTL:  true,
		AllowDirect:  true,
		// No deduplication by id: ids are the caller's, and a window costs 100 bytes of heap for each. The shortest there is.
		Duplicates: 100 * time.Millisecond,
		FirstSeq:   uint64(now.UnixMicro()),
	}
}

// Arc is the consumer of unreserved arc nn. An open pull on it is a warm environment, or room for one (DESIGN 2).
func Arc(names subjects.Names, nn int) jetstream.ConsumerConfig {
	return arc(names.UnreservedDurable(nn), names.UnreservedFilter(nn))
}

func arc(durable, filter string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:        durable,
		FilterSubject:  filter,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        AckWait,
		MaxDeliver:     unlimited,
		MaxAckPending:  unlimited, // open pulls bound the claims
		MaxWaiting:     MaxWaiting,
		ReplayPolicy:   jetstream.ReplayInstantPolicy,
		PriorityPolicy: jetstream.PriorityPolicyPrioritized,
		PriorityGroups: []string{PriorityGroup},
		Replicas:       1,
		MemoryStorage:  true,
	}
}

// Events is the stream of an account's async calls: its PubAck is the promise that an event will run (package
// frontend/events keeps it). It allows no rollup, schedule, TTL or purge: whoever may publish an event could use their headers
// against the events of others (DESIGN 4).
func Events(names subjects.Names, account string) jetstream.StreamConfig {
	c := queue(names.Events(account), eventsMaxBytes, names.EventsOf(account))
	c.MaxMsgSize = schema.MaxEventPayload + schema.MaxHeader // the server counts headers in, so it cannot bound the payload alone: the poller does
	c.MaxConsumers = eventsConsumers
	c.DenyPurge = true
	return c
}

// Kinds of streams that measurements make and remove: plain twins of EVENTS.
const (
	BenchQueue   = "BENCH_QUEUE"   // with a consumer, for what happens after the PubAck
	BenchPublish = "BENCH_PUBLISH" // without one, for the PubAck
)

// BenchStreams are all of them.
func BenchStreams() []string { return []string{BenchQueue, BenchPublish} }

// Bench is the stream of account default's events in everything but name and subject.
func Bench(names subjects.Names, kind string) jetstream.StreamConfig {
	c := Events(names, subjects.DefaultAccount)
	c.Name, c.Subjects = names.Stream(kind), []string{names.Bench(kind)}
	return c
}

// RetriesStream holds events that wait for their next attempt, each until its schedule puts it back. Pollers alone write it.
// A stream with schedules must discard the oldest when full (nats-server 2.15.2 refuses discard new), which would lose an
// accepted event: so it has no bound of its own, and the account's store is what refuses.
func RetriesStream(names subjects.Names) jetstream.StreamConfig {
	c := queue(names.Stream(Retries), unlimited, names.RetriesAll())
	c.MaxConsumers = eventsConsumers // as on EVENTS: one a function
	c.Discard = jetstream.DiscardOld
	c.AllowMsgSchedules = true
	c.AllowRollup = true // a schedule replaces the one before it
	c.AllowMsgTTL = true
	return c
}

// DeadLettersStream holds events that failed for good, until somebody redrives or deletes them.
func DeadLettersStream(names subjects.Names) jetstream.StreamConfig {
	c := queue(names.Stream(DeadLetters), deadMaxBytes, names.DeadLettersAll())
	c.Retention = jetstream.LimitsPolicy
	c.AllowDirect = true
	return c
}

// LogsStream holds what functions wrote; the oldest lines go first, of a function that writes all the time its own: batches of
// ordinary calls have some KB, so that it takes about a quarter of the stream at most. The server counts messages of a subject and
// no bytes: a lower number would bound also floods, whose batches have 64 KB, and leave minutes of an ordinary function's lines.
func LogsStream(names subjects.Names) jetstream.StreamConfig {
	c := queue(names.Stream(Logs), logsMaxBytes, names.LogsAll())
	c.Retention = jetstream.LimitsPolicy
	c.Discard = jetstream.DiscardOld
	c.MaxAge = logsMaxAge
	c.MaxMsgsPerSubject = logsPerSubject
	c.AllowDirect = true
	return c
}

// UsageStream is the ledger of what functions and sub-tenants used: nobody changes or removes a record of it, and the oldest go first.
// A record whose PubAck got lost is sent again until there is one, and stored once however long the server was away, up to a day.
// A record takes about 39 bytes for each sub-tenant that was busy in its ten seconds, 54 with egress (measured); a provider with more of
// them than the stream holds for as long as he needs takes them over by a consumer of his own.
func UsageStream(names subjects.Names) jetstream.StreamConfig {
	c := queue(names.Stream(Usage), usageMaxBytes, names.UsageAll())
	c.Retention = jetstream.LimitsPolicy
	c.Discard = jetstream.DiscardOld
	c.MaxAge = usageMaxAge
	c.Duplicates = usageDedup
	c.AllowDirect = true
	c.DenyDelete, c.DenyPurge = true, true
	return c
}

func queue(name string, maxBytes int64, taken ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Subjects:          taken,
		Retention:         jetstream.WorkQueuePolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          1,
		Discard:           jetstream.DiscardNew,
		MaxBytes:          maxBytes,
		MaxMsgs:           unlimited,
		MaxMsgsPerSubject: unlimited,
		MaxConsumers:      unlimited,
		Duplicates:        dedupWindow,
	}
}

// StoreBytes is how many bytes on disk the streams of a fabric may come to hold that are bounded: buckets and packages are as large
// as what is deployed.
func StoreBytes() int64 {
	names, _ := subjects.NewNames("") // the default is a name
	var all int64
	for _, c := range []jetstream.StreamConfig{
		Events(names, subjects.DefaultAccount), RetriesStream(names), DeadLettersStream(names), LogsStream(names), UsageStream(names),
	} {
		all += max(0, c.MaxBytes)
	}
	return all
}

package topology

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// difference is one setting in which what stands on the server is not what the fabric rests on.
type difference struct {
	setting   string
	has, want any
}

// differences collects the settings that differ.
type differences []difference

func differ[T comparable](d *differences, setting string, has, want T) {
	if has != want {
		*d = append(*d, difference{setting, has, want})
	}
}

func (d differences) String() string {
	parts := make([]string, len(d))
	for i, x := range d {
		parts[i] = fmt.Sprintf("%s is %v, must be %v", x.setting, x.has, x.want)
	}
	return strings.Join(parts, "; ")
}

// streamDifferences are those that no update can mend, or that it must not: somebody's messages may rest on them.
func streamDifferences(has, want jetstream.StreamConfig) differences {
	var d differences
	differ(&d, "subjects", strings.Join(slices.Sorted(slices.Values(has.Subjects)), " "),
		strings.Join(slices.Sorted(slices.Values(want.Subjects)), " "))
	differ(&d, "retention", has.Retention, want.Retention)
	differ(&d, "storage", has.Storage, want.Storage)
	differ(&d, "discard", has.Discard, want.Discard)
	differ(&d, "discard new per subject", has.DiscardNewPerSubject, want.DiscardNewPerSubject)
	differ(&d, "sealed", has.Sealed, false)
	differ(&d, "mirror", has.Mirror != nil, false)
	differ(&d, "sources", len(has.Sources), 0)
	differ(&d, "subject transform", has.SubjectTransform != nil, false)
	differ(&d, "no ack", has.NoAck, false)
	if isBucket(want) { // its history and, of leases, its age are what readers count on
		differ(&d, "messages per subject", has.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
		differ(&d, "age", has.MaxAge, want.MaxAge)
	}
	return d
}

func isBucket(c jetstream.StreamConfig) bool { return strings.HasPrefix(c.Name, "KV_") }

// raise gives what stands with the abilities and bounds that it lacks, and whether it lacks any. It only ever adds.
func raise(has, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	changed := false
	on := func(has *bool, want bool) {
		if want && !*has {
			*has, changed = true, true
		}
	}
	on(&has.AllowDirect, want.AllowDirect)
	on(&has.AllowRollup, want.AllowRollup)
	on(&has.AllowMsgTTL, want.AllowMsgTTL)
	on(&has.AllowMsgSchedules, want.AllowMsgSchedules)
	if has.SubjectDeleteMarkerTTL < want.SubjectDeleteMarkerTTL {
		has.SubjectDeleteMarkerTTL, changed = want.SubjectDeleteMarkerTTL, true
	}
	if has.Replicas < want.Replicas { // the server has become one of a cluster
		has.Replicas, changed = want.Replicas, true
	}
	if want.MaxConsumers > 0 && has.MaxConsumers < want.MaxConsumers {
		has.MaxConsumers, changed = want.MaxConsumers, true
	}
	// A bound that is lacking, where it only drops what is old: somebody's own number stays.
	if want.MaxMsgsPerSubject > 0 && has.MaxMsgsPerSubject <= 0 && want.Discard == jetstream.DiscardOld && !isBucket(want) {
		has.MaxMsgsPerSubject, changed = want.MaxMsgsPerSubject, true
	}
	// A window that a stream rests on, and that an older version made shorter; the server takes none above the age.
	if want.Duplicates > dedupWindow && has.Duplicates < want.Duplicates && (has.MaxAge <= 0 || has.MaxAge >= want.Duplicates) {
		has.Duplicates, changed = want.Duplicates, true
	}
	return has, changed
}

// consumerDifferences are those of an arc's consumer that no update may mend: filters skip older messages when they
// change, and the rest is immutable.
func consumerDifferences(has, want jetstream.ConsumerConfig) differences {
	var d differences
	differ(&d, "filter", strings.Join(append(has.FilterSubjects, has.FilterSubject), " "), want.FilterSubject)
	differ(&d, "ack policy", has.AckPolicy, want.AckPolicy)
	differ(&d, "deliver policy", has.DeliverPolicy, want.DeliverPolicy)
	differ(&d, "deliver subject", has.DeliverSubject, "")
	differ(&d, "priority policy", has.PriorityPolicy, want.PriorityPolicy)
	differ(&d, "priority groups", strings.Join(has.PriorityGroups, " "), strings.Join(want.PriorityGroups, " "))
	if has.MaxWaiting < want.MaxWaiting {
		differ(&d, "max waiting", has.MaxWaiting, want.MaxWaiting)
	}
	return d
}

// raiseConsumer is raise for a consumer.
func raiseConsumer(has, want jetstream.ConsumerConfig) (jetstream.ConsumerConfig, bool) {
	changed := false
	if has.AckWait < want.AckWait {
		has.AckWait, changed = want.AckWait, true
	}
	if has.MaxDeliver > 0 {
		has.MaxDeliver, has.BackOff, changed = want.MaxDeliver, nil, true
	}
	if has.MaxAckPending > 0 {
		has.MaxAckPending, changed = want.MaxAckPending, true
	}
	return has, changed
}

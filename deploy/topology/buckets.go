package topology

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/subjects"
)

// Kinds of KV buckets, and of the object store Code; names.Bucket(kind) is the bucket. DESIGN 9.
const (
	Functions    = "functions"
	Reservations = "reservations"
	Members      = "members"
	Ring         = "ring"
	Arcs         = "arcs"
	Limits       = "limits"
	Secrets      = "secrets"
	Keys         = "keys"
	Code         = "code"
)

// Buckets are the kinds of all KV buckets.
func Buckets() []string {
	return []string{Functions, Reservations, Members, Ring, Arcs, Limits, Secrets, Keys}
}

const (
	// LeaseTTL is how long a lease in bucket members stands after its last renewal.
	LeaseTTL = 2 * time.Second
	// leaseMarker keeps the marker of an expired lease, so that whoever watches sees it go.
	leaseMarker = 5 * time.Second
)

// Bucket is the stream behind a KV bucket: what nats.go's CreateKeyValue makes for file storage and a history of one. In
// bucket members the age of the bucket is the lease: a TTL of a single key cannot be renewed by a plain put, and with a
// longer history the server would raise it to the marker's (measured: a TTL of 1 s took 5.1 s).
func Bucket(names subjects.Names, kind string) jetstream.StreamConfig {
	bucket := names.Bucket(kind)
	c := jetstream.StreamConfig{
		Name:              BucketStream(names, kind),
		Subjects:          []string{"$KV." + bucket + ".>"},
		Storage:           jetstream.FileStorage,
		Replicas:          1,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           unlimited,
		MaxBytes:          unlimited,
		MaxMsgSize:        unlimited,
		MaxConsumers:      unlimited,
		AllowRollup:       true,
		AllowDirect:       true,
		DenyDelete:        true,
		Duplicates:        dedupWindow,
	}
	if kind == Limits || kind == Reservations { // what a cap of a name gone by says goes by itself, and the marker of a reservation that is gone
		c.AllowMsgTTL = true
		c.SubjectDeleteMarkerTTL = leaseMarker
	}
	if kind == Members {
		c.MaxAge = LeaseTTL
		c.Duplicates = LeaseTTL
		c.AllowMsgTTL = true
		c.SubjectDeleteMarkerTTL = leaseMarker
	}
	return c
}

// BucketStream is the name of the stream behind a KV bucket.
func BucketStream(names subjects.Names, kind string) string { return "KV_" + names.Bucket(kind) }

// CodeStore is the stream behind the object store of packages: what nats.go's CreateObjectStore makes. Objects are named
// by the lower-case hex SHA-256 of the zip.
func CodeStore(names subjects.Names) jetstream.StreamConfig {
	store := names.Bucket(Code)
	return jetstream.StreamConfig{
		Name:              CodeStream(names),
		Subjects:          []string{"$O." + store + ".C.>", "$O." + store + ".M.>"},
		Storage:           jetstream.FileStorage,
		Replicas:          1,
		Discard:           jetstream.DiscardNew,
		MaxMsgs:           unlimited,
		MaxMsgsPerSubject: unlimited,
		MaxBytes:          unlimited,
		MaxConsumers:      unlimited,
		AllowRollup:       true,
		AllowDirect:       true,
		Duplicates:        dedupWindow,
	}
}

// CodeStream is the name of the stream behind the object store of packages.
func CodeStream(names subjects.Names) string { return "OBJ_" + names.Bucket(Code) }

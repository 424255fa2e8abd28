package topology_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestEnsureBesideAnother(t *testing.T) {
	t.Parallel()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	other := func(change func(*jetstream.StreamConfig)) jetstream.StreamConfig {
		c := topology.CallsU(names, 3, time.Now())
		change(&c)
		return c
	}
	otherArc := func(change func(*jetstream.ConsumerConfig)) *jetstream.ConsumerConfig {
		c := topology.Arc(names, 3)
		change(&c)
		return &c
	}
	leases := topology.Bucket(names, topology.Members)
	leases.MaxAge = time.Hour
	logs := func(perSubject int64) jetstream.StreamConfig {
		c := topology.LogsStream(names)
		c.MaxMsgsPerSubject = perSubject
		return c
	}
	usage := func(age, window time.Duration) jetstream.StreamConfig {
		c := topology.UsageStream(names)
		c.MaxAge, c.Duplicates = age, window
		return c
	}
	usageHas := func(window time.Duration) func(t *testing.T, l layout) {
		return func(t *testing.T, l layout) {
			if d := l.streams["HEARTH_USAGE"].Duplicates; d != window {
				t.Errorf("USAGE knows a record again for %v, want %v", d, window)
			}
		}
	}
	plain := other(func(*jetstream.StreamConfig) {})
	for name, tt := range map[string]struct {
		stream   jetstream.StreamConfig
		consumer *jetstream.ConsumerConfig
		says     []string // of the error; none: it is taken
		check    func(t *testing.T, l layout)
	}{
		"a stream in a file": {
			stream: other(func(c *jetstream.StreamConfig) { c.Storage = jetstream.FileStorage }),
			says:   []string{"HEARTH_CALLS_U3", "storage is File, must be Memory"},
		},
		"no work queue, other subjects": {
			stream: other(func(c *jetstream.StreamConfig) {
				c.Retention, c.Subjects = jetstream.LimitsPolicy, []string{"hearth.arc.u.3.>", "orders.>"}
			}),
			says: []string{"HEARTH_CALLS_U3", "retention is Limits, must be WorkQueue", "subjects is hearth.arc.u.3.> orders.>"},
		},
		"usage of an older version":       {stream: usage(400*24*time.Hour, 2*time.Minute), check: usageHas(24 * time.Hour)},
		"usage that somebody keeps short": {stream: usage(time.Hour, 2*time.Minute), check: usageHas(2 * time.Minute)},
		"leases that last": {
			stream: leases,
			says:   []string{"KV_HEARTH_members", "age is 1h0m0s, must be 2s"},
		},
		"a foreign stream over our subjects": {
			stream: jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"hearth.>"}},
			says:   []string{"subjects overlap"},
		},
		"an arc's consumer without priorities": {
			stream: plain,
			consumer: otherArc(func(c *jetstream.ConsumerConfig) {
				c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyNone, nil
			}),
			says: []string{"consumer u-3 of stream HEARTH_CALLS_U3", "priority policy"},
		},
		"an arc's consumer with the server's 512 waiting pulls": {
			stream:   plain,
			consumer: otherArc(func(c *jetstream.ConsumerConfig) { c.MaxWaiting = 512 }),
			says:     []string{"max waiting is 512, must be 65536"},
		},
		"bounds of an operator are left": {
			stream: other(func(c *jetstream.StreamConfig) { c.MaxBytes, c.MaxMsgsPerSubject = 32<<20, 10 }),
			check: func(t *testing.T, l layout) {
				if c := l.streams["HEARTH_CALLS_U3"]; c.MaxBytes != 32<<20 || c.MaxMsgsPerSubject != 10 {
					t.Errorf("bytes %d, per subject %d", c.MaxBytes, c.MaxMsgsPerSubject)
				}
			},
		},
		"logs get the bound of a function that they lack": {
			stream: logs(-1),
			check: func(t *testing.T, l layout) {
				if c := l.streams["HEARTH_LOGS"]; c.MaxMsgsPerSubject != 65_536 || c.MaxBytes != 512<<20 || c.MaxAge != 7*24*time.Hour {
					t.Errorf("%d batches of a subject, %d bytes, %v", c.MaxMsgsPerSubject, c.MaxBytes, c.MaxAge)
				}
			},
		},
		"an operator's own bound of logs is left": {
			stream: logs(10),
			check: func(t *testing.T, l layout) {
				if c := l.streams["HEARTH_LOGS"]; c.MaxMsgsPerSubject != 10 {
					t.Errorf("%d batches of a subject", c.MaxMsgsPerSubject)
				}
			},
		},
		"missing abilities are turned on": {
			stream: other(func(c *jetstream.StreamConfig) { c.AllowMsgTTL, c.AllowDirect, c.MaxConsumers = false, false, 8 }),
			check: func(t *testing.T, l layout) {
				if c := l.streams["HEARTH_CALLS_U3"]; !c.AllowMsgTTL || !c.AllowDirect || c.MaxConsumers != 96 {
					t.Errorf("TTL %v, direct %v, consumers %d", c.AllowMsgTTL, c.AllowDirect, c.MaxConsumers)
				}
			},
		},
		"a consumer's short ack wait is raised": {
			stream: plain,
			consumer: otherArc(func(c *jetstream.ConsumerConfig) {
				c.AckWait, c.MaxAckPending, c.MaxDeliver = time.Second, 10, 3
			}),
			check: func(t *testing.T, l layout) {
				if c := l.consumers["u-3"]; c.AckWait != topology.AckWait || c.MaxAckPending != -1 || c.MaxDeliver != -1 {
					t.Errorf("ack wait %v, ack pending %d, deliveries %d", c.AckWait, c.MaxAckPending, c.MaxDeliver)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t, natstest.Bare())
			js := f.JetStream(t)
			if _, err := js.CreateStream(within(t), tt.stream); err != nil {
				t.Fatal(err)
			}
			if tt.consumer != nil {
				if _, err := js.CreateConsumer(within(t), tt.stream.Name, *tt.consumer); err != nil {
					t.Fatal(err)
				}
			}
			err := topology.Ensure(within(t), js, f.Names, schema.DefaultFabric())
			if len(tt.says) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				tt.check(t, read(t, js, f.Names))
				return
			}
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

// A function that writes all the time pushes out its own lines: those of another, older than all of them, stay.
func TestLogsOfOneFunctionAreBounded(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js, nc := f.JetStream(t), f.Connect(t)
	quiet, noisy := f.Names.Log("default", "quiet", "1", ""), f.Names.Log("default", "noisy", "1", "")
	if _, err := js.Publish(within(t), quiet, []byte("1")); err != nil {
		t.Fatal(err)
	}
	const most, more = 65_536, 500
	for i := range most + more {
		if err := nc.Publish(noisy, []byte("2")); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 { // a publish without a reply subject has no back pressure
			flushed(t, nc)
			if _, err := js.Publish(within(t), f.Names.Log("default", "other", "1", ""), []byte("3")); err != nil {
				t.Fatal(err)
			}
		}
	}
	flushed(t, nc)
	stream, err := js.Stream(within(t), f.Names.Stream(topology.Logs))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(within(t), noisy, []byte("last")); err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(within(t), jetstream.WithSubjectFilter(f.Names.LogsAll()))
	if err != nil {
		t.Fatal(err)
	}
	if n := info.State.Subjects; n[noisy] != most || n[quiet] != 1 {
		t.Errorf("%d batches of the noisy one, %d of the quiet one; want %d and 1", n[noisy], n[quiet], most)
	}
}

// flushed waits until the server has read what nc published, so that what another connection publishes comes after it.
func flushed(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.FlushWithContext(within(t)); err != nil {
		t.Fatal(err)
	}
}

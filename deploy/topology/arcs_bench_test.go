package topology_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// What many reserved arcs cost on a NATS server alone, and what other layouts would (issue 5): nothing of Hearth runs here but the
// settings of its streams and consumers. 64 callers, each with one call out, call subjects whose consumers four connections serve:
// pull, acknowledge, answer. The layouts are called in turns, so that whatever else the machine does meets all of them:
//
//	go test ./deploy/topology -run - -bench BusyArcs -benchtime 20x
//
// A metric is the median over the rounds of a layout's rate to that of one consumer with batched pulls; "calls/s" is that one's own.
// Measured (two cores, beside other work; 8,011 calls/s):
//
//	one consumer, a pull for each call            0.93   pulls are not what it is
//	64 consumers on one stream                    0.41   what is busy at once is what costs: the goroutines of each consumer are
//	 with batched pulls                           0.63   woken for one message where one consumer's take many
//	1,000 on 16 streams, of which 64 are busy     0.31   Hearth's layout, at most 64 to a stream
//	 all busy ones on two streams                 0.42
//	 with batched pulls                           0.38   which a pull for each idle environment cannot be
//	 on 64 streams, 16 to each                    0.37   an acknowledgement walks fewer
//	 on 4 streams, 250 to each                    0.20
//	16 consumers with wildcards on 16 streams     0.73   but a pull says no more that a member of this reservation is idle,
//	4 on one stream                               0.92   which is what all of DESIGN 2 rests on
const (
	arcCallers = 64
	arcPullers = 4
	arcSlice   = 150 * time.Millisecond
	arcAnswer  = "Answer"
)

// arcLayout is one way to lay calls out.
type arcLayout struct {
	name      string
	arcs      int // subjects of calls
	consumers int
	streams   int
	batch     int  // calls that a consumer's pulls can take; a pull for each call where it is 1 or 2
	packed    bool // the busy ones are the first, on as few streams as may be
}

var arcLayouts = []arcLayout{
	{name: "one-consumer", arcs: 1, consumers: 1, streams: 1, batch: 128},
	{name: "one-pull-each", arcs: 1, consumers: 1, streams: 1, batch: -128}, // a reservation with 128 members
	{name: "64-on-1", arcs: 64, consumers: 64, streams: 1, batch: 2},
	{name: "64-on-1-batched", arcs: 64, consumers: 64, streams: 1, batch: 128},
	{name: "64-on-16", arcs: 64, consumers: 64, streams: 16, batch: 2},
	{name: "1000-on-16", arcs: 1000, consumers: 1000, streams: 16, batch: 2}, // what Hearth does
	{name: "1000-on-16-packed", arcs: 1000, consumers: 1000, streams: 16, batch: 2, packed: true},
	{name: "1000-on-16-batched", arcs: 1000, consumers: 1000, streams: 16, batch: 128},
	{name: "1000-on-4", arcs: 1000, consumers: 1000, streams: 4, batch: 2},
	{name: "1000-on-64", arcs: 1000, consumers: 1000, streams: 64, batch: 2},
	{name: "16-wildcards-on-16", arcs: 1000, consumers: 16, streams: 16, batch: 128}, // a pull says no more whose member is idle
	{name: "4-wildcards-on-1", arcs: 1000, consumers: 4, streams: 1, batch: 128},
}

func BenchmarkBusyArcs(b *testing.B) {
	var sides []*arcSide
	for _, l := range arcLayouts {
		sides = append(sides, l.start(b))
	}
	rates := make([][]float64, len(sides))
	for _, s := range sides {
		s.slice(b) // makes what it needs
	}
	for b.Loop() {
		for i, s := range sides {
			rates[i] = append(rates[i], s.slice(b))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates[0]), "calls/s")
	for i, l := range arcLayouts[1:] {
		ratios := slices.Clone(rates[i+1])
		for n := range ratios {
			ratios[n] /= rates[0][n]
		}
		b.ReportMetric(median(ratios), l.name)
	}
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// arcSide is a layout on a server of its own.
type arcSide struct {
	conns   []*nats.Conn // of callers
	answers []*nats.Subscription
	calls   []string
	payload []byte
}

func (l arcLayout) start(b *testing.B) *arcSide {
	b.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: b.TempDir(), JetStreamMaxMemory: 1 << 40, JetStreamMaxStore: 1 << 30, // what streams may take, not what they do
		NoSigs: true, NoLog: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		b.Fatal("no server")
	}
	var pullers []*arcPuller
	for i := range arcPullers {
		nc, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		pullers = append(pullers, &arcPuller{nc: nc, inbox: fmt.Sprintf("_P%d", i), by: make(map[string]*arcPull), batch: max(l.batch, -l.batch), single: l.batch <= 2})
	}
	js, err := jetstream.New(pullers[0].nc)
	if err != nil {
		b.Fatal(err)
	}
	names, err := subjects.NewNames("")
	if err != nil {
		b.Fatal(err)
	}
	calls := l.lay(b, js, names, pullers)
	for _, p := range pullers {
		p.start(b)
	}
	side := &arcSide{payload: []byte(strings.Repeat("x", 128))}
	for i := range arcCallers {
		at := i * l.arcs / arcCallers
		if l.packed {
			at = i
		}
		if i%8 == 0 {
			nc, err := nats.Connect(s.ClientURL())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(nc.Close)
			side.conns = append(side.conns, nc)
		}
		nc := side.conns[i/8]
		sub, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			b.Fatal(err)
		}
		side.calls, side.answers = append(side.calls, calls[at]), append(side.answers, sub)
	}
	return side
}

// lay makes the streams and consumers, deals them out, and gives the subjects of calls.
func (l arcLayout) lay(b *testing.B, js jetstream.JetStream, names subjects.Names, pullers []*arcPuller) (calls []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for shard := range l.streams {
		c := topology.CallsR(names, shard, time.Now())
		c.MaxConsumers = l.consumers + 1
		if _, err := js.CreateStream(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
	made := make(map[string]int)
	for i := range l.arcs {
		shard, at := i*l.streams/l.arcs, i*l.consumers/l.arcs
		function := fmt.Sprint("f", at) // of wildcards: the name before the version
		subject := names.ReservedCall(shard, subjects.DefaultAccount, function, "1", uint64(i+1))
		calls = append(calls, subject)
		durable := names.ReservedDurable(uint64(at + 1))
		if n, known := made[durable]; known {
			pullers[n%len(pullers)].by[subject] = pullers[n%len(pullers)].of[durable]
			continue
		}
		n := len(made)
		made[durable] = n
		c := topology.ReservedArc(names, shard, subjects.DefaultAccount, function, "1", uint64(i+1))
		if c.Durable = durable; l.consumers < l.arcs {
			c.FilterSubject = subject[:strings.LastIndexByte(subject, '.')] + ".*"
		}
		if _, err := js.CreateConsumer(ctx, names.CallsR(shard), c); err != nil {
			b.Fatal(err)
		}
		pullers[n%len(pullers)].add(durable, subject, "$JS.API.CONSUMER.MSG.NEXT."+names.CallsR(shard)+"."+durable)
	}
	return calls
}

// arcPuller is one connection that serves consumers. After start all of it is its subscription's.
type arcPuller struct {
	nc     *nats.Conn
	inbox  string
	batch  int
	single bool // a pull for each call, as an environment that has answered is offered
	by     map[string]*arcPull
	of     map[string]*arcPull
}

type arcPull struct {
	next string
	open int
}

func (p *arcPuller) add(durable, subject, next string) {
	if p.of == nil {
		p.of = make(map[string]*arcPull)
	}
	p.of[durable] = &arcPull{next: next}
	p.by[subject] = p.of[durable]
}

func (p *arcPuller) start(b *testing.B) {
	if _, err := p.nc.Subscribe(p.inbox, p.run); err != nil {
		b.Fatal(err)
	}
	for _, o := range p.of {
		if err := p.pull(o); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.nc.Flush(); err != nil {
		b.Fatal(err)
	}
}

// pull opens what is spent; none expires while it is measured.
func (p *arcPuller) pull(o *arcPull) error {
	body := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"group":%q,"priority":0}`, p.batch-o.open, int64(time.Hour), topology.PriorityGroup)
	o.open = p.batch
	return p.nc.PublishRequest(o.next, p.inbox, body)
}

func (p *arcPuller) run(m *nats.Msg) {
	o := p.by[m.Subject]
	if o == nil {
		return
	}
	o.open--
	err := p.nc.Publish(m.Reply, []byte("+ACK"))
	if p.single || o.open <= p.batch/2 {
		err = errors.Join(err, p.pull(o))
	}
	_ = errors.Join(err, p.nc.Publish(m.Header.Get(arcAnswer), m.Data)) // a closed connection: it is over
}

// slice has all callers call for a while, and gives their rate.
func (s *arcSide) slice(b *testing.B) float64 {
	var n atomic.Int64
	var callers sync.WaitGroup
	began := time.Now()
	for i := range s.calls {
		callers.Go(func() {
			nc := s.conns[i/8]
			m := &nats.Msg{Subject: s.calls[i], Data: s.payload, Header: nats.Header{arcAnswer: []string{s.answers[i].Subject}}}
			for time.Since(began) < arcSlice {
				err := nc.PublishMsg(m)
				if err == nil {
					_, err = s.answers[i].NextMsg(10 * time.Second)
				}
				if err != nil {
					b.Errorf("call %s: %v", m.Subject, err)
					return
				}
				n.Add(1)
			}
		})
	}
	callers.Wait()
	return float64(n.Load()) / time.Since(began).Seconds()
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// The plain twin of reserved arcs: the same streams and consumers on a NATS server alone, with as many connections as a fabric has
// managers that pull, acknowledge and answer, and nothing else. Its callers publish to the consumers' subjects themselves. How much
// slower it is with many consumers than with one is what many arcs cost whatever is built on that server.

// twinSpec is what a twin is told.
type twinSpec struct {
	Folder string
	Pulls  int // connections that pull, one consumer each in turn
	Arcs   int
	Offers int // calls that each consumer's pulls can take at once
}

const (
	twinExpires = time.Minute // of pulls: none is renewed while calls are measured
	twinAnswer  = "Answer"    // header: where a caller waits
	twinName    = "f"
)

// startTwin starts a twin with so many consumers.
func startTwin(ctx context.Context, arcs, offers int) (*measuredFabric, error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for a NATS server: %w", err)
	}
	return awaitMeasured(ctx, folder, "bench-twin", twinSpec{Folder: folder, Pulls: benchManagers, Arcs: arcs, Offers: offers})
}

// twinArc is a consumer's place: its shard and the subject of its calls.
func twinArc(names subjects.Names, i int) (shard int, epoch uint64, subject string) {
	shard, epoch = i/topology.ReservedArcs, uint64(i+1)
	return shard, epoch, names.ReservedCall(shard, subjects.DefaultAccount, twinName, "1", epoch)
}

// benchTwin serves until standard input closes.
func (a *app) benchTwin(cmd *cobra.Command, in *bufio.Reader) (err error) {
	spec, err := readSpec[twinSpec](in)
	if err != nil {
		return err
	}
	defer tune()() // as the fabric that it is compared with
	names, err := subjects.NewNames("")
	if err != nil {
		return err
	}
	server, err := deploy.StartBare(filepath.Join(spec.Folder, "nats"))
	if err != nil {
		return err
	}
	defer server.Stop()
	var all []*twinPuller
	for i := range spec.Pulls {
		nc, err := server.Connect()
		if err != nil {
			return err
		}
		defer nc.Close()
		p := &twinPuller{nc: nc, inbox: "_HM.twin" + strconv.Itoa(i), arcs: make(map[string]*twinOffer), most: spec.Offers}
		all = append(all, p)
	}
	if err := twinArcs(cmd.Context(), names, spec.Arcs, all); err != nil {
		return err
	}
	for _, p := range all {
		if err := p.start(); err != nil {
			return err
		}
	}
	if err := a.printJSON(note{NATS: server.URL, PID: os.Getpid()}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// twinArcs makes the streams and consumers, and deals them out.
func twinArcs(ctx context.Context, names subjects.Names, n int, pullers []*twinPuller) error {
	js, err := jetstream.New(pullers[0].nc)
	if err != nil {
		return err
	}
	for i := range n {
		shard, epoch, subject := twinArc(names, i)
		if err := topology.EnsureReservedArc(ctx, js, names, shard, subjects.DefaultAccount, twinName, "1", epoch); err != nil {
			return fmt.Errorf("make consumer %d of a twin: %w", i, err)
		}
		p := pullers[i%len(pullers)]
		p.arcs[subject] = &twinOffer{next: "$JS.API.CONSUMER.MSG.NEXT." + names.CallsR(shard) + "." + names.ReservedDurable(epoch)}
	}
	return nil
}

// twinPuller is one connection. After start all of it is its subscription's.
type twinPuller struct {
	nc    *nats.Conn
	inbox string
	most  int
	arcs  map[string]*twinOffer // by the subject of the calls
}

type twinOffer struct {
	next string
	open int
}

// start listens first: a pull whose answers nobody hears is dropped.
func (p *twinPuller) start() error {
	if _, err := p.nc.Subscribe(p.inbox, p.run); err != nil {
		return err
	}
	for _, o := range p.arcs {
		if err := p.pull(o); err != nil {
			return err
		}
	}
	return p.nc.Flush()
}

// pull opens what is spent.
func (p *twinPuller) pull(o *twinOffer) error {
	body := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"group":%q,"priority":0}`, p.most-o.open, int64(twinExpires), topology.PriorityGroup)
	o.open = p.most
	return p.nc.PublishRequest(o.next, p.inbox, body)
}

// run acknowledges a call, opens a pull where half are spent, and answers, in a fabric's order.
func (p *twinPuller) run(m *nats.Msg) {
	o := p.arcs[m.Subject]
	if o == nil {
		if m.Header.Get("Status") == "408" { // whose, is not told: all are opened anew
			for _, o := range p.arcs {
				o.open = 0
				_ = p.pull(o)
			}
		}
		return
	}
	o.open--
	err := p.nc.Publish(m.Reply, []byte("+ACK"))
	if o.open <= p.most/2 {
		err = errors.Join(err, p.pull(o))
	}
	_ = errors.Join(err, p.nc.Publish(m.Header.Get(twinAnswer), m.Data)) // a closed connection: the measurement is over
}

// twinCaller calls some consumers of a twin, one caller each.
type twinCaller struct {
	conns    []*nats.Conn
	subjects []string
	payload  []byte
	answers  []*nats.Subscription
}

func newTwinCaller(conns []*conn, names subjects.Names, arcs, callers int, payload []byte) (*twinCaller, error) {
	c := &twinCaller{payload: payload}
	for i := range min(arcs, callers) { // spread over all, as in the fabric
		_, _, subject := twinArc(names, i*arcs/min(arcs, callers))
		c.subjects = append(c.subjects, subject)
	}
	for i := range callers {
		nc := conns[i%len(conns)].Conn()
		sub, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			return nil, err
		}
		c.conns, c.answers = append(c.conns, nc), append(c.answers, sub)
	}
	return c, nil
}

func (c *twinCaller) call(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m := &nats.Msg{Subject: c.subjects[i%len(c.subjects)], Data: c.payload, Header: nats.Header{twinAnswer: []string{c.answers[i].Subject}}}
	if err := c.conns[i].PublishMsg(m); err != nil {
		return fmt.Errorf("call a twin: %w", err)
	}
	answer, err := c.answers[i].NextMsgWithContext(ctx)
	if err != nil {
		return fmt.Errorf("call a twin: %w", err)
	}
	return sameBytes(answer.Data, c.payload)
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// reservedSpec is what the caller of reservations is told.
type reservedSpec struct {
	Sides    []reservedSideSpec // fabrics that are alike but for how many reservations they hold
	Twins    [2]twinSideSpec    // see bench_twin.go
	Subject  string             // of the core echo, on the first one's server
	Plain    string             // function of the first one, without a reservation
	Payload  []byte
	Callers  int
	Duration time.Duration // of all that is measured
	Slice    time.Duration
}

// reservedSideSpec is one fabric: each caller has a function, and they go around where they are more.
type reservedSideSpec struct {
	Target    targetSpec
	PID       int
	Functions []string
}

// twinSideSpec is a twin of so many consumers.
type twinSideSpec struct {
	Target targetSpec
	PID    int
	Arcs   int
}

// reservedMeasured is what it prints.
type reservedMeasured struct {
	Core, Unreserved, Reserved benchSide   // one call in flight
	RatioP50, RatioCore        float64     // of the reserved call to the unreserved one, and to core NATS
	Sides                      []benchSide // all callers
	Shards                     []int       // on how many the calls of each lay
	RatioRate, RatioCPU        []float64   // of each side to the first
	Twins                      [2]benchSide
	RatioTwin                  float64 // of the second's rate to the first's
	Rounds                     int
	Elsewhere                  int // calls that no member ran
	Errors                     int
	FirstError                 string
}

// benchReserved measures and prints the result as JSON.
func (a *app) benchReserved(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[reservedSpec](in)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	var all []*reservedCaller
	for _, s := range spec.Sides {
		t, conns, hang, err := s.Target.reach(ctx, spec.Callers)
		if err != nil {
			return err
		}
		defer hang()
		all = append(all, newReservedCaller(conns, t.names, s.Functions, spec.Payload))
	}
	var twins [2]*twinCaller
	for i, s := range spec.Twins {
		t, conns, hang, err := s.Target.reach(ctx, spec.Callers)
		if err != nil {
			return err
		}
		defer hang()
		if twins[i], err = newTwinCaller(conns, t.names, s.Arcs, spec.Callers, spec.Payload); err != nil {
			return err
		}
	}
	out := reservedMeasured{}
	if err := out.latencies(ctx, &spec, all[0]); err != nil {
		return err
	}
	out.rates(ctx, &spec, all, twins)
	for _, c := range all {
		out.Elsewhere += int(c.elsewhere.Load())
		out.Shards = append(out.Shards, c.shards())
	}
	return a.printJSON(out)
}

// latencies compares one call in flight: plain NATS, a warm call without a reservation, and one of a reservation.
func (r *reservedMeasured) latencies(ctx context.Context, spec *reservedSpec, c *reservedCaller) error {
	plain := caller{
		spec:  callerSpec{Payload: spec.Payload, Echo: true},
		conns: c.conns[:1], core: c.names.Bench(spec.Subject), invoke: c.names.Invoke(subjects.DefaultAccount, spec.Plain, ""),
	}
	core, unreserved, reserved := closedLoop(1, timed(plain.echo)), closedLoop(1, timed(plain.call)), closedLoop(1, timed(c.call))
	l := load{
		slice: spec.Slice, duration: spec.Duration / 3, cpu: cpuMeter{spec.Sides[0].PID}, sides: []side{core, unreserved, reserved},
	}
	for _, s := range l.sides {
		s(ctx, spec.Slice) // makes what it needs
	}
	plain.cold.Store(0)
	c.elsewhere.Store(0)
	result := l.run(ctx)
	if cold := plain.cold.Load(); cold > 0 {
		return fmt.Errorf("%d calls without a reservation were cold: they are no measure of warm ones", cold)
	}
	r.failed(&result)
	r.Core, r.Unreserved, r.Reserved = result.sides[0], result.sides[1], result.sides[2]
	r.RatioP50 = result.ratio(func(round []benchSide) float64 { return ratio(round[2].p50(), round[1].p50()) })
	r.RatioCore = result.ratio(func(round []benchSide) float64 { return ratio(round[2].p50(), round[0].p50()) })
	return nil
}

// rates compares the fabrics, and the twins with one another, each with all callers at once.
func (r *reservedMeasured) rates(ctx context.Context, spec *reservedSpec, all []*reservedCaller, twins [2]*twinCaller) {
	l := load{slice: spec.Slice, duration: spec.Duration - spec.Duration/3}
	for i, c := range all {
		l.sides = append(l.sides, closedLoop(spec.Callers, timed(c.call)))
		l.cpus = append(l.cpus, cpuMeter{spec.Sides[i].PID})
		l.sides[i](ctx, spec.Slice)
		c.elsewhere.Store(0)
	}
	first := len(l.sides)
	for i, c := range twins {
		l.sides = append(l.sides, closedLoop(spec.Callers, timed(c.call)))
		l.cpus = append(l.cpus, cpuMeter{spec.Twins[i].PID})
		l.sides[first+i](ctx, spec.Slice)
	}
	result := l.run(ctx)
	r.failed(&result)
	r.Sides, r.Rounds = result.sides[:first], result.Rounds
	r.Twins = [2]benchSide(result.sides[first:])
	r.RatioTwin = result.ratio(func(round []benchSide) float64 { return ratio(round[first+1].perSecond(), round[first].perSecond()) })
	for i := range all {
		r.RatioRate = append(r.RatioRate, result.ratio(func(round []benchSide) float64 { return ratio(round[i].perSecond(), round[0].perSecond()) }))
		r.RatioCPU = append(r.RatioCPU, result.ratio(func(round []benchSide) float64 { return ratio(round[i].cpuEach(), round[0].cpuEach()) }))
	}
}

func (r *reservedMeasured) failed(result *loadResult) {
	r.Errors += result.Errors
	if r.FirstError == "" {
		r.FirstError = result.FirstError
	}
}

// cpuEach is the CPU time of the fabric for each call of one round.
func (s *benchSide) cpuEach() float64 {
	return ratio(s.used.fabric.Seconds(), float64(len(s.latencies)))
}

// reservedCaller calls the functions of one fabric, whose version 1 is reserved. Callers share its connections.
type reservedCaller struct {
	conns   []*conn
	names   subjects.Names
	invoke  []string // subjects
	payload []byte

	elsewhere atomic.Int64 // calls that no member ran
	cold      atomic.Int64
	seen      sync.Map // shards on which they lay
}

func newReservedCaller(conns []*conn, names subjects.Names, functions []string, payload []byte) *reservedCaller {
	c := &reservedCaller{conns: conns, names: names, payload: payload}
	for _, f := range functions {
		c.invoke = append(c.invoke, names.Invoke(subjects.DefaultAccount, f, ""))
	}
	return c
}

func (c *reservedCaller) call(ctx context.Context, i int) error {
	return c.callAt(ctx, i, i%len(c.invoke))
}

// callAt calls one of the functions on the connection of a caller.
func (c *reservedCaller) callAt(ctx context.Context, caller, function int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m := &nats.Msg{Subject: c.invoke[function], Data: c.payload, Header: nats.Header{schema.HeaderQualifier: []string{"1"}}}
	answer, err := c.conns[caller%len(c.conns)].Conn().RequestMsgWithContext(ctx, m)
	if err != nil {
		return fmt.Errorf("call: %w", err)
	}
	if text := answer.Header.Get(schema.HeaderError); text != "" {
		return errors.New(text)
	}
	if answer.Header.Get(schema.HeaderFunctionError) != "" {
		return fmt.Errorf("the function failed: %.200s", answer.Data)
	}
	if schema.Start(answer.Header.Get(schema.HeaderStart)) == schema.StartCold {
		c.cold.Add(1)
	}
	switch reason := schema.Reason(answer.Header.Get(schema.HeaderReason)); reason {
	case schema.ReasonReserved, schema.ReasonSpillover:
		shard, _, _ := strings.Cut(strings.TrimPrefix(answer.Header.Get(schema.HeaderArc), "r."), ".")
		if _, known := c.seen.Load(shard); !known {
			c.seen.Store(shard, nil)
		}
	default:
		c.elsewhere.Add(1)
	}
	return sameBytes(answer.Data, c.payload)
}

// shards is on how many streams the calls lay.
func (c *reservedCaller) shards() (n int) {
	c.seen.Range(func(any, any) bool { n++; return true })
	return n
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// callerSpec is what the caller is told.
type callerSpec struct {
	Target      targetSpec
	Subject     string // of the core echo
	Function    string
	Echo        bool // the function must answer what it was sent
	Payload     []byte
	Callers     int
	Connections int
	Duration    time.Duration
	Slice       time.Duration
	PID         int      // of the fabric, 0 if it is not on this host
	Hop         *hopSpec // the twin without NATS, if it is asked for
}

// benchResult is what `bench --json` prints. The ratios are medians over the rounds of the ratio within a round.
type benchResult struct {
	Function    benchSide  `json:"function"`
	Core        benchSide  `json:"core"`
	RatioP50    float64    `json:"ratio_p50"`
	RatioRate   float64    `json:"ratio_rate"`
	Hop         *benchSide `json:"hop,omitempty"`           // the same function on the bare Runtime API, without NATS
	RatioSum    *float64   `json:"ratio_p50_sum,omitempty"` // of the function's p50 to those of core and hop together
	RatioHop    *float64   `json:"ratio_rate_hop,omitempty"`
	Concurrency int        `json:"concurrency"`
	Connections int        `json:"connections"`
	Errors      int        `json:"errors"`
	Rounds      int        `json:"rounds"`
	Cold        int        `json:"cold"`        // of the measured calls, how many found no environment that was ready
	Specialised int        `json:"specialised"` // or one to be bound first
	Driver      string     `json:"driver,omitempty"`
	Loop        string     `json:"loop,omitempty"`
	FirstError  string     `json:"first_error,omitempty"`
}

// maxWarmUp bounds the wait for enough warm environments.
const maxWarmUp = 20 * time.Second

// benchCaller measures and prints the result as JSON.
func (a *app) benchCaller(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[callerSpec](in)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	t, err := spec.Target.target()
	if err != nil {
		return err
	}
	conns, hang, err := t.connections(ctx, max(1, min(spec.Connections, spec.Callers)))
	if err != nil {
		return err
	}
	defer hang()
	c := caller{spec: spec, conns: conns, core: t.names.Bench(spec.Subject), invoke: t.names.Invoke(subjects.DefaultAccount, spec.Function, "")}
	core, function := closedLoop(spec.Callers, timed(c.echo)), closedLoop(spec.Callers, timed(c.call))
	l := load{slice: spec.Slice, duration: spec.Duration, cpu: cpuMeter{spec.PID}, sides: []side{core, function}}
	if spec.Hop != nil {
		hop, stop, err := startHop(ctx, spec.Hop, spec.Callers)
		if err != nil {
			return err
		}
		defer stop()
		hop(ctx, spec.Slice)
		l.sides = []side{core, hop, function}
	}
	core(ctx, spec.Slice)
	c.warmUp(ctx, function)
	return a.printJSON(c.result(l.run(ctx)))
}

// connections opens so many, which close ends.
func (t target) connections(ctx context.Context, n int) (conns []*conn, hang func(), err error) {
	hang = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for range n {
		c, err := t.connect(ctx)
		if err != nil {
			hang()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, hang, nil
}

// caller is who calls in turns. Its callers share its connections.
type caller struct {
	spec         callerSpec
	conns        []*conn
	core, invoke string // subjects

	cold, specialised atomic.Int64
}

func (c *caller) conn(i int) *nats.Conn { return c.conns[i%len(c.conns)].Conn() }

func (c *caller) echo(ctx context.Context, i int) error {
	answer, err := request(ctx, c.conn(i), c.core, c.spec.Payload)
	if err != nil {
		return fmt.Errorf("core echo: %w", err)
	}
	return sameBytes(answer.Data, c.spec.Payload)
}

func (c *caller) call(ctx context.Context, i int) error {
	answer, err := request(ctx, c.conn(i), c.invoke, c.spec.Payload)
	if err != nil {
		return fmt.Errorf("call: %w", err)
	}
	switch schema.Start(answer.Header.Get(schema.HeaderStart)) {
	case schema.StartCold:
		c.cold.Add(1)
	case schema.StartSpecialised:
		c.specialised.Add(1)
	}
	if text := answer.Header.Get(schema.HeaderError); text != "" {
		return errors.New(text)
	}
	if answer.Header.Get(schema.HeaderFunctionError) != "" {
		return fmt.Errorf("the function failed: %.200s", answer.Data)
	}
	if c.spec.Echo {
		return sameBytes(answer.Data, c.spec.Payload)
	}
	return nil
}

// warmUp calls until a slice passes without a cold start.
func (c *caller) warmUp(ctx context.Context, function side) {
	for begin := time.Now(); ; {
		before := c.cold.Load()
		t := function(ctx, c.spec.Slice)
		if c.cold.Load() == before && t.Failed == 0 || time.Since(begin) > maxWarmUp || ctx.Err() != nil {
			break
		}
	}
	c.cold.Store(0)
	c.specialised.Store(0)
}

func (c *caller) result(r loadResult) benchResult {
	last := len(r.sides) - 1 // the function; the twins stand before it
	out := benchResult{
		Function: r.sides[last], Core: r.sides[0], Concurrency: c.spec.Callers, Connections: len(c.conns), Errors: r.Errors, Rounds: r.Rounds,
		Cold: int(c.cold.Load()), Specialised: int(c.specialised.Load()), FirstError: r.FirstError,
		RatioP50:  r.ratio(func(round []benchSide) float64 { return ratio(round[last].p50(), round[0].p50()) }),
		RatioRate: r.ratio(func(round []benchSide) float64 { return ratio(round[last].perSecond(), round[0].perSecond()) }),
	}
	if c.spec.Hop != nil {
		const hop = 1
		sum := r.ratio(func(round []benchSide) float64 { return ratio(round[last].p50(), round[0].p50()+round[hop].p50()) })
		rate := r.ratio(func(round []benchSide) float64 { return ratio(round[last].perSecond(), round[hop].perSecond()) })
		out.Hop, out.RatioSum, out.RatioHop = &r.sides[hop], &sum, &rate
	}
	return out
}

// requestTimeout bounds one call, so that a lost answer is an error and no end of the loop.
const requestTimeout = 15 * time.Second

func request(ctx context.Context, nc *nats.Conn, subject string, payload []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return nc.RequestWithContext(ctx, subject, payload)
}

func sameBytes(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the answer %.40q is not what was sent", got)
	}
	return nil
}

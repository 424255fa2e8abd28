package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/examples"
	"github.com/hearth-run/hearth/schema"
)

const (
	demoEvents = 20      // by either door in turns
	demoBurst  = 200     // calls at once
	brokenName = "mends" // fails until it is deployed whole
)

// demoCapacity are the places of the demo's fabric: enough for the burst also on two managers of three. The function of the
// burst takes a few MB, not the 128 of a place.
const demoCapacity = 360

// ran is an example whose every call was right.
type ran struct {
	example *example
	pack    *pack.Package
}

// runEvents hands events in by both doors and sees them done; has one fail, mends its function, and redrives it.
func (d *demo) runEvents(ctx context.Context, fn ran) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	err := d.sendEvents(ctx, fn.example)
	if err == nil {
		err = d.untilEvents(ctx, fn.example.name, func(e *schema.EventsOutput) bool { return idle(e) && e.DeadLetters == 0 })
	}
	d.tell(stepEvents, fn.example.name, begin, fmt.Sprintf("%d events handed in over NATS and HTTP, all are done, no dead letter", demoEvents), err)

	begin = time.Now()
	err = d.deadLetter(ctx, fn)
	d.tell(stepDeadLetter, brokenName, begin, "an event failed and became a dead letter; the function was mended, the dead letter redriven, and it is done", err)
	return context.Cause(ctx)
}

// tell reports a step that is not one call.
func (d *demo) tell(step, function string, begin time.Time, detail string, err error) {
	s := demoStep{Step: step, OK: err == nil, Function: function, Total: inMS(time.Since(begin)), Detail: detail}
	if err != nil {
		s.Detail, s.Why = "", err.Error()
	}
	d.report.step(s)
}

// sendEvents hands the example's work in, over NATS and HTTP in turns.
func (d *demo) sendEvents(ctx context.Context, e *example) error {
	for i := range demoEvents {
		if i%2 == 0 {
			if _, err := d.client.Send(ctx, client.Event{Function: e.name, Payload: e.payload}); err != nil {
				return err
			}
			continue
		}
		resp, err := d.post(ctx, e.name, e.payload, http.Header{"X-Amz-Invocation-Type": {"Event"}})
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("an event over HTTP was answered with %s", resp.Status)
		}
	}
	return nil
}

// deadLetter deploys a function with the wrong package, lets an event fail, deploys it whole and redrives the dead letter.
func (d *demo) deadLetter(ctx context.Context, fn ran) error {
	wrong, err := wrongPackage(fn.example.runtime)
	if err != nil {
		return err
	}
	none := 0
	dep := deployment{
		name: brokenName, runtime: fn.example.runtime, handler: "index.handler", memoryMB: schema.DefaultMemoryMB, timeout: 10 * time.Second,
		pack: wrong, given: unsaidHandler, events: &schema.EventConfigInput{FunctionName: brokenName, MaximumRetryAttempts: &none},
	}
	if _, err := dep.apply(ctx, d.client); err != nil {
		return err
	}
	if _, err := d.client.Send(ctx, client.Event{Function: brokenName, Payload: fn.example.payload}); err != nil {
		return err
	}
	if err := d.untilEvents(ctx, brokenName, func(e *schema.EventsOutput) bool { return idle(e) && e.DeadLetters == 1 }); err != nil {
		return err
	}
	dep.pack = fn.pack
	if _, err := dep.apply(ctx, d.client); err != nil {
		return err
	}
	done, err := d.client.RedriveDeadLetters(ctx, schema.DeadLettersInput{FunctionName: brokenName})
	if err == nil && done.Done != 1 {
		err = fmt.Errorf("%d dead letters were redriven, not 1", done.Done)
	}
	if err != nil {
		return err
	}
	return d.untilEvents(ctx, brokenName, func(e *schema.EventsOutput) bool { return idle(e) && e.DeadLetters == 0 })
}

// wrongPackage holds nothing that the runtime could run: another language's example.
func wrongPackage(runtime string) (*pack.Package, error) {
	other := "python"
	if runtime == other {
		other = "nodejs"
	}
	files, err := fs.Sub(examples.Files, other)
	if err != nil {
		return nil, err
	}
	return pack.FS(files)
}

func idle(e *schema.EventsOutput) bool { return e.Waiting+e.Running+e.Retrying == 0 }

// untilEvents waits until the events of a function stand so.
func (d *demo) untilEvents(ctx context.Context, function string, so func(*schema.EventsOutput) bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.client.Events(ctx, function, "")
		if err != nil {
			return err
		}
		if so(out) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("events of %s: %d waiting, %d running, %d retrying, %d dead letters: %w", function, out.Waiting, out.Running,
				out.Retrying, out.DeadLetters, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// runBurst makes many calls of a version at once; each has to be answered right, and some by what is reserved.
func (d *demo) runBurst(ctx context.Context, e *example, version string) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	type outcome struct {
		start  schema.Start
		reason schema.Reason
		took   time.Duration
		err    error
	}
	begin := time.Now()
	calls := pool.NewWithResults[outcome]()
	for range demoBurst {
		calls.Go(func() outcome {
			answer, err := d.client.Invoke(ctx, client.Call{Function: e.name, Qualifier: version, Payload: e.payload})
			o := outcome{took: time.Since(begin), err: err}
			switch {
			case err != nil:
			case answer.FunctionError != nil:
				o.err = fmt.Errorf("the function failed: %s: %s", answer.FunctionError.Type, answer.FunctionError.Message)
			default:
				o.start, o.reason = answer.Start, answer.Reason
				_, o.err = e.check(answer.Payload)
			}
			return o
		})
	}
	starts, reasons := map[schema.Start]int{}, map[schema.Reason]int{}
	var first error
	right := 0
	for _, o := range calls.Wait() {
		d.report.count(o.start, o.took, o.err == nil)
		starts[o.start]++
		reasons[o.reason]++
		switch {
		case o.err == nil:
			right++
		case first == nil:
			first = o.err
		}
	}
	if first != nil {
		first = fmt.Errorf("%d of %d calls at once were right; the first that was not: %w", right, demoBurst, first)
	}
	if first == nil && reasons[schema.ReasonReserved] == 0 {
		first = fmt.Errorf("no call went to what is reserved: %s", reasonsText(reasons))
	}
	d.tell(stepBurst, e.name, begin, fmt.Sprintf("%d calls at once, all right: %d cold, %d warm; %s", demoBurst, starts[schema.StartCold],
		starts[schema.StartWarm], reasonsText(reasons)), first)
	return context.Cause(ctx)
}

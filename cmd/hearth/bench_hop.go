package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/process"
	"github.com/hearth-run/hearth/worker/runtimeapi"
	"github.com/hearth-run/hearth/worker/runtimes"
	"github.com/hearth-run/hearth/worker/unpack"
)

// A hop is a function without a fabric: the same package in the same kind of process, behind the same Runtime API server,
// called by whoever holds it. No fabric can be quicker than that and a request on core NATS together, and what a library
// in the function burns for each call stands on both sides.

// hopSpec is a function as hops run it.
type hopSpec struct {
	Zip     []byte
	SHA256  string
	Runtime string
	Handler string
	Payload []byte
}

// hopTurn is what the part that has hops is asked for, as one line of JSON; its answer is a turn.
type hopTurn struct{ Length time.Duration }

// startHop starts the part and gives the side that it is.
func startHop(ctx context.Context, spec *hopSpec, callers int) (s side, stop func(), err error) {
	p, err := startPart(ctx, "bench-hop", hopPartSpec{hopSpec: *spec, Callers: callers})
	if err != nil {
		return nil, nil, err
	}
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, nil, err
	}
	return func(ctx context.Context, length time.Duration) (t turn) {
		if err := p.ask(ctx, hopTurn{length}, &t); err != nil {
			return turn{Failed: 1, First: err.Error()}
		}
		return t
	}, p.stop, nil
}

type hopPartSpec struct {
	hopSpec
	Callers int
}

// benchHop runs closed loops over hops, one turn for each line of its input.
func (a *app) benchHop(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[hopPartSpec](in)
	if err != nil {
		return err
	}
	defer tune()() // as the fabric that it is compared with
	ctx := cmd.Context()
	h, err := startHops(ctx, &spec.hopSpec, spec.Callers)
	if err != nil {
		return err
	}
	defer h.stop()
	loop := closedLoop(spec.Callers, func(ctx context.Context, i int) (time.Duration, error) {
		answer, took, err := h.all[i].call(ctx, spec.Payload)
		if err == nil {
			err = sameBytes(answer, spec.Payload)
		}
		return took, err
	})
	fmt.Fprintln(a.stdout, "ready")
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		var ask hopTurn
		if err == nil {
			err = json.Unmarshal(line, &ask)
		}
		if err != nil {
			return fmt.Errorf("read what to measure: %w", err)
		}
		if err := a.printJSON(loop(ctx, ask.Length)); err != nil {
			return err
		}
	}
}

// hops are environments of one function.
type hops struct {
	folder string
	driver driver.Driver
	all    []*hop
}

// startHops unpacks the function and makes n environments, in a folder of their own.
func startHops(ctx context.Context, spec *hopSpec, n int) (_ *hops, err error) {
	h := &hops{}
	defer func() {
		if err != nil {
			h.stop()
		}
	}()
	if h.folder, err = os.MkdirTemp("", "hearth-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder for the function: %w", err)
	}
	if err := os.Chmod(h.folder, 0o711); err != nil { // environments have users of their own
		return nil, fmt.Errorf("open the folder of the function: %w", err)
	}
	cache, err := unpack.New(unpack.Config{Dir: filepath.Join(h.folder, "code")})
	if err != nil {
		return nil, err
	}
	code, err := cache.Get(ctx, spec.SHA256, func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(spec.Zip)), nil
	})
	if err != nil {
		return nil, err
	}
	commands, err := runtimes.New(runtimes.Config{Dir: filepath.Join(h.folder, "runtimes"), Path: os.Getenv("PATH")})
	if err != nil {
		return nil, err
	}
	if h.driver, err = process.New(process.Config{Dir: filepath.Join(h.folder, "environments")}); err != nil {
		return nil, err
	}
	binding := &schema.Binding{
		Key: schema.Key{FunctionID: "hop", Version: schema.Latest, CodeSHA256: spec.SHA256}, Account: subjects.DefaultAccount,
		Function: "hop", Runtime: spec.Runtime, Handler: spec.Handler, MemoryMB: 128, Timeout: schema.MaxTimeout,
	}
	for i := range n {
		one := &hop{parked: make(chan struct{}, 1), answered: make(chan struct{}, 1), output: &lastWords{}}
		if one.inside, err = h.driver.New(ctx, driver.Spec{ID: fmt.Sprintf("hop-%d", i), MemoryMB: binding.MemoryMB}); err != nil {
			return nil, err
		}
		one.server = runtimeapi.New(runtimeapi.Config{ARN: schema.ARN(binding.Account, binding.Function, ""), Events: one})
		h.all = append(h.all, one)
		command, err := commands.Command(binding, runtimes.Place{Code: code, API: one.inside.APIAddress()})
		if err != nil {
			return nil, err
		}
		one.server.Serve(one.inside.Listener())
		if err := one.inside.Start(ctx, command, one.output); err != nil {
			return nil, err
		}
	}
	for _, one := range h.all {
		if err := one.park(ctx); err != nil {
			return nil, err
		}
		one.parked <- struct{}{} // still is
	}
	return h, nil
}

// stop ends the environments and removes what they had.
func (h *hops) stop() {
	if h.driver != nil {
		_ = h.driver.Close()
	}
	for _, one := range h.all {
		one.server.Close()
	}
	if h.folder != "" {
		_ = os.RemoveAll(h.folder)
	}
}

// hop is one environment, for one caller at a time.
type hop struct {
	server   *runtimeapi.Server
	inside   driver.Environment
	output   *lastWords
	parked   chan struct{} // it asks for a call
	answered chan struct{}
	payload  []byte // of the last answer
	failure  *schema.FunctionError
}

var _ runtimeapi.Events = (*hop)(nil)

// Parked is told by the Runtime API.
func (h *hop) Parked(bool) {
	select {
	case h.parked <- struct{}{}:
	default: // a second connection of the same runtime
	}
}

// Answered is told by the Runtime API.
func (h *hop) Answered(a *runtimeapi.Answer) {
	h.payload, h.failure = append(h.payload[:0], a.Payload...), a.Error
	if a.Parked {
		h.Parked(false)
	}
	h.answered <- struct{}{}
}

// InitFailed is told by the Runtime API; the runtime ends after it.
func (h *hop) InitFailed(failure *schema.FunctionError) {
	fmt.Fprintf(h.output, "%s: %s\n", failure.Type, failure.Message)
}

// call runs one call. It takes the time from the start to the answer in an environment that asks for a call, as it is
// where a fabric starts one; how long the runtime takes to ask shows in the rate of a closed loop. The answer is valid
// until the next call.
func (h *hop) call(ctx context.Context, payload []byte) (answer []byte, took time.Duration, err error) {
	if err := h.park(ctx); err != nil {
		return nil, 0, err
	}
	in := runtimeapi.Invocation{RequestID: uuid.NewString(), Deadline: time.Now().Add(schema.MaxTimeout), Payload: payload}
	begin := time.Now()
	if err := h.server.Start(&in); err != nil {
		return nil, 0, fmt.Errorf("start a call of the hop: %w", err)
	}
	if err := h.wait(ctx, h.answered); err != nil {
		return nil, 0, err
	}
	took = time.Since(begin)
	if h.failure != nil {
		return nil, 0, fmt.Errorf("the function failed: %s: %.200s", h.failure.Type, h.failure.Message)
	}
	return h.payload, took, nil
}

// park waits until the runtime asks for a call.
func (h *hop) park(ctx context.Context) error { return h.wait(ctx, h.parked) }

func (h *hop) wait(ctx context.Context, told <-chan struct{}) error {
	select {
	case <-told:
		return nil
	case <-h.inside.Done():
		return fmt.Errorf("the function's process ended: %s", h.output)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lastWords keeps the end of what a process says, for the error when it ends.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (w *lastWords) Write(p []byte) (int, error) {
	const enough = 512
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if extra := len(w.text) - enough; extra > 0 {
		w.text = append(w.text[:0], w.text[extra:]...)
	}
	return len(p), nil
}

// String is one line.
func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return oneLine(string(w.text))
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/subjects"
)

// The parts of a measurement are processes of their own: this binary again, by a hidden command that reads what to do as
// JSON from its standard input and ends when that closes, so that none outlives the measurement.

// targetSpec is a target as it is handed to a part.
type targetSpec struct {
	URL, Creds, Prefix string
	Context            contextAt
}

func specOf(t target) targetSpec { return targetSpec{t.url, t.creds, t.names.Prefix(), t.context} }

func (s targetSpec) target() (target, error) {
	names, err := subjects.NewNames(s.Prefix)
	return target{url: s.URL, creds: s.Creds, context: s.Context, names: names}, err
}

// reach connects to the target for so many callers; hang ends the connections.
func (s targetSpec) reach(ctx context.Context, callers int) (t target, conns []*conn, hang func(), err error) {
	if t, err = s.target(); err == nil {
		conns, hang, err = t.connections(ctx, min(callers, benchConnections))
	}
	return t, conns, hang, err
}

// echoSpec is what the core echo is told.
type echoSpec struct {
	Target  targetSpec
	Subject string
}

// benchParts are the hidden commands.
func (a *app) benchParts() []*cobra.Command {
	part := func(name string, run func(cmd *cobra.Command, in *bufio.Reader) error) *cobra.Command {
		return &cobra.Command{
			Use: name, Hidden: true, Args: cobra.NoArgs,
			Short: "A part of `hearth bench`, started by it",
			// Its settings come by standard input alone.
			PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
			RunE:              func(cmd *cobra.Command, _ []string) error { return run(cmd, bufio.NewReader(a.stdin)) },
		}
	}
	return []*cobra.Command{
		part("bench-echo", a.benchEcho), part("bench-caller", a.benchCaller), part("bench-hop", a.benchHop),
		part("bench-events", a.benchEvents), part("bench-queue", a.benchQueue),
		part("bench-fabric", a.benchFabric), part("bench-held", a.benchReserved), part("bench-twin", a.benchTwin),
		part("bench-traced", a.benchTelemetry), part("bench-otlp", a.benchCollector),
	}
}

func readSpec[T any](in *bufio.Reader) (spec T, err error) {
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &spec)
	}
	if err != nil {
		err = usagef("this command is started by `hearth bench`: %v", err)
	}
	return spec, err
}

// benchEcho answers requests with what they carry, until standard input closes.
func (a *app) benchEcho(cmd *cobra.Command, in *bufio.Reader) error {
	spec, err := readSpec[echoSpec](in)
	if err != nil {
		return err
	}
	t, err := spec.Target.target()
	if err != nil {
		return err
	}
	c, err := t.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := serveEcho(c.Conn(), t.names.Bench(spec.Subject)); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "ready")
	_, err = io.Copy(io.Discard, in)
	return err
}

// serveEcho answers requests with what they carry; it returns when the server has the subscription.
func serveEcho(nc *nats.Conn, subject string) error {
	_, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) })
	if err == nil {
		err = nc.FlushTimeout(requestTimeout)
	}
	if err == nil {
		err = nc.LastError() // the server says no on the side
	}
	if err != nil {
		return fmt.Errorf("subscribe to the echo's subject %s: %w", subject, err)
	}
	return nil
}

// part is a process of a measurement.
type part struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *bytes.Buffer
	ended  func() error
}

// startPart starts this binary again with a hidden command and tells it what to do. Of variables of OpenTelemetry it has these alone.
func startPart(ctx context.Context, name string, spec any, env ...string) (*part, error) {
	told, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	p, err := startWith(ctx, env, name)
	if err != nil {
		return nil, err
	}
	if _, err := p.stdin.Write(append(told, '\n')); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w: %s", name, err, p.stderr)
	}
	return p, nil
}

// startSelf starts this binary again, without the caller's HEARTH_ variables, which are meant for the caller.
func startSelf(ctx context.Context, args ...string) (*part, error) {
	var otel []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "OTEL_") {
			otel = append(otel, v)
		}
	}
	return startWith(ctx, otel, args...)
}

// startWith is [startSelf] with these variables instead of the caller's of OpenTelemetry.
func startWith(ctx context.Context, env []string, args ...string) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary: %w", err)
	}
	p := &part{name: args[0], cmd: exec.CommandContext(ctx, self, args...), stderr: new(bytes.Buffer)}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HEARTH_") && !strings.HasPrefix(v, "OTEL_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 10 * time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.stdin, p.stdout, p.ended = stdin, bufio.NewReader(stdout), sync.OnceValue(p.cmd.Wait)
	return p, nil
}

// line is the next line that the part prints; if it ends without one, the error says what it complained of. It ends with
// the part, and that with the context it was started with.
func (p *part) line(ctx context.Context) ([]byte, error) {
	line, err := p.stdout.ReadBytes('\n')
	if err == nil {
		return line, nil
	}
	ended := p.ended()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%s ended (%v): %s", p.name, ended, strings.TrimPrefix(strings.TrimSpace(p.stderr.String()), "hearth: "))
}

// ask writes what as a line of JSON and reads the answer, another.
func (p *part) ask(ctx context.Context, what, answer any) error {
	told, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(told, '\n')); err != nil {
		return fmt.Errorf("ask %s: %w: %s", p.name, err, p.stderr)
	}
	line, err := p.line(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, answer); err != nil {
		return fmt.Errorf("read the answer of %s %.80q: %w", p.name, line, err)
	}
	return nil
}

// ready waits for the word.
func (p *part) ready(ctx context.Context) error {
	_, err := p.line(ctx)
	return err
}

// stop closes the part's input, which ends it, and waits.
func (p *part) stop() {
	_ = p.stdin.Close()
	_ = p.ended()
}

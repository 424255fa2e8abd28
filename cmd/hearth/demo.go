package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

// Steps and doors of the demo.
const (
	stepFabric      = "fabric"
	stepDeploy      = "deploy"
	stepCall        = "call"
	stepLeftOut     = "left-out"
	stepRatio       = "ratio"
	stepEvents      = "events"
	stepDeadLetter  = "dead-letter"
	stepReservation = "reservation"
	stepBurst       = "burst"
	stepShrink      = "shrink"
	stepTenants     = "sub-tenants"
	doorNATS        = "nats"
	doorHTTP        = "http"
)

const demoManagers = 3

// demoReclaim is after how long idle environments beyond a reservation go: sooner than by default, for a demo is short.
const demoReclaim = 2 * time.Second

// How long the demo measures, and in turns of what length.
const (
	demoMeasure = 1200 * time.Millisecond
	demoSlice   = 100 * time.Millisecond
)

// demoStepTimeout bounds one step, so that a demo that goes wrong ends and says where.
const demoStepTimeout = 30 * time.Second

var errNothingRan = errors.New("no function could be run: install Go with the source tree, node or python3")

func (a *app) demo() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything once, alone, in under a minute",
		Long: `Start a fabric of three managers and a NATS server in a temporary folder, deploy the example functions, call each over
NATS and over HTTP with work whose answer is known, and print how each call went; hand in events, mend a function and redrive its dead
letter; reserve environments, make a burst of calls beyond them, and shrink the reservation under calls; serve two customers of one
function, each with its own environments and a token that a service beside the fabric checks. Exits 0 only when every answer was right.
Examples whose interpreter or compiler is missing are left out, by name, and the customers where the sandbox cannot be built.`,
		Example: "  hearth demo\n  hearth demo --json | tail -1\n  hearth demo --keep ./playground",
		GroupID: groupFabric,
		Args:    exactly(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runDemo(cmd, keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "folder for the data; the fabric goes on running until Ctrl-C")
	jsonFlag(cmd)
	return cmd
}

// demo is a run.
type demo struct {
	app    *app
	report *report
	fabric *deploy.Fabric
	client *client.Client
	http   *http.Client
	ran    []ran

	unsandboxed error // why functions run as bare processes; nil: they do not
}

func (a *app) runDemo(cmd *cobra.Command, keep string) (err error) {
	ctx := cmd.Context()
	folder, remove, err := demoFolder(keep)
	if err != nil {
		return err
	}
	defer remove()
	d := &demo{app: a, report: &report{app: a, json: asJSON(cmd)}, http: &http.Client{Timeout: demoStepTimeout}}
	defer d.http.CloseIdleConnections()
	// Said before anything is done: the first line comes at once.
	fmt.Fprintf(a.progressStream(cmd), "hearth demo: %d managers and a NATS server in one process, data in %s\n", demoManagers, folder)

	all, err := demoExamples()
	if err != nil {
		return err
	}
	builds := filepath.Join(folder, "build")
	if err := os.MkdirAll(builds, 0o700); err != nil {
		return fmt.Errorf("make a folder for what is built: %w", err)
	}
	shop, err := openShop()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close(ctx)) }()
	building, stopBuilding := context.WithCancel(ctx)
	packages, wait := packAll(building, append(slices.Clip(all), shop.example), builds)
	defer func() { stopBuilding(); wait() }()

	defer tune()()
	cfg := a.demoConfig(filepath.Join(folder, "data"), keep == "")
	d.unsandboxed = errors.New("this system has no sandbox")
	if cfg.Driver == deploy.DriverNative {
		if d.unsandboxed = deploy.ProbeSandbox(ctx, filepath.Join(folder, "sandbox")); d.unsandboxed != nil {
			cfg.Driver = deploy.DriverProcess
			a.complain("the demo's functions run as bare processes: %v", d.unsandboxed)
		} else {
			cfg.AllowLocal = []string{shop.address()}
		}
	}
	d.fabric, err = startFabric(ctx, cfg)
	if err != nil {
		return fmt.Errorf("start the demo's fabric: %w", err)
	}
	defer func() { err = errors.Join(err, stopInOrder(ctx, d.fabric, demoStepTimeout)) }()
	d.client, err = client.Connect(ctx, client.Options{URL: d.fabric.NATSURL, Creds: d.fabric.CredsFile, Name: "hearth demo"})
	if err != nil {
		return err
	}
	defer d.client.Close()
	if err := d.showFabric(ctx); err != nil {
		return err
	}
	if err := d.runExamples(ctx, all, packages); err != nil {
		return err
	}
	if err := d.runMore(ctx); err != nil {
		return err
	}
	if err := d.runTenants(ctx, shop, packages[len(all)]); err != nil {
		return err
	}
	if err := d.report.close(); err != nil || keep == "" {
		return err
	}
	return a.keepRunning(ctx, cmd, d.fabric)
}

// progressStream is stdout for people; with --json that holds JSON alone.
func (a *app) progressStream(cmd *cobra.Command) io.Writer {
	if asJSON(cmd) {
		return a.stderr
	}
	return a.stdout
}

func demoFolder(keep string) (folder string, remove func(), err error) {
	if keep != "" {
		if folder, err = filepath.Abs(keep); err == nil {
			err = os.MkdirAll(folder, 0o700)
		}
		if err != nil {
			return "", nil, usagef("--keep: %v; a folder that can be made is wanted", err)
		}
		return folder, func() {}, nil
	}
	folder, err = os.MkdirTemp("", "hearth-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make the demo's folder: %w", err)
	}
	return folder, func() { _ = os.RemoveAll(folder) }, nil
}

func (a *app) demoConfig(data string, ephemeral bool) deploy.Config {
	return deploy.Config{
		DataDir: data, Ephemeral: ephemeral, HTTP: "127.0.0.1:0", NATS: "127.0.0.1:0", Managers: demoManagers, Capacity: demoCapacity, Driver: deploy.DefaultDriver(), Anonymous: true,
		Set:    map[string]string{"reclaim": demoReclaim.String()},
		Path:   os.Getenv("PATH"),
		Build:  thisBuild().String(),
		Logger: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// packed is an example's package, or why there is none.
type packed struct {
	pack *pack.Package
	err  error
}

// packAll makes all packages beside the start of the fabric; each channel gets one. wait returns when none is made any
// more.
func packAll(ctx context.Context, all []example, folder string) (packages []chan packed, wait func()) {
	var builds conc.WaitGroup
	for _, e := range all {
		ready := make(chan packed, 1)
		packages = append(packages, ready)
		builds.Go(func() {
			p, err := e.pack(ctx, folder)
			ready <- packed{p, err}
		})
	}
	return packages, builds.Wait
}

// showFabric tells where the fabric serves, and that all managers are on its ring.
func (d *demo) showFabric(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	ring, err := d.client.Ring(ctx, "")
	if err != nil {
		return fmt.Errorf("look at the ring: %w", err)
	}
	var ids []string
	for _, m := range ring.Managers {
		ids = append(ids, m.ID)
	}
	s := demoStep{Step: stepFabric, OK: len(ids) == demoManagers, Detail: fmt.Sprintf("%s and %s, on the ring: %s",
		d.fabric.HTTPURL, d.fabric.NATSURL, strings.Join(ids, ", "))}
	if !s.OK {
		s.Why = fmt.Sprintf("%d managers are on the ring, not %d", len(ids), demoManagers)
	}
	d.report.step(s)
	return nil
}

// runExamples deploys and calls each, then measures the leanest that ran.
func (d *demo) runExamples(ctx context.Context, all []example, packages []chan packed) error {
	var leanest *example
	for i := range all {
		e := &all[i]
		var p packed
		select {
		case p = <-packages[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case errors.Is(p.err, errLeftOut):
			d.report.step(demoStep{Step: stepLeftOut, OK: true, Function: e.name, Detail: strings.TrimPrefix(p.err.Error(), errLeftOut.Error()+": ")})
			continue
		case p.err != nil:
			d.report.step(demoStep{Step: stepDeploy, Function: e.name, Why: p.err.Error()})
			continue
		}
		if d.runExample(ctx, e, p.pack) {
			leanest = e
			d.ran = append(d.ran, ran{e, p.pack})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if leanest == nil {
		return nil
	}
	return d.measure(ctx, leanest)
}

// runMore shows events, a reservation and a burst with the leanest function that ran.
func (d *demo) runMore(ctx context.Context) error {
	if len(d.ran) == 0 {
		return nil
	}
	leanest := d.ran[len(d.ran)-1]
	if err := d.runEvents(ctx, leanest); err != nil {
		return err
	}
	return d.runReservation(ctx, leanest.example)
}

// runExample reports whether the function can be called at all.
func (d *demo) runExample(ctx context.Context, e *example, p *pack.Package) bool {
	deployCtx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	dep := deployment{
		name: e.name, runtime: e.runtime, handler: "index.handler", memoryMB: schema.DefaultMemoryMB, timeout: 10 * time.Second,
		pack: p, given: unsaidHandler,
	}
	_, err := dep.apply(deployCtx, d.client)
	s := demoStep{Step: stepDeploy, OK: err == nil, Function: e.name, Total: inMS(time.Since(begin)), Detail: fmt.Sprintf(
		"%s, %s of %d KB, to %s", e.runtime, plural(p.Files, "file", "files"), (len(p.Zip)+1023)>>10, e.work)}
	if err != nil {
		s.Why = err.Error()
	}
	d.report.step(s)
	if err != nil {
		return false
	}
	right := true
	for _, door := range []struct {
		name string
		call door
	}{{doorNATS, d.callNATS}, {doorHTTP, d.callHTTP}} {
		right = d.call(ctx, e, door.name, door.call) && right
		if e.wrong != nil {
			right = d.callWrong(ctx, e, door.name, door.call) && right
		}
	}
	return right
}

// measure sets warm calls of a function against a plain NATS request-reply through the same server, in turns: caller and
// core echo are processes of their own, as those of `hearth bench`, since within one process nobody has to be woken up.
func (d *demo) measure(ctx context.Context, e *example) error {
	spec := callerSpec{
		Target: targetSpec{URL: d.fabric.NATSURL, Creds: d.fabric.CredsFile}, Subject: "demo", Function: e.name, Echo: e.name == echoName,
		Payload: e.payload, Callers: 1, Duration: demoMeasure, Slice: demoSlice,
	}
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	echo, err := startPart(ctx, "bench-echo", echoSpec{Target: spec.Target, Subject: spec.Subject})
	if err != nil {
		return err
	}
	defer echo.stop()
	if err := echo.ready(ctx); err != nil {
		return err
	}
	r, err := measure[benchResult](ctx, "bench-caller", spec)
	if err != nil {
		return err
	}
	d.report.measured(r)
	d.report.step(demoStep{Step: stepRatio, OK: r.Errors == 0 && r.Function.Calls > 0, Function: e.name, Detail: fmt.Sprintf(
		"%d calls one after the other, p50 %.0f us; a plain NATS request in turns with them, p50 %.0f us; %.2f times",
		r.Function.Calls, r.Function.P50, r.Core.P50, r.RatioP50), Why: r.FirstError})
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// upFlags are what was asked for.
type upFlags struct {
	data, http, nats, driver string
	metrics, console         string
	managers, capacity       int
	set, allowLocal          []string
	noAnonymous, noConsole   bool
	drain                    time.Duration
	readyFile                string
	logLevel, logFormat      string
	noNote, ephemeral        bool
	measured                 bool
}

func (a *app) up() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a whole fabric in one process until SIGINT or SIGTERM",
		Long: `Run all roles with an embedded NATS server: managers with their workers, a frontend, and the HTTP listener. Data lies in
--data: stop it, start it, the functions are there. When everything serves it prints ` + "`ready`" + ` with both URLs. The first
SIGINT or SIGTERM lets running calls end, for at most --drain-timeout; the second ends at once.

Client commands of the same user find it by themselves. With --server it uses a NATS server that runs, instead of its own.`,
		Example: `  hearth up
  hearth up --managers 3 --data /var/lib/hearth --http 127.0.0.1:8080
  hearth up --nats 127.0.0.1:0 --http 127.0.0.1:0 --ready-file ready.json
  hearth up --set keep-alive=1m --set theta=0.9
  hearth up --no-anonymous --metrics 127.0.0.1:4281 --console 127.0.0.1:4282`,
		GroupID: groupFabric,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.upConfig(cmd, f)
			if err != nil {
				return err
			}
			return a.runUp(cmd.Context(), cfg, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.data, "data", deploy.DefaultDataDir, "folder for everything that must outlast the process")
	flags.StringVar(&f.http, "http", deploy.DefaultHTTP, "address of the HTTP listener; port 0 picks a free one")
	flags.StringVar(&f.nats, "nats", deploy.DefaultNATS, "address of the embedded NATS server; port 0 picks a free one")
	flags.IntVar(&f.managers, "managers", 1, "managers in this process")
	flags.IntVar(&f.capacity, "capacity", 0, "environments of 128 MB, all managers together (default: 3/4 of the free memory)")
	flags.StringVar(&f.driver, "driver", "", driverHelp)
	flags.StringArrayVar(&f.set, "set", nil, setHelp)
	flags.StringArrayVar(&f.allowLocal, "allow-local", nil, allowLocalHelp)
	flags.BoolVar(&f.noAnonymous, "no-anonymous", false, "no calls without a credential, from this host neither; nor /metrics and the console at --http")
	flags.BoolVar(&f.noConsole, "no-console", false, noConsoleHelp)
	flags.StringVar(&f.metrics, "metrics", "", metricsApartHelp)
	flags.StringVar(&f.console, "console", "", consoleApartHelp)
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long running calls may take to end when it stops")
	flags.StringVar(&f.readyFile, "ready-file", "", "file to write the URLs to, as JSON, while everything serves")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.BoolVar(&f.noNote, "no-note", false, "do not tell this user's client commands of it")
	flags.BoolVar(&f.ephemeral, "ephemeral", false, "leave nothing behind outside the data folder")
	flags.BoolVar(&f.measured, "measured", false, "let the admin keep the streams that `hearth bench` compares with")
	for _, hidden := range []string{"no-note", "ephemeral", "measured"} {
		_ = flags.MarkHidden(hidden)
	}
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	_ = cmd.RegisterFlagCompletionFunc("set", completeFabricKey("="))
	completeLogFlags(cmd)
	return cmd
}

// What is said of flags that several roles have.
const (
	workerDriverHelp = "what isolates environments: process, nothing but a user; native, a sandbox on Linux as root, whose functions " +
		"reach what their egress policy opens; null for measuring (default: native on Linux, process elsewhere)"
	driverHelp     = workerDriverHelp + "; none leaves them to workers (hearth worker)"
	allowLocalHelp = "HOST:PORT of this host, localhost or an address, that sandboxed functions reach which list it in --egress, by the " +
		"name host.hearth.internal if it is loopback: for development (repeatable)"
	noConsoleHelp = "leave the console out of --http: whoever reaches the HTTP listener of this host sees names, calls and how they ended in it"
	setHelp       = "KEY=VALUE, first value of a number of the fabric (repeatable; \"hearth fabric get\" lists them)"
)

// drivers are the values of --driver.
var drivers = []string{deploy.DriverNative, deploy.DriverProcess, deploy.DriverNull, deploy.DriverNone}

var completeDriver = cobra.FixedCompletions(drivers, cobra.ShellCompDirectiveNoFileComp)

func checkDriver(driver string) error {
	if driver == "" || slices.Contains(drivers, driver) {
		return nil
	}
	return usagef("--driver is %q%s; native, process, null or none", driver, didYouMean(driver, drivers))
}

// upConfig checks the flags and gives what package deploy is told.
func (a *app) upConfig(cmd *cobra.Command, f upFlags) (deploy.Config, error) {
	logger, err := a.logger(f.logLevel, f.logFormat)
	if err != nil {
		return deploy.Config{}, err
	}
	set, err := fabricValues(f.set)
	if err != nil {
		return deploy.Config{}, fmt.Errorf("--set: %w", err)
	}
	switch {
	case f.managers < 1 || f.managers > deploy.MaxManagers:
		return deploy.Config{}, usagef("--managers is %d; 1 to %d", f.managers, deploy.MaxManagers)
	case f.capacity < 0:
		return deploy.Config{}, usagef("--capacity is %d; 1 or more, or 0 for what the memory allows", f.capacity)
	case f.drain < 0:
		return deploy.Config{}, usagef("--drain-timeout is %v; 0s or more", f.drain)
	}
	if err := checkDriver(f.driver); err != nil {
		return deploy.Config{}, err
	}
	cfg := deploy.Config{
		DataDir: f.data, Ephemeral: f.ephemeral, Measured: f.measured, HTTP: f.http, NATS: f.nats, Managers: f.managers, Capacity: f.capacity, Driver: f.driver, Set: set,
		Anonymous: !f.noAnonymous, NoConsole: f.noConsole, Prefix: cmd.Flag("prefix").Value.String(), Build: thisBuild().String(), Logger: logger,
		Path: os.Getenv("PATH"), AllowLocal: f.allowLocal, MetricsAt: f.metrics, ConsoleAt: f.console,
	}
	if a.settings.given("context") {
		return deploy.Config{}, usagef("up takes no --context; name the server with --server and its credential with --creds")
	}
	if a.settings.given("server") {
		const flag = "flag"
		switch server, own := a.settings.source["server"], a.settings.source["nats"]; {
		case server == flag && own == flag:
			return deploy.Config{}, usagef("--nats is the address of the embedded server and --server names another one; leave one of them out")
		case own != flag:
			cfg.ServerURL, cfg.Creds = cmd.Flag("server").Value.String(), cmd.Flag("creds").Value.String()
		}
		// Else --nats was typed and HEARTH_SERVER is what client commands are told: the nearer word counts.
	}
	return cfg, nil
}

func (a *app) logger(level, format string) (*slog.Logger, error) {
	l, ok := telemetry.ParseLevel(level)
	if !ok {
		return nil, usagef("--log-level is %q; debug, info, warn or error", level)
	}
	logger, err := telemetry.NewLogger(a.stderr, format, l)
	if err != nil {
		return nil, usagef("--log-format is %q; text or json", format)
	}
	if format == telemetry.LogJSON {
		// Of a level of its own: what is complained of at the end is told whatever the log leaves out.
		if a.lines, err = telemetry.NewLogger(a.stderr, format, slog.LevelInfo); err != nil {
			return nil, err
		}
	}
	return logger, nil
}

// tellAddress says where people look.
func (a *app) tellAddress(what, url string) {
	if a.lines != nil {
		a.lines.Info(what, "url", url)
		return
	}
	fmt.Fprintln(a.stderr, what, url)
}

// runUp serves until the context ends.
func (a *app) runUp(ctx context.Context, cfg deploy.Config, f upFlags) error {
	begin := time.Now()
	end, err := a.observe(ctx, &cfg)
	if err != nil {
		return err
	}
	defer end()
	if err := readyFile(f.readyFile).clear(); err != nil {
		return err
	}
	defer tune()()
	stop := a.progress("starting")
	fabric, err := startFabric(ctx, cfg)
	stop()
	if err != nil {
		return startFailure(err)
	}
	a.warnOf(cfg.Driver, fabric.Notes)
	a.remark(fabric.Remarks)
	err = a.serve(ctx, fabric, cfg, f, begin)
	return errors.Join(err, stopInOrder(ctx, fabric, f.drain))
}

// observe sets up traces and metrics as the standard variables say it; end sends the last ones.
func (a *app) observe(ctx context.Context, cfg *deploy.Config) (end func(), err error) {
	traces, endTraces, err := a.tracing(ctx, cfg.Logger, cfg.Build)
	if err != nil {
		return nil, err
	}
	metrics, endMetrics, err := a.measuring(ctx, cfg.Logger, cfg.Build)
	if err != nil {
		endTraces()
		return nil, err
	}
	cfg.Telemetry, cfg.Metrics = traces, metrics
	return func() { endMetrics(); endTraces() }, nil
}

// startFailure is what a start that failed says. Where the reason says what to do by itself, the parts of this process on the
// way to it are left out.
func startFailure(err error) error {
	var e *schema.Error
	if errors.As(err, &e) && e.Cause != nil {
		return e
	}
	return inFlags(err)
}

// warnOf says what a driver does not enforce here.
func (a *app) warnOf(driver string, notes []string) {
	if len(notes) > 0 {
		driver = cmp.Or(driver, deploy.DefaultDriver())
		a.complain("driver %s: %s; run only code that you trust", driver, strings.Join(notes, "; "))
	}
}

// remark says what else of a host its functions notice.
func (a *app) remark(remarks []string) {
	for _, r := range remarks {
		a.complain("%s", r)
	}
}

// serve tells everybody that the fabric serves and waits for the end of ctx.
func (a *app) serve(ctx context.Context, fabric *deploy.Fabric, cfg deploy.Config, f upFlags, begin time.Time) error {
	n := note{
		HTTP: fabric.HTTPURL, NATS: fabric.NATSURL, Creds: fabric.CredsFile, PID: os.Getpid(), Prefix: cfg.Prefix, Started: begin.UTC(), AllowLocal: cfg.AllowLocal,
	}
	if !f.noNote {
		remove, err := a.leaveNote(n)
		if err != nil {
			a.complain("%v; client commands need --server and --creds", err)
		} else {
			defer remove()
		}
	}
	withdraw, err := readyFile(f.readyFile).write(readyLine{n.HTTP, n.NATS, n.Creds, n.PID, fabric.Metrics, fabric.Console})
	if err != nil {
		return err
	}
	a.println(strings.TrimRight("ready "+n.HTTP+" "+n.NATS, " "))
	if fabric.Metrics != "" {
		a.tellAddress("metrics", fabric.Metrics)
	}
	switch {
	case fabric.Console != "":
		a.tellAddress("console", fabric.Console)
	case !cfg.NoConsole && cfg.Anonymous:
		a.tellAddress("console", n.HTTP+console.Root)
	}
	<-ctx.Done()
	return withdraw()
}

// readyLine is what the ready file holds (CLI, `up`).
type readyLine struct {
	HTTP  string `json:"http"`
	NATS  string `json:"nats"`
	Creds string `json:"creds"`
	PID   int    `json:"pid"`

	Metrics string `json:"metrics,omitempty"` // of listeners of their own
	Console string `json:"console,omitempty"`
}

// keepRunning is the end of `demo --keep`: the fabric serves until it is interrupted, which is no failure.
func (a *app) keepRunning(ctx context.Context, cmd *cobra.Command, fabric *deploy.Fabric) error {
	remove, err := a.leaveNote(note{
		HTTP: fabric.HTTPURL, NATS: fabric.NATSURL, Creds: fabric.CredsFile, PID: os.Getpid(), Started: time.Now().UTC(),
	})
	if err == nil {
		defer remove()
	}
	fmt.Fprintf(a.progressStream(cmd), "It goes on at %s and %s until Ctrl-C; `hearth ls` in another terminal shows the functions.\n",
		fabric.HTTPURL, fabric.NATSURL)
	<-ctx.Done()
	return nil
}

// startTimeout bounds a start: a large store of JetStream is read again in it.
const startTimeout = 2 * time.Minute

func startFabric(ctx context.Context, cfg deploy.Config) (*deploy.Fabric, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("the fabric was not ready within %v", startTimeout))
	defer cancel()
	return deploy.Up(ctx, cfg)
}

// stopInOrder ends a fabric or a role of one, whatever ended before.
func stopInOrder(ctx context.Context, what interface{ Stop(context.Context) error }, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cmp.Or(within, time.Nanosecond),
		fmt.Errorf("calls still ran after %v", within))
	defer cancel()
	if err := what.Stop(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

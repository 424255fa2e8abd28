package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

func (a *app) worker() *cobra.Command {
	var f roleFlags
	var manager, data, driver, metricsAt string
	var capacity int
	var allowLocal []string
	var ephemeral bool
	cmd := &cobra.Command{
		Use:   "worker --manager ID",
		Short: "Run one worker for a manager of another process",
		Long: `Run one worker for the manager with that id: it makes environments and runs calls in them, and the manager, which may be on
another host or run without root, does all the rest. Several workers may serve one manager; its capacity is theirs together, beside
its own unless it runs with --driver none. A manager that is not there yet is waited for.

The worker's id is its name for its manager and its credential: --id gives it, else --data remembers the one that the first start
made of the host's name. --creds names its credential, as ` + "`hearth credential worker ID`" + ` makes one. The first SIGINT or SIGTERM
has the manager make nothing more here and lets running calls end, for at most --drain-timeout; the second ends at once.`,
		Example: `  hearth worker --manager m7 --server nats://10.0.0.5:4222 --creds worker-w1.nk --id w1 --data /var/lib/hearth
  hearth worker --manager m7 --context production --capacity 64
  hearth manager --id m7 --driver none     # that manager, with no environment of its own`,
		GroupID: groupFabric,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := f.logger(a)
			switch {
			case err != nil:
				return err
			case manager == "":
				return usagef("--manager is missing: the id of the manager that this worker serves; `hearth ring` lists them")
			case !deploy.ValidID(manager):
				return usagef("--manager is %q; %s", manager, deploy.AnID)
			case capacity < 0 || capacity > schema.MaxWorkerPlaces:
				return usagef("--capacity is %d; 1 to %d, or 0 for what the memory allows", capacity, schema.MaxWorkerPlaces)
			case driver == deploy.DriverNone:
				return usagef("--driver is none; a worker is there to make environments: native, process or null")
			}
			if err := checkDriver(driver); err != nil {
				return err
			}
			cfg := deploy.WorkerConfig{
				Manager: manager, ID: f.id, DataDir: data, Ephemeral: ephemeral, Server: a.server(cmd), Capacity: capacity, Driver: driver,
				Prefix: cmd.Flag("prefix").Value.String(), Path: os.Getenv("PATH"), Build: thisBuild().String(), Logger: logger,
				AllowLocal: allowLocal, MetricsAt: metricsAt,
				Absent: func() {
					a.complain("there is no manager %q: waiting for it; `hearth ring` lists those that are there", manager)
				},
			}
			traces, end, err := a.tracing(cmd.Context(), cfg.Logger, cfg.Build)
			if err != nil {
				return err
			}
			defer end()
			cfg.Telemetry = traces
			metrics, end, err := a.measuring(cmd.Context(), cfg.Logger, cfg.Build)
			if err != nil {
				return err
			}
			defer end()
			cfg.Metrics = metrics
			return a.runRole(cmd.Context(), f, driver, func(ctx context.Context) (*deploy.Node, error) { return deploy.StartWorker(ctx, cfg) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&manager, "manager", "", "id of the manager that it serves")
	flags.StringVar(&f.id, "id", "", "name that its credential's rights go by (default: that of --data, else one made of the host's name)")
	flags.StringVar(&data, "data", "", "folder for its id and for what runs (default: "+deploy.DefaultWorkerDir+
		", with --id "+deploy.DefaultWorkerDir+"-ID)")
	flags.IntVar(&capacity, "capacity", 0, "environments of 128 MB (default: 3/4 of the free memory)")
	flags.StringVar(&driver, "driver", "", workerDriverHelp)
	flags.StringArrayVar(&allowLocal, "allow-local", nil, allowLocalHelp)
	flags.StringVar(&metricsAt, "metrics", "", metricsHelp)
	f.add(cmd)
	flags.BoolVar(&ephemeral, "ephemeral", false, "leave nothing behind outside the data folder")
	_ = flags.MarkHidden("ephemeral")
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	_ = cmd.RegisterFlagCompletionFunc("manager", a.completeManager)
	return cmd
}

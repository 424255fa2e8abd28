package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
)

func (a *app) manager() *cobra.Command {
	var f roleFlags
	var data, driver, metricsAt string
	var capacity int
	var set, allowLocal []string
	var ephemeral bool
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run one manager with its worker on a NATS server that runs",
		Long: `Run one manager with its worker on an existing NATS server or cluster (2.12 or later, with JetStream). It runs functions; a
` + "`hearth frontend`" + ` or a ` + "`hearth up`" + ` takes their calls. The first manager of a fabric sets it up, each further one joins its ring.

Its id is its name on the ring in every start: --id gives it, else --data remembers the one that the first start made of the
host's name. Every manager has a data folder of its own. The managers' key for variables comes from another manager of the ring.
--creds names its credential, as ` + "`hearth credential manager ID`" + ` makes one. The first SIGINT or SIGTERM takes it off the ring and
lets running calls end, for at most --drain-timeout; the second ends at once.`,
		Example: `  hearth manager --server nats://10.0.0.5:4222 --creds manager-m7.nk --id m7 --data /var/lib/hearth
  hearth manager --context production --capacity 64
  hearth manager --set keep-alive=1m --ready-file ready.json`,
		GroupID: groupFabric,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := f.logger(a)
			if err != nil {
				return err
			}
			values, err := fabricValues(set)
			switch {
			case err != nil:
				return fmt.Errorf("--set: %w", err)
			case capacity < 0:
				return usagef("--capacity is %d; 1 or more, or 0 for what the memory allows", capacity)
			}
			if err := checkDriver(driver); err != nil {
				return err
			}
			cfg := deploy.ManagerConfig{
				ID: f.id, DataDir: data, Ephemeral: ephemeral, Server: a.server(cmd), Capacity: capacity, Driver: driver, Set: values,
				Prefix: cmd.Flag("prefix").Value.String(), Path: os.Getenv("PATH"), Build: thisBuild().String(), Logger: logger,
				AllowLocal: allowLocal, MetricsAt: metricsAt,
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
			return a.runRole(cmd.Context(), f, driver, func(ctx context.Context) (*deploy.Node, error) { return deploy.StartManager(ctx, cfg) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.id, "id", "", "name on the ring (default: that of --data, else one made of the host's name)")
	flags.StringVar(&data, "data", "", "folder for everything that must outlast the process (default: "+deploy.DefaultManagerDir+
		", with --id "+deploy.DefaultManagerDir+"-ID)")
	flags.IntVar(&capacity, "capacity", 0, "environments of 128 MB (default: 3/4 of the free memory)")
	flags.StringVar(&driver, "driver", "", driverHelp)
	flags.StringArrayVar(&set, "set", nil, setHelp)
	flags.StringArrayVar(&allowLocal, "allow-local", nil, allowLocalHelp)
	flags.StringVar(&metricsAt, "metrics", "", metricsHelp)
	f.add(cmd)
	flags.BoolVar(&ephemeral, "ephemeral", false, "leave nothing behind outside the data folder")
	_ = flags.MarkHidden("ephemeral")
	_ = cmd.RegisterFlagCompletionFunc("driver", completeDriver)
	_ = cmd.RegisterFlagCompletionFunc("set", completeFabricKey("="))
	return cmd
}

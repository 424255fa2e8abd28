package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
)

func (a *app) frontend() *cobra.Command {
	var f roleFlags
	var http, metricsAt, consoleAt string
	var noAnonymous, noConsole bool
	cmd := &cobra.Command{
		Use:   "frontend",
		Short: "Run one frontend on a NATS server that runs",
		Long: `Run one frontend on an existing NATS server or cluster (2.12 or later, with JetStream): it takes calls over NATS and HTTP, and
what ` + "`hearth deploy`" + ` and the other client commands ask for. It serves when there is a manager on the ring. Several share the calls;
each may come and go at any time.

Its rights go by its id: --id is the one of --creds, as ` + "`hearth credential frontend ID`" + ` makes one. Without --id it draws another
one for each start. The HTTP listener is for this host alone (` + "`--http none`" + ` leaves it out); callers elsewhere come over NATS. The
first SIGINT or SIGTERM lets calls that it has taken end, for at most --drain-timeout; the second ends at once.`,
		Example: `  hearth frontend --server nats://10.0.0.5:4222 --creds frontend-f1.nk --id f1
  hearth frontend --context production --http 127.0.0.1:8080
  hearth frontend --http none --ready-file ready.json`,
		GroupID: groupFabric,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := f.logger(a)
			if err != nil {
				return err
			}
			cfg := deploy.FrontendConfig{
				ID: f.id, Server: a.server(cmd), HTTP: http, NoConsole: noConsole, Anonymous: !noAnonymous, Prefix: cmd.Flag("prefix").Value.String(),
				Build: thisBuild().String(), Logger: logger, MetricsAt: metricsAt, ConsoleAt: consoleAt,
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
			return a.runRole(cmd.Context(), f, "", func(ctx context.Context) (*deploy.Node, error) { return deploy.StartFrontend(ctx, cfg) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.id, "id", "", "name that its credential's rights go by (default: another one for each start)")
	flags.StringVar(&http, "http", deploy.DefaultHTTP, "loopback address of the HTTP listener; port 0 picks a free one, none leaves it out")
	flags.BoolVar(&noAnonymous, "no-anonymous", false, "no calls over HTTP without a credential, from this host neither; nor /metrics and the console at --http")
	flags.BoolVar(&noConsole, "no-console", false, noConsoleHelp)
	flags.StringVar(&metricsAt, "metrics", "", metricsApartHelp)
	flags.StringVar(&consoleAt, "console", "", consoleApartHelp)
	f.add(cmd)
	return cmd
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
)

// roleFlags are those of every role that is a process of its own.
type roleFlags struct {
	id                  string
	drain               time.Duration
	readyFile           string
	logLevel, logFormat string
}

// add puts the flags after those of the role alone.
func (f *roleFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long running calls may take to end when it stops")
	flags.StringVar(&f.readyFile, "ready-file", "", "file to write its id and URLs to, as JSON, while it serves")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	completeLogFlags(cmd)
}

// logger checks the flags and gives where the role logs.
func (f *roleFlags) logger(a *app) (*slog.Logger, error) {
	switch {
	case f.id != "" && !deploy.ValidID(f.id):
		return nil, usagef("--id is %q; %s", f.id, deploy.AnID)
	case f.drain < 0:
		return nil, usagef("--drain-timeout is %v; 0s or more", f.drain)
	}
	return a.logger(f.logLevel, f.logFormat)
}

// server says how a role reaches its NATS server.
func (a *app) server(cmd *cobra.Command) deploy.Server {
	value := func(name string) string { return cmd.Flag(name).Value.String() }
	s := deploy.Server{URL: value("server"), Creds: value("creds")}
	name := value("context")
	if name == "" {
		return s
	}
	var o client.Options
	if a.settings.against("server", "context") {
		o.URL = s.URL
	}
	if a.settings.against("creds", "context") {
		o.Creds = s.Creds
	}
	at, err := a.contextAt(name)
	if err == nil {
		err = at.into(&o)
	}
	s.URL = cmp.Or(o.URL, s.URL) // named in complaints
	s.Dial = func(options ...nats.Option) (*nats.Conn, error) {
		if err != nil {
			return nil, err
		}
		o := o
		o.NATS = append(slices.Clone(o.NATS), options...)
		c, err := client.Connect(context.Background(), o) // the options bound it
		if err != nil {
			return nil, err
		}
		return c.Conn(), nil
	}
	return s
}

// nodeReady is what the ready file of a role holds.
type nodeReady struct {
	HTTP    string `json:"http,omitempty"`
	NATS    string `json:"nats"`
	PID     int    `json:"pid"`
	ID      string `json:"id"`
	Metrics string `json:"metrics,omitempty"`
	Console string `json:"console,omitempty"`
}

// runRole serves a role until the context ends.
func (a *app) runRole(ctx context.Context, f roleFlags, driver string, start func(context.Context) (*deploy.Node, error)) error {
	within, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("it was not ready within %v; `hearth ring` shows who is there", startTimeout))
	defer cancel()
	if err := readyFile(f.readyFile).clear(); err != nil {
		return err
	}
	defer tune()()
	stop := a.progress("starting")
	node, err := start(within)
	stop()
	if err != nil {
		return startFailure(err)
	}
	a.warnOf(driver, node.Notes)
	a.remark(node.Remarks)
	return errors.Join(a.serveRole(ctx, node, readyFile(f.readyFile)), stopInOrder(ctx, node, f.drain))
}

// serveRole tells that a role serves and waits for the end of ctx.
func (a *app) serveRole(ctx context.Context, node *deploy.Node, ready readyFile) error {
	withdraw, err := ready.write(nodeReady{node.HTTPURL, node.NATSURL, os.Getpid(), node.ID, node.Metrics, node.Console})
	if err != nil {
		return err
	}
	line := "ready " + node.ID
	for _, url := range []string{node.HTTPURL, node.NATSURL, node.Metrics, node.Console} {
		if url != "" {
			line += " " + url
		}
	}
	a.println(line)
	<-ctx.Done()
	return withdraw()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// runtimeNames are the runtimes by their names without a version.
var runtimeNames = []string{"provided", "nodejs", "python"}

// deployFlags are what was asked for.
type deployFlags struct {
	runtime, handler    string
	memory              int
	timeout             time.Duration
	env                 []string
	tenancy             string
	egress, audience    []string
	idempotent, publish bool
	alias               string
	logs                logFlags
	events              eventFlags
}

func (a *app) deploy() *cobra.Command {
	var f deployFlags
	cmd := &cobra.Command{
		Use:   "deploy NAME PATH",
		Short: "Create or update a function from a folder, a zip or an executable",
		Long: `Create a function, or update the one that has the name already, from a folder, a zip or an executable (which becomes
its ` + "`bootstrap`" + `), and wait until it is active. An update changes what is given and leaves the rest as it is.

A folder is zipped the same way every time, so that an unchanged deploy is the same SHA-256 and keeps every warm
environment. Links must stay inside the folder; .git is left out.`,
		Example: `  hearth deploy count examples/nodejs --runtime nodejs
  hearth deploy resize ./bootstrap --runtime provided --memory 256 --timeout 30s
  hearth deploy sums examples/python --runtime python3.13 --env LEVEL=debug --alias live
  hearth deploy sums examples/python --retries 1 --retry-delay 10s --on-failure tell`,
		GroupID: groupFunctions,
		Args:    exactly("NAME", "PATH"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeFunction(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runDeploy(cmd, args[0], args[1], f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.runtime, "runtime", "", "provided, nodejs, python, or Lambda's names of these (nodejs22.x)")
	flags.StringVar(&f.handler, "handler", "index.handler", "FILE.FUNCTION, for nodejs and python")
	flags.IntVar(&f.memory, "memory", schema.DefaultMemoryMB, "memory in MB")
	flags.DurationVar(&f.timeout, "timeout", schema.DefaultTimeout*time.Second, "longest run of one call, in whole seconds")
	flags.StringArrayVar(&f.env, "env", nil, "KEY=VALUE, an environment variable of the function (repeatable; all that it has)")
	flags.StringVar(&f.tenancy, "tenancy", "", "per-tenant: every call names a sub-tenant")
	flags.StringSliceVar(&f.egress, "egress", nil, "public, none, or HOST:PORT and CIDR: what it may reach")
	flags.StringSliceVar(&f.audience, "audience", nil, "audience of the function's tokens")
	flags.BoolVar(&f.idempotent, "idempotent", false, "may run twice: lost calls are sent again")
	flags.BoolVar(&f.publish, "publish", false, "publish a version")
	flags.StringVar(&f.alias, "alias", "", "publish a version and point this alias at it")
	f.logs.register(cmd)
	f.events.register(cmd)
	for _, flag := range []string{"on-failure", "on-success"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
			return a.completeFunction(cmd, nil, part)
		})
	}
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(runtimeNames, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("tenancy", cobra.FixedCompletions([]string{"per-tenant"}, cobra.ShellCompDirectiveNoFileComp))
	jsonFlag(cmd)
	return cmd
}

// deployed is what `deploy --json` prints.
type deployed struct {
	Function   string `json:"function"`
	Version    string `json:"version"`
	CodeSHA256 string `json:"code_sha256"` // of the zip, hex
	CodeSize   int64  `json:"code_size"`
	Files      int    `json:"files"`
	Created    bool   `json:"created"` // it did not exist
	Changed    bool   `json:"changed"` // anything at all
	Alias      string `json:"alias,omitempty"`
	State      string `json:"state"`
}

func (a *app) runDeploy(cmd *cobra.Command, name, path string, f deployFlags) error {
	d := deployment{
		name: name, runtime: f.runtime, handler: f.handler, memoryMB: f.memory, timeout: f.timeout, egress: f.egress,
		audiences: f.audience, idempotent: f.idempotent, publish: f.publish || f.alias != "", alias: f.alias, logs: f.logs, given: a.settings.given,
	}
	if err := d.read(f); err != nil {
		return err
	}
	var err error
	if d.pack, err = pack.Read(path); err != nil {
		return err
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := a.progress(fmt.Sprintf("deploying %s (%d KB)", name, len(d.pack.Zip)>>10))
	out, err := d.apply(cmd.Context(), c.Client)
	stop()
	if err != nil {
		return inFlags(err)
	}
	if asJSON(cmd) {
		return a.printJSON(out)
	}
	what := "unchanged"
	switch {
	case out.Created:
		what = "created"
	case out.Changed:
		what = "updated"
	}
	alias := ""
	if out.Alias != "" {
		alias = ", alias " + out.Alias
	}
	_, err = fmt.Fprintf(a.stdout, "%s %s: version %s%s, %s, sha256 %s\n", out.Function, what, out.Version, alias, out.State, out.CodeSHA256)
	return err
}

// read checks what only this command can see; the rest is checked by package schema, here and by the fabric.
func (d *deployment) read(f deployFlags) error {
	var bad []schema.FieldError
	if err := schema.ValidateFunctionName(d.name); err != nil {
		bad = append(bad, schema.FieldError{Field: "NAME", Got: clip(d.name), Allowed: "1 to 64 of a-z, A-Z, 0-9, - and _"})
	}
	if d.timeout%time.Second != 0 {
		bad = append(bad, schema.FieldError{Field: "--timeout", Got: d.timeout.String(), Allowed: "whole seconds, 1s to 15m"})
	}
	switch f.tenancy {
	case "":
	case "per-tenant":
		d.perTenant = true
	default:
		bad = append(bad, schema.FieldError{Field: "--tenancy", Got: clip(f.tenancy), Allowed: "per-tenant"})
	}
	if f.alias != "" && schema.ValidateAlias(f.alias) != nil {
		bad = append(bad, schema.FieldError{Field: "--alias", Got: clip(f.alias), Allowed: "1 to 128 of a-z, A-Z, 0-9, - and _, not digits alone"})
	}
	d.variables = schema.Variables{}
	for _, pair := range f.env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			// The text may be a secret that was meant as a value: it is not repeated.
			bad = append(bad, schema.FieldError{Field: "--env", Allowed: "KEY=VALUE"})
			continue
		}
		d.variables[name] = value
	}
	events, wrong := f.events.input(d.name, d.given)
	if d.events = events; events != nil {
		bad = append(append(bad, wrong...), events.Validate(subjects.DefaultAccount)...)
	}
	if len(bad) == 0 {
		in := d.create()
		in.Code = &schema.FunctionCode{Sha256: strings.Repeat("0", 64)} // not known yet
		if d.runtime == "" {
			in.Runtime = new(string) // an update may leave it out; apply asks for it otherwise
			*in.Runtime = "provided"
		}
		if l := in.LoggingConfig; l != nil && !d.given("log-format") {
			l.LogFormat = schema.LogFormatJSON // an update may find it so
		}
		bad = in.ValidateCreate()
	}
	for i := range bad {
		if bad[i].Field == "Runtime" {
			bad[i].Allowed += didYouMean(d.runtime, runtimeNames)
		}
	}
	return inFlags(schema.Invalid(bad...))
}

// flagOf is what the members of requests are called here.
var flagOf = map[string]string{
	"FunctionName": "NAME", "Runtime": "--runtime", "Handler": "--handler", "MemorySize": "--memory", "Timeout": "--timeout",
	"Hearth.Egress": "--egress", "Hearth.Audiences": "--audience", "TenancyConfig.TenantIsolationMode": "--tenancy",
	"LoggingConfig.LogFormat": "--log-format", "LoggingConfig.ApplicationLogLevel": "--log-level",
	"LoggingConfig.SystemLogLevel": "--system-log-level", "Environment.Variables": "--env", "Name": "--alias", "Code": "PATH", "Code.Sha256": "PATH",
	// of deploy.Config
	"HTTP": "--http", "NATS": "--nats", "Managers": "--managers", "Manager": "--manager", "Capacity": "--capacity", "Driver": "--driver", "AllowLocal": "--allow-local", "Prefix": "--prefix",
	"Creds": "--creds", "Set": "--set", "Metrics": "--metrics", "Console": "--console",
	// of events
	"MaximumRetryAttempts": "--retries", "MaximumEventAgeInSeconds": "--max-age", "Hearth.RetryDelaySeconds": "--retry-delay",
	"DestinationConfig.OnSuccess.Destination": "--on-success", "DestinationConfig.OnFailure.Destination": "--on-failure",
	"Ids": "ID", schema.HeaderMsgID: "--id",
}

// inFlags renames the fields of a refusal as whoever typed a command knows them.
func inFlags(err error) error {
	var e *schema.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	fields := slices.Clone(e.Fields)
	for i, field := range fields {
		if flag, ok := flagOf[field.Field]; ok {
			fields[i].Field = flag
		} else if name, ok := strings.CutPrefix(field.Field, "Environment.Variables."); ok {
			fields[i].Field = "--env " + name
		}
	}
	return schema.Invalid(fields...)
}

func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "..."
	}
	return s
}

var errNotActive = errors.New("did not become active")

// waitActive waits until a version can be called.
func waitActive(ctx context.Context, c *client.Client, name, version string) (*schema.FunctionConfiguration, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := c.GetFunctionConfiguration(ctx, name, version)
		if err != nil {
			return nil, fmt.Errorf("wait for %s: %w", name, err)
		}
		switch {
		case now.State == "Failed" || now.LastUpdateStatus == "Failed":
			return nil, fmt.Errorf("%s:%s %w", name, version, errNotActive)
		case (now.State == "Active" || now.State == "") && now.LastUpdateStatus != "InProgress":
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

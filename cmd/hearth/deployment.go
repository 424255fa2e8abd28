package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"reflect"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/schema"
)

// deployment is one function as somebody wants it.
type deployment struct {
	name       string
	runtime    string
	handler    string
	memoryMB   int
	timeout    time.Duration
	variables  schema.Variables
	perTenant  bool
	egress     []string
	audiences  []string
	idempotent bool
	publish    bool
	alias      string
	logs       logFlags
	events     *schema.EventConfigInput // what happens to its events; nil leaves that as it is
	pack       *pack.Package
	given      func(flag string) bool // what an update may change
}

// unsaidHandler is for deployments that no flags made: everything is meant as it stands, and a handler only where the
// runtime has one.
func unsaidHandler(flag string) bool { return flag != "handler" }

// apply makes the function so: it stores the code, creates the function or changes what differs, publishes, and waits
// until it can be called. Two at once: the revision that was read before anything else stands in every change, so that one
// wins and the other is told.
func (d *deployment) apply(ctx context.Context, c *client.Client) (*deployed, error) {
	now, err := c.GetFunctionConfiguration(ctx, d.name, "")
	if err != nil && schema.CodeOf(err) != schema.CodeNotFound {
		return nil, fmt.Errorf("deploy %s: %w", d.name, err)
	}
	if _, err := c.PutCode(ctx, d.pack.Zip); err != nil {
		return nil, fmt.Errorf("store the code of %s: %w", d.name, err)
	}
	out := &deployed{Function: d.name, CodeSHA256: d.pack.SHA256, CodeSize: int64(len(d.pack.Zip)), Files: d.pack.Files}
	switch {
	case err == nil:
		now, out.Changed, err = d.update(ctx, c, now)
	default: // there was none
		if d.runtime == "" {
			return nil, schema.Invalid(schema.FieldError{Field: "--runtime", Allowed: "needed for a new function: provided, nodejs or python"})
		}
		out.Created, out.Changed = true, true
		now, err = c.CreateFunction(ctx, *d.create())
	}
	if err != nil {
		return nil, fmt.Errorf("deploy %s: %w", d.name, err)
	}
	if d.publish {
		if now, err = c.PublishVersion(ctx, schema.FunctionInput{FunctionName: d.name, RevisionId: &now.RevisionId}); err != nil {
			return nil, fmt.Errorf("publish %s: %w", d.name, err)
		}
	}
	out.Version = now.Version
	if d.alias != "" {
		if err := d.pointAlias(ctx, c, now.Version); err != nil {
			return nil, fmt.Errorf("point alias %s of %s: %w", d.alias, d.name, err)
		}
		out.Alias = d.alias
	}
	active, err := waitActive(ctx, c, d.name, now.Version)
	if err != nil {
		return nil, err
	}
	out.State = active.State
	if d.events != nil {
		changed, err := d.setEvents(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s is deployed, but what happens to its events is not set: %w", d.name, err)
		}
		out.Changed = out.Changed || changed
	}
	return out, nil
}

// setEvents sets what was given of the events' configuration, and leaves the rest of it as it is.
func (d *deployment) setEvents(ctx context.Context, c *client.Client) (changed bool, err error) {
	was, err := c.EventConfig(ctx, d.name)
	switch {
	case err != nil && schema.CodeOf(err) == schema.CodeNotFound:
		_, err = c.PutEventConfig(ctx, *d.events)
		return true, err
	case err != nil:
		return false, err
	}
	now, err := c.UpdateEventConfig(ctx, *d.events)
	if err != nil {
		return false, err
	}
	return !reflect.DeepEqual(eventsLineOf(was), eventsLineOf(now)), nil
}

// create is the request for a new function.
func (d *deployment) create() *schema.FunctionInput {
	seconds := int(d.timeout / time.Second)
	in := &schema.FunctionInput{
		FunctionName: d.name, Runtime: &d.runtime, Handler: d.handlerOf(d.runtime), MemorySize: &d.memoryMB, Timeout: &seconds,
	}
	if d.pack != nil {
		in.Code = &schema.FunctionCode{Sha256: d.pack.SHA256}
	}
	if len(d.variables) > 0 {
		in.Environment = &schema.Environment{Variables: d.variables}
	}
	if d.perTenant {
		in.TenancyConfig = &schema.TenancyConfig{TenantIsolationMode: schema.PerTenant}
	}
	if logs, changed := d.logs.over(nil, d.given); changed {
		in.LoggingConfig = logs
	}
	if d.idempotent || len(d.egress) > 0 || len(d.audiences) > 0 {
		in.Hearth = &schema.HearthConfig{Idempotent: d.idempotent, Egress: d.egress, Audiences: d.audiences}
	}
	return in
}

// handlerOf is the handler for a runtime; `provided` has none.
func (d *deployment) handlerOf(runtime string) *string {
	if family, _, ok := schema.RuntimeFamily(runtime); ok && family == "provided" && !d.given("handler") || d.handler == "" {
		return nil
	}
	return &d.handler
}

// update changes what differs from the present function: configuration first, so that new code never meets old
// variables, then the code.
func (d *deployment) update(ctx context.Context, c *client.Client, now *schema.FunctionConfiguration) (*schema.FunctionConfiguration, bool, error) {
	if d.given("tenancy") && d.perTenant != (now.TenancyConfig != nil) {
		return nil, false, schema.Invalid(schema.FieldError{
			Field: "--tenancy", Allowed: "as it was when the function was made; remove the function to change it",
		})
	}
	changed := false
	if in := d.differences(now); in != nil {
		next, err := c.UpdateFunctionConfiguration(ctx, *in)
		if err != nil {
			return nil, false, err
		}
		now, changed = next, true
	}
	if sum, err := base64.StdEncoding.DecodeString(now.CodeSha256); err == nil && hex.EncodeToString(sum) == d.pack.SHA256 {
		return now, changed, nil
	}
	next, err := c.UpdateFunctionCode(ctx, schema.FunctionInput{
		FunctionName: d.name, RevisionId: &now.RevisionId, Code: &schema.FunctionCode{Sha256: d.pack.SHA256},
	})
	if err != nil && changed {
		err = fmt.Errorf("the configuration is changed, the code is not: %w", err)
	}
	return next, true, err
}

// differences is the request that changes what was given and is not so yet; nil if there is nothing to change.
// Variables cannot be read back: whether they differ is found out where they are sealed.
func (d *deployment) differences(now *schema.FunctionConfiguration) *schema.FunctionInput {
	in := &schema.FunctionInput{FunctionName: d.name, RevisionId: &now.RevisionId}
	differs := false
	if d.given("runtime") && d.runtime != "" && d.runtime != now.Runtime {
		in.Runtime, differs = &d.runtime, true
	}
	runtime := now.Runtime
	if in.Runtime != nil {
		runtime = d.runtime
	}
	if h := d.handlerOf(runtime); h != nil && *h != now.Handler && (d.given("handler") || now.Handler == "") {
		in.Handler, differs = h, true
	}
	if d.given("memory") && d.memoryMB != now.MemorySize {
		in.MemorySize, differs = &d.memoryMB, true
	}
	if seconds := int(d.timeout / time.Second); d.given("timeout") && seconds != now.Timeout {
		in.Timeout, differs = &seconds, true
	}
	if d.given("env") {
		in.Environment, differs = &schema.Environment{Variables: d.variables}, true
	}
	if logs, changed := d.logs.over(now.LoggingConfig, d.given); changed {
		in.LoggingConfig, differs = logs, true
	}
	if own, changed := d.ownMembers(now.Hearth); changed {
		in.Hearth, differs = own, true
	}
	if !differs {
		return nil
	}
	return in
}

// ownMembers are Hearth's own members with what was given; they are sent together or not at all.
func (d *deployment) ownMembers(now *schema.HearthConfig) (own *schema.HearthConfig, changed bool) {
	if now == nil {
		now = &schema.HearthConfig{}
	}
	next := *now
	if d.given("idempotent") {
		next.Idempotent = d.idempotent
	}
	if d.given("egress") {
		next.Egress = d.egress
	}
	if d.given("audience") {
		next.Audiences = d.audiences
	}
	same := next.Idempotent == now.Idempotent && fmt.Sprint(next.Egress) == fmt.Sprint(now.Egress) &&
		fmt.Sprint(next.Audiences) == fmt.Sprint(now.Audiences)
	return &next, !same
}

// pointAlias makes the alias or moves it, whole: a share of calls that it gave to another version ends.
func (d *deployment) pointAlias(ctx context.Context, c *client.Client, version string) error {
	in := schema.AliasInput{FunctionName: d.name, Name: d.alias, FunctionVersion: &version}
	_, err := c.GetAlias(ctx, d.name, d.alias)
	switch {
	case err == nil:
		in.RoutingConfig = &schema.RoutingConfig{AdditionalVersionWeights: map[string]float64{}}
		_, err = c.UpdateAlias(ctx, in)
	case schema.CodeOf(err) == schema.CodeNotFound:
		_, err = c.CreateAlias(ctx, in)
	}
	return err
}

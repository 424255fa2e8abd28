package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// controlPatience bounds a request to the control service: longer than that itself takes for anything.
const controlPatience = 65 * time.Second

// Do runs an operation of the control service for the client's account: in is marshalled as its JSON request, its
// answer unmarshalled into out unless that is nil. The named methods below are this with types. Errors are
// [*schema.Error].
func (c *Client) Do(ctx context.Context, operation string, in, out any) error {
	return c.do(ctx, c.account, operation, in, out)
}

func (c *Client) do(ctx context.Context, account, operation string, in, out any) error {
	return c.doWithin(ctx, account, operation, in, out, controlPatience)
}

func (c *Client) doWithin(ctx context.Context, account, operation string, in, out any, patience time.Duration) error {
	request, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: write the request: %w", operation, err)
	}
	reply, err := c.request(ctx, &nats.Msg{Subject: c.names.API(account, operation), Data: request}, patience)
	if err != nil {
		return c.failure(ctx, err, operation, patience)
	}
	if err := refusal(reply); err != nil {
		return err
	}
	if out == nil || len(reply.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(reply.Data, out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", operation, err)
	}
	return nil
}

func typed[Out any](ctx context.Context, c *Client, account, operation string, in any) (*Out, error) {
	out := new(Out)
	if err := c.do(ctx, account, operation, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// CreateFunction makes a function of code that [Client.PutCode] has put into the store. [schema.CodeConflict]: one of
// this name is there.
func (c *Client) CreateFunction(ctx context.Context, in schema.FunctionInput) (*schema.FunctionConfiguration, error) {
	return typed[schema.FunctionConfiguration](ctx, c, c.account, "CreateFunction", in)
}

// UpdateFunctionCode has $LATEST run other code. Of two at once one wins and the other is a [schema.CodeConflict] that
// names the winner; with RevisionId set, a [schema.CodePrecondition].
func (c *Client) UpdateFunctionCode(ctx context.Context, in schema.FunctionInput) (*schema.FunctionConfiguration, error) {
	return typed[schema.FunctionConfiguration](ctx, c, c.account, "UpdateFunctionCode", in)
}

// UpdateFunctionConfiguration changes the members of $LATEST that in has.
func (c *Client) UpdateFunctionConfiguration(ctx context.Context, in schema.FunctionInput) (*schema.FunctionConfiguration, error) {
	return typed[schema.FunctionConfiguration](ctx, c, c.account, "UpdateFunctionConfiguration", in)
}

// GetFunction reads a version of a function; an empty qualifier means $LATEST. [schema.CodeNotFound]: there is none.
func (c *Client) GetFunction(ctx context.Context, name, qualifier string) (*schema.GetFunctionOutput, error) {
	return typed[schema.GetFunctionOutput](ctx, c, c.account, "GetFunction", schema.ListInput{FunctionName: name, Qualifier: qualifier})
}

// GetFunctionConfiguration reads the configuration of a version alone.
func (c *Client) GetFunctionConfiguration(ctx context.Context, name, qualifier string) (*schema.FunctionConfiguration, error) {
	return typed[schema.FunctionConfiguration](ctx, c, c.account, "GetFunctionConfiguration", schema.ListInput{FunctionName: name, Qualifier: qualifier})
}

// DeleteFunction deletes a function, or one published version of it. Calls that run end as they would have.
func (c *Client) DeleteFunction(ctx context.Context, name, qualifier string) error {
	return c.do(ctx, c.account, "DeleteFunction", schema.ListInput{FunctionName: name, Qualifier: qualifier}, nil)
}

// PublishVersion makes an immutable version of $LATEST; unchanged since the last one, it is that one again.
func (c *Client) PublishVersion(ctx context.Context, in schema.FunctionInput) (*schema.FunctionConfiguration, error) {
	return typed[schema.FunctionConfiguration](ctx, c, c.account, "PublishVersion", in)
}

// ListFunctions are the functions of the account by name, fetched a page at a time. An error ends the sequence.
func (c *Client) ListFunctions(ctx context.Context) iter.Seq2[schema.FunctionConfiguration, error] {
	return pages(func(marker string) ([]schema.FunctionConfiguration, string, error) {
		out, err := typed[schema.ListFunctionsOutput](ctx, c, c.account, "ListFunctions", schema.ListInput{Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Functions, out.NextMarker, nil
	})
}

// ListVersions are the versions of a function: $LATEST, then the published ones by number.
func (c *Client) ListVersions(ctx context.Context, name string) iter.Seq2[schema.FunctionConfiguration, error] {
	return pages(func(marker string) ([]schema.FunctionConfiguration, string, error) {
		out, err := typed[schema.ListVersionsOutput](ctx, c, c.account, "ListVersionsByFunction",
			schema.ListInput{FunctionName: name, Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Versions, out.NextMarker, nil
	})
}

// CreateAlias names a version, or two by weight.
func (c *Client) CreateAlias(ctx context.Context, in schema.AliasInput) (*schema.AliasConfiguration, error) {
	return typed[schema.AliasConfiguration](ctx, c, c.account, "CreateAlias", in)
}

// UpdateAlias changes the members of an alias that in has.
func (c *Client) UpdateAlias(ctx context.Context, in schema.AliasInput) (*schema.AliasConfiguration, error) {
	return typed[schema.AliasConfiguration](ctx, c, c.account, "UpdateAlias", in)
}

// GetAlias reads an alias.
func (c *Client) GetAlias(ctx context.Context, function, alias string) (*schema.AliasConfiguration, error) {
	return typed[schema.AliasConfiguration](ctx, c, c.account, "GetAlias", schema.AliasInput{FunctionName: function, Name: alias})
}

// DeleteAlias removes an alias; one that is not there counts as removed.
func (c *Client) DeleteAlias(ctx context.Context, function, alias string) error {
	return c.do(ctx, c.account, "DeleteAlias", schema.AliasInput{FunctionName: function, Name: alias}, nil)
}

// ListAliases are the aliases of a function by name.
func (c *Client) ListAliases(ctx context.Context, name string) iter.Seq2[schema.AliasConfiguration, error] {
	return pages(func(marker string) ([]schema.AliasConfiguration, string, error) {
		out, err := typed[schema.ListAliasesOutput](ctx, c, c.account, "ListAliases", schema.ListInput{FunctionName: name, Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Aliases, out.NextMarker, nil
	})
}

// Concurrency is how many environments a function may have, Lambda's reserved concurrency; empty without a limit of its own.
func (c *Client) Concurrency(ctx context.Context, function string) (*schema.ConcurrencyOutput, error) {
	return typed[schema.ConcurrencyOutput](ctx, c, c.account, "GetFunctionConcurrency", schema.ConcurrencyInput{FunctionName: function})
}

// SetConcurrency limits how many environments a function may have over all its versions; 0 stops it.
func (c *Client) SetConcurrency(ctx context.Context, function string, n int) (*schema.ConcurrencyOutput, error) {
	return typed[schema.ConcurrencyOutput](ctx, c, c.account, "PutFunctionConcurrency",
		schema.ConcurrencyInput{FunctionName: function, ReservedConcurrentExecutions: &n})
}

// DeleteConcurrency takes a function's limit away.
func (c *Client) DeleteConcurrency(ctx context.Context, function string) error {
	return c.do(ctx, c.account, "DeleteFunctionConcurrency", schema.ConcurrencyInput{FunctionName: function}, nil)
}

// TenantConcurrency is how many environments and calls in flight each sub-tenant of a function may have; empty without such a limit.
func (c *Client) TenantConcurrency(ctx context.Context, function string) (*schema.TenantConcurrencyOutput, error) {
	return typed[schema.TenantConcurrencyOutput](ctx, c, c.account, "GetTenantConcurrency", schema.TenantConcurrencyInput{FunctionName: function})
}

// SetTenantConcurrency limits how many environments (on a manager) and calls in flight (at a frontend) each sub-tenant of a function may
// have, at least 1. [schema.CodeInvalidParameter]: the function has no sub-tenants.
func (c *Client) SetTenantConcurrency(ctx context.Context, function string, n int) (*schema.TenantConcurrencyOutput, error) {
	return typed[schema.TenantConcurrencyOutput](ctx, c, c.account, "PutTenantConcurrency",
		schema.TenantConcurrencyInput{FunctionName: function, TenantConcurrency: &n})
}

// DeleteTenantConcurrency takes that limit away.
func (c *Client) DeleteTenantConcurrency(ctx context.Context, function string) error {
	return c.do(ctx, c.account, "DeleteTenantConcurrency", schema.TenantConcurrencyInput{FunctionName: function}, nil)
}

// Reserve keeps n environments of a published version, named by its number or by an alias, initialised ahead of calls. It answers
// at once; [Client.Reservations] tells when they are there. [schema.CodeConflict]: somebody else changed it meanwhile;
// [schema.CodeInvalidParameter]: more than is free, or no published version.
func (c *Client) Reserve(ctx context.Context, function, qualifier string, n int) (*schema.ProvisionedOutput, error) {
	return typed[schema.ProvisionedOutput](ctx, c, c.account, "PutProvisionedConcurrencyConfig", schema.ProvisionedInput{
		FunctionName: function, Qualifier: qualifier, ProvisionedConcurrentExecutions: &n,
	})
}

// Unreserve ends a reservation: its environments go as they become idle. [schema.CodeNoProvisioned]: there is none.
func (c *Client) Unreserve(ctx context.Context, function, qualifier string) error {
	return c.do(ctx, c.account, "DeleteProvisionedConcurrencyConfig", schema.ProvisionedInput{FunctionName: function, Qualifier: qualifier}, nil)
}

// Reservations are those of the account, or of one function, by function and version; those that are being emptied too.
func (c *Client) Reservations(ctx context.Context, function string) ([]schema.ReservationOutput, error) {
	out, err := typed[schema.ListReservationsOutput](ctx, c, c.account, "ListReservations", schema.ListReservationsInput{FunctionName: function})
	if err != nil {
		return nil, err
	}
	return out.Reservations, nil
}

// Ring is the managers and arcs of the fabric; with a function's name its arcs alone.
func (c *Client) Ring(ctx context.Context, function string) (*schema.RingOutput, error) {
	in := schema.RingInput{FunctionName: function}
	if function != "" {
		in.Account = c.account
	}
	return typed[schema.RingOutput](ctx, c, subjects.FabricAccount, "GetRing", in)
}

// Drain takes a manager off the ring in order, lets it back, or looks where it stands. It answers at once: ask with Look until
// it stands where it should. [schema.CodeNotFound]: no such manager is there.
func (c *Client) Drain(ctx context.Context, in schema.DrainInput) (*schema.DrainOutput, error) {
	return typed[schema.DrainOutput](ctx, c, subjects.FabricAccount, "DrainManager", in)
}

// Fabric is the numbers that all nodes share, by the names of `hearth fabric`.
func (c *Client) Fabric(ctx context.Context) (*schema.FabricOutput, error) {
	return typed[schema.FabricOutput](ctx, c, subjects.FabricAccount, "GetFabric", struct{}{})
}

// TokenKeys are the issuer of the fabric's tokens of sub-tenants, and the keys by which they are checked.
func (c *Client) TokenKeys(ctx context.Context) (*schema.TokenKeysOutput, error) {
	return typed[schema.TokenKeysOutput](ctx, c, subjects.FabricAccount, "GetTokenKeys", struct{}{})
}

// SetFabric changes some of them, all or none, and returns what they are then.
func (c *Client) SetFabric(ctx context.Context, values map[string]string) (*schema.FabricOutput, error) {
	return typed[schema.FabricOutput](ctx, c, subjects.FabricAccount, "PutFabric", schema.FabricInput{Values: values})
}

// pages yields the items of a list that comes in pages, fetching the next when its first item is wanted.
func pages[T any](fetch func(marker string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for marker := ""; ; {
			items, next, err := fetch(marker)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if marker = next; marker == "" {
				return
			}
		}
	}
}

// LogLevel changes from which level on nodes log while they run, for a while or until they end, or tells how it stands where no level is
// named. Nodes of one process log together. [schema.CodeNotFound]: no such node is there.
func (c *Client) LogLevel(ctx context.Context, in schema.LevelInput) (*schema.LevelOutput, error) {
	return typed[schema.LevelOutput](ctx, c, subjects.FabricAccount, "SetLogLevel", in)
}

// Trace is the story of one call: every decision on its way, as the nodes that had it in hands remember it.
// [schema.CodeNotFound]: none of them knows the id (any more); each remembers its last [schema.StoriesKept] calls. Where a caller used
// the id for several calls it is that of the last one; [Client.TraceOf] tells of another.
func (c *Client) Trace(ctx context.Context, requestID string) (*schema.Story, error) {
	return c.TraceOf(ctx, schema.StoryInput{RequestID: requestID})
}

// TraceOf is [Client.Trace] of the call of one function, or of one sub-tenant.
func (c *Client) TraceOf(ctx context.Context, in schema.StoryInput) (*schema.Story, error) {
	return typed[schema.Story](ctx, c, c.account, "GetTrace", in)
}

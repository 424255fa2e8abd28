package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Bounds of a request in bytes: MaxRequest over NATS, where code lies in the object store, and MaxCodeRequest for doors
// that bring the zip along (Lambda B6).
const (
	MaxRequest     = 1 << 20
	MaxCodeRequest = 70_167_211
)

// Deadlines of operations that the configuration leaves open.
const (
	usualDeadline = 10 * time.Second
	codeDeadline  = time.Minute
)

// operation is one row of the table that every door reads.
type operation struct {
	name     string
	ofFabric bool // under account `_`, else under an account
	code     bool // may bring a package: larger requests, a longer deadline
	do       func(s *Service, ctx context.Context, account string, request []byte) (any, error)
}

// operations are all that there are, in the order in which INFO lists them.
func operations() []operation {
	return []operation{
		{name: "CreateFunction", code: true, do: (*Service).createFunction},
		{name: "UpdateFunctionCode", code: true, do: (*Service).updateFunctionCode},
		{name: "UpdateFunctionConfiguration", do: (*Service).updateFunctionConfiguration},
		{name: "GetFunction", do: (*Service).getFunction},
		{name: "GetFunctionConfiguration", do: (*Service).getFunctionConfiguration},
		{name: "ListFunctions", do: (*Service).listFunctions},
		{name: "DeleteFunction", do: (*Service).deleteFunction},
		{name: "PublishVersion", do: (*Service).publishVersion},
		{name: "ListVersionsByFunction", do: (*Service).listVersions},
		{name: "CreateAlias", do: (*Service).createAlias},
		{name: "UpdateAlias", do: (*Service).updateAlias},
		{name: "GetAlias", do: (*Service).getAlias},
		{name: "DeleteAlias", do: (*Service).deleteAlias},
		{name: "ListAliases", do: (*Service).listAliases},
		{name: "PutProvisionedConcurrencyConfig", do: (*Service).putProvisioned},
		{name: "GetProvisionedConcurrencyConfig", do: (*Service).getProvisioned},
		{name: "ListProvisionedConcurrencyConfigs", do: (*Service).listProvisioned},
		{name: "DeleteProvisionedConcurrencyConfig", do: (*Service).deleteProvisioned},
		{name: "PutFunctionConcurrency", do: (*Service).putConcurrency},
		{name: "GetFunctionConcurrency", do: (*Service).getConcurrency},
		{name: "DeleteFunctionConcurrency", do: (*Service).deleteConcurrency},
		{name: "PutTenantConcurrency", do: (*Service).putTenantConcurrency},
		{name: "GetTenantConcurrency", do: (*Service).getTenantConcurrency},
		{name: "DeleteTenantConcurrency", do: (*Service).deleteTenantConcurrency},
		{name: "ListReservations", do: (*Service).listReservations},
		{name: "GetLogs", do: (*Service).getLogs},
		{name: "GetTrace", do: (*Service).getTrace},
		{name: "GetUsage", do: (*Service).getUsage},
		{name: "PutFunctionEventInvokeConfig", do: (*Service).putEventConfig},
		{name: "UpdateFunctionEventInvokeConfig", do: (*Service).updateEventConfig},
		{name: "GetFunctionEventInvokeConfig", do: (*Service).getEventConfig},
		{name: "DeleteFunctionEventInvokeConfig", do: (*Service).deleteEventConfig},
		{name: "ListFunctionEventInvokeConfigs", do: (*Service).listEventConfigs},
		{name: "ListEvents", do: (*Service).listEvents},
		{name: "ListDeadLetters", do: (*Service).listDeadLetters},
		{name: "RedriveDeadLetters", do: (*Service).redriveDeadLetters},
		{name: "DeleteDeadLetters", do: (*Service).deleteDeadLetters},
		{name: "GetRing", ofFabric: true, do: (*Service).getRing},
		{name: "GetFabric", ofFabric: true, do: (*Service).getFabric},
		{name: "GetTokenKeys", ofFabric: true, do: (*Service).getTokenKeys},
		{name: "PutFabric", ofFabric: true, do: (*Service).putFabric},
		{name: "DrainManager", ofFabric: true, do: (*Service).drainManager},
		{name: "SetLogLevel", ofFabric: true, do: (*Service).setLogLevel},
	}
}

// Do runs one operation for an account, [subjects.FabricAccount] for those on the fabric itself: the one entry of every
// door. The request is its JSON object, the answer its JSON body, empty where the operation answers nothing. Every
// error is a [*schema.Error], ready for [schema.ErrorHeaders] and [schema.APIErrorOf]. Ending ctx gives up waiting; a
// change that was on its way may stand. DESIGN 9.
func (s *Service) Do(ctx context.Context, account, name string, request []byte) ([]byte, error) {
	answer, rest, err := s.do(ctx, account, name, request)
	if rest != nil {
		return rest(ctx)
	}
	return answer, err
}

// later is what an operation gives that has nothing to answer yet and may wait: it must be called, once, and answers what
// has come when it has, when its own time is over, when ctx ends or when the service stops. Such waits are no worker's.
type later func(ctx context.Context) (any, error)

// do is [Service.Do] up to where it would wait for something to come; the rest of it is then for the caller to call, once.
func (s *Service) do(ctx context.Context, account, name string, request []byte) (
	answer []byte, rest func(context.Context) ([]byte, error), err error,
) {
	op, err := s.find(account, name)
	if err != nil {
		return nil, nil, err
	}
	if limit := op.limit(); len(request) > limit {
		return nil, nil, schema.Errorf(schema.CodeInvalidRequest, "%s: a request of %d bytes; at most %d", name, len(request), limit)
	}
	if !s.ready.Load() {
		return nil, nil, schema.Errorf(schema.CodeUnavailable, "%s: this frontend is starting or stopping", name)
	}
	deadline := s.cfg.Deadline
	if deadline == 0 {
		deadline = usualDeadline
		if op.code {
			deadline = codeDeadline
		}
	}
	within, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	value, err := op.do(s, within, account, request)
	if wait, ok := value.(later); ok && err == nil {
		return nil, func(ctx context.Context) ([]byte, error) {
			value, err := wait(ctx)
			return s.written(op, account, value, err)
		}, nil
	}
	answer, err = s.written(op, account, value, err)
	return answer, nil, err
}

// written is the JSON of what an operation gave.
func (s *Service) written(op *operation, account string, value any, err error) ([]byte, error) {
	if err != nil {
		return nil, s.refusal(op.name, account, err)
	}
	if value == nil {
		return nil, nil
	}
	answer, err := jsonOf(value)
	if err != nil {
		return nil, s.refusal(op.name, account, fmt.Errorf("write the answer: %w", err))
	}
	return answer, nil
}

// jsonOf is a value as JSON without escapes for HTML, which no page reads: what a caller handed in comes out as it was.
func jsonOf(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func (op *operation) limit() int {
	if op.code {
		return MaxCodeRequest
	}
	return MaxRequest
}

// find is the operation of that name, if the account has it.
func (s *Service) find(account, name string) (*operation, error) {
	ops := operations()
	i := slices.IndexFunc(ops, func(op operation) bool { return op.name == name })
	switch {
	case i < 0:
		return nil, s.unknown(name)
	case ops[i].ofFabric && account != subjects.FabricAccount:
		return nil, schema.Errorf(schema.CodeUnknownOperation, "%s is an operation of the fabric: ask it of account %q, not of %q",
			name, subjects.FabricAccount, clip(account))
	case ops[i].ofFabric:
	case account == subjects.FabricAccount:
		return nil, schema.Errorf(schema.CodeUnknownOperation, "%s is an operation of an account: ask it of %q, not of the fabric",
			name, subjects.DefaultAccount)
	case account != subjects.DefaultAccount:
		return nil, schema.Errorf(schema.CodeNotFound, "no account %q: %q is the only one", clip(account), subjects.DefaultAccount)
	}
	return &ops[i], nil
}

// unknown refuses what is no control operation. Those of Lambda that are not served are refused as over HTTP, so that who wrote the
// name right is not sent to look for a slip of the pen.
func (s *Service) unknown(name string) error {
	if prefix := s.cfg.Names.Prefix(); name == "Invoke" || name == "InvokeAsync" {
		return schema.Errorf(schema.CodeInvalidParameter, "%s is no control operation: over NATS calls go to %s.invoke.<account>.<function>, "+
			"events to %s.event.<account>.<function>", name, prefix, prefix)
	}
	if err := lambdaapi.NotServed(name); err != nil {
		return err
	}
	var all []string
	for _, op := range operations() {
		all = append(all, op.name)
	}
	return schema.Errorf(schema.CodeUnknownOperation, "no operation %q; there are %s", clip(name), strings.Join(all, ", "))
}

// refusal is what callers hear of err. What says nothing to them is logged here and goes no further.
func (s *Service) refusal(operation, account string, err error) *schema.Error {
	var known *schema.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return &schema.Error{Code: schema.CodeUnavailable, Message: operation + ": the caller gave up", Cause: err}
	case unreachable(err):
		s.log.Warn("store unreachable", "operation", operation, "account", account, "error", err)
		return &schema.Error{
			Code: schema.CodeUnavailable, Cause: err,
			Message: operation + ": the store did not answer in time; a change may stand, so look before you repeat it",
		}
	}
	s.log.Error("operation failed", "operation", operation, "account", account, "error", err)
	return &schema.Error{Code: schema.CodeInternal, Message: operation + ": failed inside", Cause: err}
}

// unreachable reports whether err says that NATS or JetStream is not there now.
func unreachable(err error) bool {
	return slices.ContainsFunc([]error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrConnectionDraining, jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound,
		jetstream.ErrBucketNotFound, jetstream.ErrJetStreamNotEnabled,
	}, func(target error) bool { return errors.Is(err, target) })
}

// clip shortens what a caller sent to what an error may repeat of it.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "?") + "..."
}

package frontend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/frontend/callers"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// errMissed says that the frontend's copy has no such function or qualifier; KV may.
var errMissed = errors.New("not known here")

// errKeys says that the keys of the tenant policy are needed first; to those who look names up it is the same as a miss.
var errKeys = fmt.Errorf("%w: the keys of the tenant policy", errMissed)

// admit checks a request and finds the version that it calls. What it refuses is refused with its code and nothing is
// published; errMissed asks for a read of KV before that is said. DESIGN 3, step 1.
func (f *Frontend) admit(r *schema.Request) (*version, error) {
	if r.Account != subjects.DefaultAccount {
		return nil, schema.Errorf(schema.CodeNotFound, "account %q is not known; the account is %q", short(r.Account), subjects.DefaultAccount)
	}
	if err := schema.ValidateFunctionName(r.Function); err != nil {
		return nil, err
	}
	if r.Qualifier != "" {
		if err := schema.ValidateQualifier(r.Qualifier); err != nil {
			return nil, err
		}
	}
	if len(r.Payload) > schema.MaxPayload {
		return nil, schema.Errorf(schema.CodeTooLarge, "the payload has %d bytes; a sync call takes %d", len(r.Payload), schema.MaxPayload)
	}
	if err := admitBudget(r); err != nil {
		return nil, err
	}
	fn := f.functions.get(target{r.Account, r.Function})
	if fn == nil {
		return nil, errMissed
	}
	v, ok := fn.resolve(r.Qualifier)
	if !ok {
		return nil, errMissed
	}
	return v, f.admitTenant(r, v)
}

// admitBudget checks what a caller says of its own side.
func admitBudget(r *schema.Request) error {
	if r.Timeout < 0 || r.Timeout > schema.MaxTimeout {
		return schema.Invalid(schema.FieldError{
			Field: schema.HeaderTimeout, Got: r.Timeout.String(), Allowed: "a Go duration above 0, at most " + schema.MaxTimeout.String(),
		})
	}
	if len(r.ClientContext) == 0 {
		return nil
	}
	if len(r.ClientContext) > schema.MaxClientContext {
		return schema.Invalid(schema.FieldError{
			Field: "ClientContext", Got: strconv.Itoa(len(r.ClientContext)) + " bytes",
			Allowed: "at most " + strconv.Itoa(schema.MaxClientContext) + " bytes",
		})
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(r.ClientContext, &object); err != nil || object == nil {
		return schema.Invalid(schema.FieldError{Field: "ClientContext", Allowed: "a JSON object"})
	}
	return nil
}

// admitTenant checks that a sub-tenant is named where the function's mode asks for one, and nowhere else, and that
// this caller may name it (SECURITY 5, S65).
func (f *Frontend) admitTenant(r *schema.Request, v *version) error {
	if !v.function.PerTenant {
		if r.Tenant != "" {
			return schema.Invalid(schema.FieldError{
				Field: "TenantId", Got: short(r.Tenant), Allowed: "none: function " + r.Function + " has no sub-tenants",
			})
		}
		return nil
	}
	if r.Tenant == "" {
		return schema.Invalid(schema.FieldError{
			Field: "TenantId", Allowed: "required: function " + r.Function + " has sub-tenants (PER_TENANT)",
		})
	}
	if err := schema.ValidateTenant(r.Tenant); err != nil {
		return err
	}
	// "any" trusts its callers. Every other policy wants the name proven, and the subject, which permissions restrict, is
	// a proof that this frontend can see.
	policy := f.view.fabric.Load().TenantPolicy
	switch {
	case policy == "any" || r.TenantBySubject:
	case policy == "jwt":
		return f.proven(r)
	default:
		return schema.Invalid(schema.FieldError{
			Field: "TenantId", Got: short(r.Tenant),
			Allowed: "the subject must name it: the tenant policy is " + strconv.Quote(policy),
		})
	}
	return nil
}

// proven holds the caller's token against the policy "jwt". What it proves the subject may say from then on, as that of a caller whom
// permissions let name this sub-tenant: an event keeps no token.
func (f *Frontend) proven(r *schema.Request) error {
	err := f.callers.Names(f.tokenPolicy(), r.Token, r.Tenant)
	if errors.Is(err, callers.ErrKeys) {
		return errKeys
	}
	r.TenantBySubject = err == nil
	return err
}

func (f *Frontend) tokenPolicy() callers.Policy {
	fabric := f.view.fabric.Load()
	return callers.Policy{
		JWKS: fabric.TenantJWKS, Audience: cmp.Or(fabric.Issuer, f.names.Prefix()), Claim: cmp.Or(fabric.TenantClaim, schema.DefaultTenantClaim),
	}
}

// find admits a request, asking KV for a name that is missed, and says what is unknown if KV does not have it either.
func (f *Frontend) find(ctx context.Context, r *schema.Request) (*version, error) {
	v, err := f.admitted(ctx, r)
	if !errors.Is(err, errMissed) {
		return v, err
	}
	again, err := f.functions.read(ctx, target{r.Account, r.Function})
	if err != nil {
		return nil, err
	}
	if again {
		if v, err = f.admitted(ctx, r); !errors.Is(err, errMissed) {
			return v, err
		}
	}
	return nil, f.unknown(r)
}

// admitted admits a request, fetching the keys of the tenant policy where they are needed.
func (f *Frontend) admitted(ctx context.Context, r *schema.Request) (*version, error) {
	v, err := f.admit(r)
	if !errors.Is(err, errKeys) {
		return v, err
	}
	if err := f.callers.Fetch(ctx, f.tokenPolicy().JWKS); err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: "the keys of the tenant policy did not come in time"}
	}
	if v, err = f.admit(r); errors.Is(err, errKeys) { // named elsewhere since, or the clock jumped
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "the keys of the tenant policy are not here yet"}
	}
	return v, err
}

// unknown names what was not found, in Lambda's words (B2).
func (f *Frontend) unknown(r *schema.Request) error {
	arn := schema.ARN(r.Account, r.Function, r.Qualifier)
	if r.Qualifier == "" || f.functions.get(target{r.Account, r.Function}) == nil {
		return schema.Errorf(schema.CodeNotFound, "Function not found: %s", arn)
	}
	if _, err := strconv.ParseUint(r.Qualifier, 10, 64); err == nil {
		return schema.Errorf(schema.CodeNotFound, "Function not found: %s (the function is there, this version is not)", arn)
	}
	return schema.Errorf(schema.CodeNotFound, "Cannot find alias arn: %s", arn)
}

// Invoke runs one call for a door in this process and waits for its answer. Errors are [schema.Error]s of calls that
// did not start; a function's own failure, its time-out and a lost execution are answers, told by
// [schema.HeaderFunctionError]. A refusal comes with an answer that holds the request id alone. When ctx ends first, its
// cause comes back, the call goes on, and the answer is dropped.
func (f *Frontend) Invoke(ctx context.Context, r *schema.Request) (*schema.Answer, error) {
	begun := time.Now()
	f.counters.calls.Add(1)
	v, err := f.find(ctx, r)
	if err != nil {
		id := f.identify(r)
		f.refused(r, err, true)
		return &schema.Answer{RequestID: id}, err
	}
	waiter := make(chan ended, 1)
	c, err := f.begin(r, v, "", func(e ended) { waiter <- e }, nil)
	if err != nil {
		f.countRefusal(r, err)
		return &schema.Answer{RequestID: f.identify(r)}, err
	}
	f.metrics.admission.Took(time.Since(begun))
	select {
	case e := <-waiter:
		return answerOf(c.requestID, e)
	case <-ctx.Done():
		f.pending.abandon(c.token)
		f.counters.gone.Add(1)
		return nil, fmt.Errorf("wait for request %s, which goes on: %w", c.requestID, context.Cause(ctx))
	case <-f.done:
	}
	// The frontend ends. What is here by now still counts.
	select {
	case e := <-waiter:
		return answerOf(c.requestID, e)
	default:
		if f.pending.take(c.token, false) != nil { // nobody changes it after that
			c.fail(schema.CodeExecutionLost, "the frontend ended while it waited")
		}
		return &schema.Answer{
			RequestID: c.requestID, Header: lostHeader(c), Payload: lostBody(c.requestID, "the frontend ended while it waited"),
		}, nil
	}
}

func answerOf(requestID string, e ended) (*schema.Answer, error) {
	if e.err != nil {
		return &schema.Answer{RequestID: requestID}, e.err
	}
	h := e.answer.Header
	if text := h.Get(schema.HeaderError); text != "" {
		return &schema.Answer{RequestID: requestID}, schema.ParseErrorHeaders(h.Get(schema.HeaderErrorCode), text)
	}
	return &schema.Answer{RequestID: requestID, Header: h, Payload: e.answer.Data}, nil
}

// parseTimeout reads the header of that name.
func parseTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > schema.MaxTimeout {
		return 0, schema.Invalid(schema.FieldError{
			Field: schema.HeaderTimeout, Got: short(s), Allowed: "a Go duration above 0, at most " + schema.MaxTimeout.String(),
		})
	}
	return d, nil
}

// short is what an error repeats of a name that a stranger chose.
func short(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

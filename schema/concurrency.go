package schema

import "fmt"

// MaxConcurrency is the largest limit of a function.
const MaxConcurrency = 1_000_000

// ConcurrencyInput is the request of the operations on a function's limit, Lambda's reserved concurrency.
type ConcurrencyInput struct {
	FunctionName                 string `json:"FunctionName,omitempty"`
	ReservedConcurrentExecutions *int   `json:"ReservedConcurrentExecutions,omitempty"`
}

// ConcurrencyOutput is their answer; empty without a limit.
type ConcurrencyOutput struct {
	ReservedConcurrentExecutions *int `json:"ReservedConcurrentExecutions,omitempty"`
}

// TenantConcurrencyInput is the request of PutTenantConcurrency, GetTenantConcurrency and DeleteTenantConcurrency: how much each sub-tenant
// of a function with PER_TENANT may have, environments on a manager and calls in flight at a frontend (DESIGN 7, S66).
type TenantConcurrencyInput struct {
	FunctionName      string `json:"FunctionName,omitempty"`
	TenantConcurrency *int   `json:"TenantConcurrency,omitempty"` // 1 to MaxConcurrency
}

// TenantConcurrencyOutput is their answer; empty without a limit.
type TenantConcurrencyOutput struct {
	TenantConcurrency *int `json:"TenantConcurrency,omitempty"`
}

// TenantLimit is how many environments and calls in flight each sub-tenant of a function may have, 0 where nothing limits them.
func (r *FunctionRecord) TenantLimit() int {
	if r == nil || !r.PerTenant || r.TenantConcurrency == nil {
		return 0
	}
	return max(0, *r.TenantConcurrency)
}

// TenantThrottled refuses a call of a sub-tenant that has what its limit allows. To Lambda's clients it is a throttle of concurrency, as
// they know no limit by sub-tenant; the code says which it is.
func TenantThrottled(function, tenant, has string) *Error {
	return &Error{
		Code: CodeTenantLimit, Reason: ThrottleConcurrency,
		Message: fmt.Sprintf("sub-tenant %q of function %s has %s that its limit allows", clip(tenant), function, has),
	}
}

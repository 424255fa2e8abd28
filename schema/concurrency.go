package schema

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

package manager

import "github.com/hearth-run/hearth/schema"

// Worker makes and runs environments for the manager: in the same process this interface is all there is between them
// (DESIGN 3). Implementations are safe for concurrent use.
type Worker interface {
	// Make begins an environment under an id that the manager chose, and returns at once. What becomes of it is told to
	// notify, one event at a time per environment, on the worker's goroutines; notify does not block.
	Make(id string, b *schema.Binding, notify func(schema.EnvironmentEvent))
	// Start hands the call to the environment, which has parked, and returns when its bytes are on their way; it does not
	// wait for the answer. Whatever happens then, run.Ended is called once and after it the caller is answered.
	Start(run *schema.Run)
	// Refuse answers a claimed call that no environment ran, for instance because its environment's init failed.
	Refuse(run *schema.Run, failure *schema.FunctionError)
	// End ends an environment: at once if it is idle, killing a call that runs. Its last event still comes.
	End(id string)
}

// Isolating is the ability of a worker to tell whether it keeps sub-tenants apart now; who cannot tell does not.
type Isolating interface {
	Tenants() bool
}

// Levelled is the ability of a worker to pass an order about the level of logs on to the processes that it stands for.
type Levelled interface {
	SetLevel(o *schema.LevelOrder)
}

// Stocked is the rare ability of a worker to tell what it keeps ready; nil where it keeps nothing.
type Stocked interface {
	Stock() *schema.Stock
}

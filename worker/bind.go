package worker

import (
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// An environment of a PER_TENANT function is made generic: its command, its variables, its init and the lines of that know of no
// sub-tenant. Its first call binds it, and nothing ever unbinds it (DESIGN 7):
//
//	generic ──bind, before the call's first byte──► bound(sub-tenant) ──► dead
//	   └────────────────────────────────────────────────────────────────►┘
//
// Its manager chose the environment for the call. Who decides is here: [environment.bind], under the mutex that also guards whether
// it lives, so that of two sub-tenants one at most has it, whatever managers say. The other's call kills it, is answered with an
// error and raises [Counters.BindingMismatches].

// matches compares what the subject says, what the envelope says, and what the environment was made for. To which sub-tenant it is
// bound, bind compares.
func (w *Worker) matches(run *schema.Run, b *schema.Binding) bool {
	call := run.Call
	key := call.Key
	if b.PerTenant {
		key.Tenant = ""
	}
	if key != b.Key || call.Account != b.Account || call.Function != b.Function || b.PerTenant != (call.Tenant != "") {
		return false
	}
	arc, ok := w.cfg.Names.ParseArc(run.Subject)
	return ok && arc.Account == b.Account && arc.Function == b.Function && arc.Version == b.Version &&
		(arc.Reserved || arc.Tenant == call.Tenant)
}

// bind binds a generic environment to a sub-tenant, or compares the one that it is bound to; first says that it was generic. One that
// is dead is bound no more and fits anybody: nothing runs there. Without sub-tenants everything is "". The mutex is held.
func (e *environment) bind(tenant string) (first, fits bool) {
	switch {
	case e.tenant == tenant:
		return false, true
	case e.phase != ready:
		return false, true
	case e.tenant == "":
		e.tenant = tenant
		return true, true
	default:
		return false, false
	}
}

// becomesBound is told once, by the call that bound the environment, before its first byte and on the goroutine that starts it, with
// no lock held. What belongs to the sub-tenant comes to the environment here, and never before. It must not wait.
func (e *environment) becomesBound(run *schema.Run) {
	e.worker.count.bound.Add(1)
	e.countsFor(run.Call.Tenant)
	e.bindsNetwork(run.Call.Tenant)
	e.logs.bind(run.Call.Tenant)
	e.keepToken(run.Call.Tenant)
}

// mismatch kills an environment that a call of something else met, and answers the call.
func (e *environment) mismatch(x execution) {
	w, run := e.worker, x.run
	w.count.mismatches.Add(1)
	w.log.Error("a call met an environment of another binding: the environment is killed", "environment", e.id,
		telemetry.LogCall(run.Call.RequestID, run.Call.Traceparent), "subject", run.Subject, "bound", e.binding.Function, "version", e.binding.Version)
	e.kill()
	w.count.refused.Add(1)
	w.conclude(nil, x, &schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeBindingMismatch),
		Message: "The call met an environment that is bound to something else; it was not run"}})
}

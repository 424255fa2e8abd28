package frontend

import (
	"fmt"
	"math"
	"sync"

	"github.com/hearth-run/hearth/schema"
)

// tenantCalls counts the calls in flight of each sub-tenant of one function at this frontend, over all its versions, while the function
// limits them. Safe for concurrent use; nothing blocks under its mutex.
//
// One number bounds two things (DESIGN 7, S66): here the calls in flight of a sub-tenant, and at each manager the environments that are
// bound to it (manager/pool). A call needs an environment, so what is let in here is what a sub-tenant can keep busy; what the managers add
// is that idle environments of other versions count too, and that several frontends cannot multiply it without end. How exact that is:
//
//   - one frontend: exact. Never more than N calls of a sub-tenant are in flight, from the first call after the limit was set.
//   - F frontends: each lets N in, for what the others have is known too late to refuse a call by: at most F*N in flight. Of these at most
//     N run on one manager and M*N on M, and the calls of a sub-tenant go to one arc whose first manager they fill first: so the second N
//     meets the limit there, and is throttled.
//
// A caller on NATS has its answer before its frontend has the end of the call, which is told within a millisecond (manager/ends.go). Of a
// function with a limit it is told before the answer, in a message of its own: else one call after the other would be throttled.
//
// A sum that is exact over managers would be a permit by sub-tenant (as that of the function is): a compare-and-set before a sub-tenant's
// call is given an environment that is ready, where the binding itself takes less.
type tenantCalls struct {
	mu    sync.Mutex
	calls map[string]int // by sub-tenant; no zero entries, so calls in flight bound it
}

// enter counts a call in, or reports false where its sub-tenant has as many as it may.
func (t *tenantCalls) enter(tenant string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.calls[tenant]
	if n >= most {
		return false
	}
	if t.calls == nil {
		t.calls = make(map[string]int)
	}
	t.calls[tenant] = n + 1
	return true
}

// leave counts one out.
func (t *tenantCalls) leave(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.calls[tenant]; n > 1 {
		t.calls[tenant] = n - 1
	} else {
		delete(t.calls, tenant)
	}
}

// enterTenant counts a call to its sub-tenant's, where the function limits them. One that is in flight already, published again or joined,
// counts and is not refused.
func (f *Frontend) enterTenant(c *call) error {
	limit := c.version.function.TenantLimit()
	if limit == 0 {
		return nil
	}
	most := limit
	if c.attempt > 1 || c.asked != nil {
		most = math.MaxInt
	}
	if c.limited = c.version.tenants.enter(c.tenant, most); !c.limited {
		f.statuses.catchUp() // one of the others may have ended, and that have come before this call
		c.limited = c.version.tenants.enter(c.tenant, most)
	}
	if !c.limited {
		return schema.TenantThrottled(c.version.function.Name, c.tenant, fmt.Sprintf("all %d calls in flight", limit))
	}
	return nil
}

// leaveTenant undoes enterTenant, once.
func (c *call) leaveTenant() {
	if c.limited {
		c.version.tenants.leave(c.tenant)
	}
}

package manager

import (
	"fmt"
	"time"

	"github.com/hearth-run/hearth/manager/pool"
	"github.com/hearth-run/hearth/schema"
)

// limitTenants tells the pool how many environments each sub-tenant of a function may have here, where that changed. What is too many goes:
// idle ones now, busy ones as their calls end. rec is nil where the function is gone.
func (m *Manager) limitTenants(before, rec *schema.FunctionRecord) {
	if before.TenantLimit() == rec.TenantLimit() {
		return
	}
	of := rec
	if of == nil {
		of = before
	}
	m.mu.Lock()
	end := m.pool.SetTenantLimit(time.Now(), pool.Scope{Account: of.Account, Function: of.Name}, rec.TenantLimit())
	m.mu.Unlock()
	m.carryOut(pool.Plan[*claim]{End: end}, nil)
	if len(end) > 0 {
		m.changed()
	}
}

// tenantThrottled is why a claim is throttled whose sub-tenant has as many environments here as it may.
func (m *Manager) tenantThrottled(c *claim) error {
	has := "all environments"
	if rec, _, ok := m.versions.cache.Get(functionKey(c.call.Account, c.call.Function)); ok && rec.TenantLimit() > 0 {
		has = fmt.Sprintf("all %d environments", rec.TenantLimit())
	}
	return schema.TenantThrottled(c.call.Function, c.call.Tenant, has)
}

// limited reports whether the sub-tenant of a claim is limited. Manager.mu is held.
func (m *Manager) limited(c *claim) bool {
	return c.call.Tenant != "" && m.pool.TenantsLimited(pool.Scope{Account: c.call.Account, Function: c.call.Function})
}

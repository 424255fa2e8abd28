package lambdaapi

import "sync/atomic"

// bodyBudget is what the bodies of all requests in service may take together, in bytes.
const bodyBudget = 512 << 20

// budget bounds bytes that are held at once. It refuses rather than waits.
type budget struct {
	limit int64
	held  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.held.Add(n) > b.limit {
		b.held.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.held.Add(-n) }

package unpack

import "time"

// SetLimits gives the children of a cache other limits.
func (c *Cache) SetLimits(memory int64, processor time.Duration) {
	c.limits = limits{memory: memory, processor: processor}
}

// Alone makes a cache unpack in this process.
func (c *Cache) Alone() { c.apart = false }

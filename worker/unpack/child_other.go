//go:build !linux

package unpack

import (
	"context"
	"time"
)

const (
	childMemory    = 0
	childProcessor = time.Duration(0)
)

// Main does nothing: packages are unpacked in a child on Linux alone.
func Main() {}

func runAgain() bool { return false }

// extractApart unpacks in this process.
func (c *Cache) extractApart(ctx context.Context, zip, at string) error {
	return extractHere(ctx, zip, at)
}

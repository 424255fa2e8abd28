// Package lifecycle starts components in order and stops them in reverse, and keeps the promise that every component of
// the fabric makes:
//
//	New ----> Start(ctx) ready ----> Stop(ctx) drained, and nobody left
//	   \----> Start(ctx) error: it has cleaned up after itself
//	    \---> Stop(ctx): nothing to do, and Start is an error from then on
//
// Start and Stop may be called from any goroutine and in any order; a component starts at most once; a second Stop waits
// for the first and gives its result. Stop while Start still runs waits until Start has returned, so that nothing that
// Start made is missed. [Guard] is these rules in one place, [Group] a component made of others, and lifecycletest the
// suite that every component passes.
package lifecycle

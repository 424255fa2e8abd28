package console

import (
	"context"

	"github.com/hearth-run/hearth/schema"
)

// What tests see of the inside.
var (
	Visible = visible
	Took    = took
	Span    = span
	Command = command
	Said    = said
)

// Hearth is a command of the console's fabric.
func (c *Console) Hearth(words []string, names ...string) string { return c.hearth(words, names...) }

// Rings is a cache of looks at the ring.
type Rings struct{ ringCache }

// Get looks.
func (r *Rings) Get(ctx context.Context, function string, ask func(context.Context) (*schema.RingOutput, error)) (*schema.RingOutput, error) {
	return r.get(ctx, function, ask)
}

// Bounds.
const (
	MaxWindows  = maxWindows
	RowsPerTick = rowsPerTick
)

// Watching is one who watches a feed.
type Watching struct {
	feed *Feed
	w    *watcher
}

// Watch begins to watch.
func (f *Feed) Watch(function string) *Watching { return &Watching{f, f.watch(function)} }

// Drain takes away what was collected.
func (w *Watching) Drain() (calls, failed int, rows []Call) {
	t, rows := w.w.drain(nil)
	return t.Calls, t.Failed, rows
}

// Leave ends it.
func (w *Watching) Leave() { w.feed.leave(w.w) }

package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// ahead is how many calls are read before they are needed: calls may be so far out of order, and so far the all-knowing scheduler sees.
const ahead = 1 << 16

// kind is whose environments are alike: those of a function, or of one sub-tenant of it.
type kind struct{ function, tenant string }

// window is the calls that come next, in order.
type window struct {
	src    Source
	calls  callHeap
	next   map[kind][]time.Duration // when they come, by kind, ascending
	read   int
	ended  bool
	late   time.Duration // of the last that was taken
	taken  bool
	before int // its line
}

func newWindow(src Source) *window {
	return &window{src: src, next: make(map[kind][]time.Duration)}
}

// fill reads on until the window is full or the source is at its end.
func (w *window) fill() error {
	for !w.ended && len(w.calls) < ahead {
		c, err := w.src.Next()
		if errors.Is(err, io.EOF) {
			w.ended = true
			break
		}
		if err != nil {
			return err
		}
		if w.taken && c.At < w.late {
			return &LineError{c.Line, "at_ms", fmt.Sprintf("lies %v before that of a call more than %d lines above it; sort the lines by at_ms, "+
				"for instance with `sort -t, -n` (without the header)", w.late-c.At, ahead)}
		}
		w.read++
		heap.Push(&w.calls, numbered{c, w.read})
		k := kind{c.Function, c.Tenant}
		times := w.next[k]
		at, _ := slices.BinarySearchFunc(times, c.At, func(a, b time.Duration) int {
			if a <= b {
				return -1
			}
			return 1
		})
		w.next[k] = slices.Insert(times, at, c.At)
	}
	return nil
}

// pop takes the next call; false after the last.
func (w *window) pop() (Call, bool, error) {
	if err := w.fill(); err != nil || len(w.calls) == 0 {
		return Call{}, false, err
	}
	c := heap.Pop(&w.calls).(numbered).Call
	w.late, w.taken, w.before = c.At, true, c.Line
	k := kind{c.Function, c.Tenant}
	if times := w.next[k]; len(times) == 1 {
		delete(w.next, k)
	} else {
		w.next[k] = times[1:]
	}
	return c, true, nil
}

// use is when a kind is called for the nth time from now on, 1 the first; never, where nobody does as far as is known.
func (w *window) use(k kind, n int) time.Duration {
	if times := w.next[k]; n <= len(times) {
		return times[n-1]
	}
	return never
}

const never = time.Duration(1<<63 - 1)

// numbered is a call and its place in the source, which orders those of one moment.
type numbered struct {
	Call
	number int
}

type callHeap []numbered

func (h callHeap) Len() int { return len(h) }
func (h callHeap) Less(i, j int) bool {
	return h[i].At < h[j].At || h[i].At == h[j].At && h[i].number < h[j].number
}
func (h callHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *callHeap) Push(x any)   { *h = append(*h, x.(numbered)) }
func (h *callHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

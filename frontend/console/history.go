package console

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// seconds is how long a history is.
const seconds = 60

// history is what a frontend counted in each of the last seconds.
type history struct {
	mu    sync.Mutex
	last  Totals
	at    time.Time
	rates []rate // the newest last, at most seconds
}

type rate struct{ calls, bad float64 } // a second

func (h *history) add(t Totals) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if since := now.Sub(h.at).Seconds(); !h.at.IsZero() && since > 0 {
		h.rates = append(h.rates, rate{float64(t.Calls-h.last.Calls) / since, float64(t.bad()-h.last.bad()) / since})
		h.rates = h.rates[max(0, len(h.rates)-seconds):]
	}
	h.last, h.at = t, now
}

// now is the rate of the last second, and the lines of the last minute.
func (h *history) now() (r rate, calls, bad string, most float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.rates); n > 0 {
		r = h.rates[n-1]
	}
	for _, x := range h.rates {
		most = max(most, x.calls)
	}
	return r, h.line(most, func(r rate) float64 { return r.calls }), h.line(most, func(r rate) float64 { return r.bad }), most
}

// The drawing of a history: a second is two units wide.
const (
	sparkWidth  = 2 * (seconds - 1)
	sparkHeight = 32
)

// line is the points of a polyline, the newest second at the right edge.
func (h *history) line(most float64, of func(rate) float64) string {
	var b strings.Builder
	for i, r := range h.rates {
		x := sparkWidth - 2*(len(h.rates)-1-i)
		y := float64(sparkHeight)
		if most > 0 {
			y -= of(r) / most * (sparkHeight - 2)
		}
		fmt.Fprintf(&b, "%d,%.1f ", x, y-1)
	}
	return strings.TrimSuffix(b.String(), " ")
}

// perSecond is a rate for people.
func perSecond(r float64) string {
	if r > 0 && r < 10 {
		return fmt.Sprintf("%.1f", r)
	}
	return grouped(int(r + 0.5))
}

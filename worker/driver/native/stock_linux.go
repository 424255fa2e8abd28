//go:build amd64 || arm64

package native

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// stock keeps empty sandboxes ready. How many follows demand: as many as were taken in the busiest of the last seconds, at
// least one, at most Config.Stock (about 0.3 MB each). One goroutine builds them; who finds none builds one alone.
type stock struct {
	driver *Driver
	most   int
	ready  chan *sandbox
	wake   chan struct{} // somebody took one
	given  chan struct{} // a cgroup was given back: there may be too many
	stop   chan struct{}
	done   chan struct{}
	life   context.Context
	end    context.CancelFunc

	mu     sync.Mutex
	taken  [memory]int // in each of the last seconds
	at     int64       // second of the newest
	built  uint64
	hit    uint64 // taken from here
	miss   uint64 // built for who took it
	unused uint64
}

const (
	memory      = 10 // seconds of demand that count
	stockMost   = 64
	stockFloor  = 1
	stockSettle = 20 * time.Millisecond // between a take and what it makes us build
	stockPause  = time.Second           // after a build that failed, and between looks while there are too many
)

func newStock(d *Driver) *stock {
	most := max(0, cmp.Or(d.cfg.Stock, stockMost))
	s := &stock{driver: d, most: most, ready: make(chan *sandbox, most), wake: make(chan struct{}, 1), given: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// take is an empty sandbox.
func (s *stock) take(ctx context.Context) (*sandbox, error) {
	s.note(1)
	defer func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}()
	for {
		select {
		case box := <-s.ready:
			if box.dead() {
				s.count(&s.unused)
				s.driver.discard(box) // somebody killed it from outside
				continue
			}
			s.count(&s.hit)
			return box, nil
		default:
		}
		s.count(&s.miss)
		return s.driver.build(ctx)
	}
}

func (s *stock) count(n *uint64) {
	s.mu.Lock()
	*n++
	s.mu.Unlock()
}

// note remembers that n were taken, and tells how many to keep.
func (s *stock) note(n int) (want int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Unix()
	for ; s.at < now-memory; s.at = now - memory { // all is forgotten
		clear(s.taken[:])
	}
	for ; s.at < now; s.at++ {
		s.taken[(s.at+1)%memory] = 0
	}
	s.taken[now%memory] += n
	want = stockFloor
	for _, taken := range s.taken {
		want = max(want, taken)
	}
	return min(want, s.most)
}

// run keeps the stock until close.
func (s *stock) run() {
	defer close(s.done)
	defer func() {
		for {
			select {
			case box := <-s.ready:
				s.driver.discard(box)
			default:
				return
			}
		}
	}()
	timer, settling, waiting := time.NewTimer(0), false, true
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
			// Whoever took one starts a function now, and wants the processor.
			if !settling {
				timer.Reset(stockSettle)
				settling, waiting = true, true
			}
			continue
		case <-s.given: // by an environment that ended, maybe long after the last one was taken
			if !waiting {
				timer.Reset(stockPause)
				waiting = true
			}
			continue
		case <-timer.C:
			settling, waiting = false, false
		}
		want := s.note(0)
		for len(s.ready) < want {
			box, err := s.driver.build(s.life)
			if s.life.Err() != nil {
				if err == nil {
					s.driver.discard(box)
				}
				return
			}
			if err != nil {
				s.driver.cfg.Log.Error("a sandbox cannot be built", "error", err)
				break
			}
			s.ready <- box // there is room: nobody else puts any
			s.count(&s.built)
			want = s.note(0)
		}
		if len(s.ready) > want {
			select {
			case box := <-s.ready:
				s.count(&s.unused)
				s.driver.discard(box)
			default:
			}
		}
		if err := s.driver.groups.trim(max(want, stockFloor)); err != nil {
			s.driver.cfg.Log.Warn("a cgroup that nobody has cannot be removed", "error", err)
		}
		if len(s.ready) != min(stockFloor, s.most) || want > stockFloor {
			timer.Reset(stockPause)
			waiting = true
		}
	}
}

// close ends the stock and all in it.
func (s *stock) close() {
	s.end()
	close(s.stop)
	<-s.done
}

// Stock takes a look. Before the first environment it is empty.
func (d *Driver) Stock() driver.Stock {
	if d.prepare() != nil {
		return driver.Stock{}
	}
	s := d.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	return driver.Stock{Ready: len(s.ready), Built: s.built, Taken: s.hit, Missed: s.miss, Discarded: s.unused}
}

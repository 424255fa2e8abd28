package events

import "time"

// Of a function whose tries are over quickly as many events are claimed ahead as run at once, so that the next one is there when one
// ends: on a loaded fabric a pull is longer on its way than such a try takes. What is claimed here cannot run elsewhere, so none waits
// for long.
const (
	quickTry   = 100 * time.Millisecond // a try that is over quickly
	quickTries = 8                      // so many in a row have events claimed ahead
	aheadFor   = time.Second            // one that waits longer for its turn is given back
	aheadRest  = 10 * aheadFor          // after that, none is claimed ahead
)

// pace tells whether events are claimed ahead. poller.mu guards it.
type pace struct {
	quick int       // tries in a row that were over quickly
	rest  time.Time // none before
}

// went takes in how long a try took; one that did not run to a good end took for ever.
func (a *pace) went(took time.Duration, good bool) {
	if !good || took >= quickTry {
		a.quick = 0
		return
	}
	a.quick = min(a.quick+1, quickTries)
}

// gaveBack takes in that an event waited too long.
func (a *pace) gaveBack(now time.Time) { a.quick, a.rest = 0, now.Add(aheadRest) }

func (a *pace) ahead(now time.Time) bool { return a.quick == quickTries && !now.Before(a.rest) }

// queue is the claims that wait for their turn, in the order in which they came. poller.mu guards it.
type queue struct{ first, last *claim }

func (q *queue) push(c *claim) {
	if q.first == nil {
		q.first = c
	} else {
		q.last.after = c
	}
	q.last = c
}

func (q *queue) pop() *claim {
	c := q.first
	q.first, c.after = c.after, nil
	if q.first == nil {
		q.last = nil
	}
	return c
}

// turn reports whether the event that waits first may begin. One that has not been touched for so long that its start-by might end after
// its claim is left to tend, and while the connection is cut none begins. p.mu is held.
func (p *poller) turn(s *source, now time.Time) bool {
	c := s.waiting.first
	return c != nil && !p.closing && !p.cut && s.begun < p.window(s, now) && now.Sub(c.touched) < touchAfter
}

// begins gives the event whose turn it is, and counts it as begun; nil if there is none. p.mu is held.
func (p *poller) begins(s *source, now time.Time) *claim {
	if !p.turn(s, now) {
		return nil
	}
	c := s.waiting.pop()
	c.began = now
	s.begun++
	return c
}

// turns begins what waits, until the poller closes: whoever ends a try does not begin the next one himself, for all answers of the
// frontend come on one goroutine.
func (p *poller) turns() {
	for {
		select {
		case <-p.life.Done():
			return
		case <-p.wake:
		}
		for began := true; began; {
			began = false
			for _, s := range [...]*source{p.fresh, p.due} { // in turns: neither waits for the other
				p.mu.Lock()
				c := p.begins(s, time.Now())
				p.mu.Unlock()
				if c != nil {
					began = true
					p.run(c)
				}
			}
		}
	}
}

// kick has turns look.
func (p *poller) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// unclaim lets go of what waited for at least so long, and gives where it is to be given back: nothing of what another may have by now,
// for the server takes that as the other's word. p.mu is held.
func (p *poller) unclaim(s *source, now time.Time, waited time.Duration) (back []string) {
	for s.waiting.first != nil && now.Sub(s.waiting.first.came) >= waited { // the first waits longest
		c := s.waiting.pop()
		p.drop(c)
		if now.Sub(c.touched) < AckWait-touchEvery {
			back = append(back, c.reply)
		}
	}
	return back
}

package frontend

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A token comes once, never before its time, and within two slots after it; also past a whole turn of the wheel, and
// with pauses in which the wheel is empty and stands still.
func TestWheelKeepsTime(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		w := newWheel()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		due, came := make(map[uint64]time.Time), make(map[uint64]time.Time)
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			w.run(ctx, func() {}, func(token uint64) {
				mu.Lock()
				defer mu.Unlock()
				if _, twice := came[token]; twice {
					t.Errorf("token %d came twice", token)
				}
				came[token] = time.Now()
			})
		}()
		token := uint64(0)
		for range 20 {
			for range random.IntN(200) {
				token++
				d := time.Duration(random.Int64N(int64(25 * time.Second)))
				mu.Lock()
				due[token] = time.Now().Add(d)
				mu.Unlock()
				w.add(token, d)
			}
			time.Sleep(time.Duration(random.Int64N(int64(40 * time.Second))))
		}
		time.Sleep(time.Minute)
		cancel()
		<-finished
		for token, at := range due {
			got, ok := came[token]
			if !ok {
				t.Fatalf("token %d never came", token)
			}
			if late := got.Sub(at); late < 0 || late > 2*slotTime {
				t.Errorf("token %d came %v after its time", token, late)
			}
		}
		if w.count != 0 {
			t.Errorf("%d entries are left", w.count)
		}
	})
}

// What fire adds again is kept too: a call whose PubAck is not here yet is looked at again.
func TestWheelTakesWhatFireAdds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		times := 0
		finished := make(chan struct{})
		w.add(7, time.Second)
		go func() {
			defer close(finished)
			w.run(ctx, func() {}, func(token uint64) {
				if times++; times < 5 {
					w.add(token, notNow)
				}
			})
		}()
		time.Sleep(time.Minute)
		cancel()
		<-finished
		if times != 5 {
			t.Errorf("came %d times, want 5", times)
		}
	})
}

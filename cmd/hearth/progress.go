package main

import (
	"fmt"
	"time"

	"github.com/sourcegraph/conc"
)

// progress says on a terminal what the command waits for, once that takes longer than a second. stop clears the line,
// and waits; it must be called, once.
func (a *app) progress(what string) (stop func()) {
	if !isTerminal(a.stderr) {
		return func() {}
	}
	done := make(chan struct{})
	var loop conc.WaitGroup
	loop.Go(func() {
		begin := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		shown := false
		for {
			select {
			case <-done:
				if shown {
					fmt.Fprint(a.stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
				shown = true
				fmt.Fprintf(a.stderr, "\r\x1b[K%s... %d s", what, int(time.Since(begin).Seconds()))
			}
		}
	})
	return func() {
		close(done)
		loop.Wait()
	}
}

package console_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-run/hearth/frontend/console"
	"github.com/hearth-run/hearth/schema"
)

// TestOneLookAtTheRing: many who look ask once, also where it fails; none waits longer than he wants to, and none for another's ring.
func TestOneLookAtTheRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, oneLook)
}

func oneLook(t *testing.T) {
	var rings console.Rings
	failed := errors.New("no")
	asked, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	first, leave := context.WithCancel(t.Context())
	go func() {
		_, err := rings.Get(first, "slow", func(ctx context.Context) (*schema.RingOutput, error) {
			close(asked)
			<-end
			return nil, errors.Join(failed, ctx.Err())
		})
		ended <- err
	}()
	<-asked
	none := func(context.Context) (*schema.RingOutput, error) {
		t.Error("asked beside who asks")
		return nil, nil
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rings.Get(gone, "slow", none); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone waits: %v", err)
	}
	out, err := rings.Get(t.Context(), "other", func(context.Context) (*schema.RingOutput, error) { return &schema.RingOutput{Epoch: 7}, nil })
	if err != nil || out.Epoch != 7 {
		t.Errorf("another ring: %+v, %v", out, err)
	}
	leave() // who asks asks for others too
	waits := make(chan error, 1)
	go func() {
		_, err := rings.Get(t.Context(), "slow", none)
		waits <- err
	}()
	synctest.Wait()
	close(end)
	for _, c := range []chan error{ended, waits} {
		if err := <-c; !errors.Is(err, failed) || errors.Is(err, context.Canceled) {
			t.Errorf("they are told %v", err)
		}
	}
	if _, err := rings.Get(t.Context(), "slow", none); !errors.Is(err, failed) {
		t.Errorf("a failure is not kept: %v", err)
	}
	time.Sleep(time.Minute)
	if out, err := rings.Get(t.Context(), "slow", func(context.Context) (*schema.RingOutput, error) { return &schema.RingOutput{Epoch: 8}, nil }); err != nil || out.Epoch != 8 {
		t.Errorf("it is never asked again: %+v, %v", out, err)
	}
}

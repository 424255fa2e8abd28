package egress

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Prove starts a helper, waits until it answers, and ends it: what keeps it from running is to be found before a function waits
// for it.
func (s *Service) Prove(ctx context.Context) error {
	s.start.Lock()
	defer s.start.Unlock()
	h, err := s.launch()
	if err != nil {
		return err
	}
	defer func() {
		h.quietly()
		<-h.done
	}()
	if err := h.send(order{Detach: proofID}, -1); err != nil {
		return fmt.Errorf("start the network of environments: %w", err)
	}
	select {
	case <-s.proof:
		return nil
	case <-h.done:
		return errors.New("start the network of environments: it ended at once")
	case <-time.After(orderTime):
		return errors.New("start the network of environments: it does not answer")
	case <-ctx.Done():
		return fmt.Errorf("start the network of environments: %w", context.Cause(ctx))
	}
}

// proofID is nobody's.
const proofID = 1 << 62

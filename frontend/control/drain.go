package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// orderTime bounds the wait for a manager's answer, which it gives at once.
const orderTime = 2 * time.Second

// drainManager takes a manager off the ring, lets it back, or looks where it stands, by asking it.
func (s *Service) drainManager(ctx context.Context, _ string, request []byte) (any, error) {
	in, err := decode[schema.DrainInput](request)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Manager == "" || len(in.Manager) > 128:
		return nil, schema.Invalid(schema.FieldError{Field: "Manager", Got: clip(in.Manager), Allowed: "1 to 128 bytes"})
	case !s.known(in.Manager):
		return nil, schema.Errorf(schema.CodeNotFound, "no manager %q is there; the ring holds %s", clip(in.Manager), s.managersOf())
	case in.Look && in.Cancel:
		return nil, schema.Invalid(schema.FieldError{Field: "Look", Got: "true", Allowed: "false with Cancel"})
	}
	order := schema.Control{V: schema.Version, Op: schema.ControlDrain}
	switch {
	case in.Look:
		order.Op = schema.ControlState
	case in.Cancel:
		order.Op = schema.ControlUndrain
	}
	body, err := schema.Marshal(order)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, s.cfg.Names.ManagerControl(in.Manager), body)
	if err != nil {
		return nil, schema.Errorf(schema.CodeUnavailable, "manager %q does not answer: %w", clip(in.Manager), err)
	}
	if text := m.Header.Get(schema.HeaderError); text != "" {
		return nil, schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), text)
	}
	var out schema.DrainOutput
	if err := schema.Unmarshal(m.Data, &out); err != nil {
		return nil, fmt.Errorf("read the answer of manager %q: %w", clip(in.Manager), err)
	}
	return out, nil
}

// known reports whether a manager stands on the ring, leaves it, or tells its status. That nobody listens cannot be trusted to
// say it: the server tells that to one subscription of the connection that fits the inbox, and a frontend has a wider one.
func (s *Service) known(manager string) bool {
	ring := s.view.Ring()
	return slices.Contains(ring.Members, manager) || slices.Contains(ring.Leaving, manager) ||
		slices.ContainsFunc(s.view.Managers(), func(m schema.ManagerStatus) bool { return m.ID == manager })
}

// managersOf names those that stand on the ring or leave it.
func (s *Service) managersOf() string {
	ring := s.view.Ring()
	if all := append(append([]string(nil), ring.Members...), ring.Leaving...); len(all) > 0 {
		return strings.Join(all, ", ")
	}
	return "nobody"
}

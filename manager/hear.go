package manager

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// hear subscribes to what others send this manager.
func (m *Manager) hear() error {
	for subject, handle := range map[string]nats.MsgHandler{
		m.names.ManagerControl(m.cfg.ID): m.ordered,
		m.names.StatusAsk():              m.asked,
		m.names.ManagerKey(m.cfg.ID):     m.handOver,
		m.names.ManagerStatuses():        m.heard,
		m.names.FrontendStatuses():       m.heardFrontend,
		m.names.ManagerClaim(m.cfg.ID):   m.given,
		m.names.TraceAll():               m.told,
	} {
		sub, err := m.nc.Subscribe(subject, handle)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", subject, err)
		}
		m.hears = append(m.hears, sub)
	}
	return nil
}

// ordered answers an order. One without an inbox of the fabric to answer to is left aside, whatever it says (SECURITY 2).
func (m *Manager) ordered(msg *nats.Msg) {
	if !subjects.FabricReplyAllowed(msg.Reply) {
		m.count.garbage.Add(1)
		return
	}
	var order schema.Control
	answer := nats.NewMsg(msg.Reply)
	err := schema.Unmarshal(msg.Data, &order)
	if err != nil {
		m.count.garbage.Add(1)
		err = schema.Errorf(schema.CodeInvalidRequest, "read the order: %w", err)
	} else if order.Op == schema.ControlLevel {
		answer.Data, err = m.setLevel(order.Level)
	} else {
		var out schema.DrainOutput
		if out, err = m.obey(&order); err == nil {
			answer.Data, err = schema.Marshal(out)
		}
	}
	if err != nil {
		status, text := schema.ErrorHeaders(err)
		answer.Header.Set(schema.HeaderErrorCode, status)
		answer.Header.Set(schema.HeaderError, text)
	}
	if err := m.nc.PublishMsg(answer); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.log.Warn("answer an order", "order", string(order.Op), "error", err)
	}
}

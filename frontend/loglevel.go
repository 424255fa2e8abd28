package frontend

import (
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// setLevel changes from which level on this frontend logs, and everything else in its process, and answers how it stands.
func (f *Frontend) setLevel(m *nats.Msg) {
	if !subjects.FabricReplyAllowed(m.Reply) {
		f.counters.dropped.Add(1)
		return
	}
	answer := nats.NewMsg(m.Reply)
	var o schema.LevelOrder
	err := schema.Unmarshal(m.Data, &o)
	if err == nil {
		var now schema.NodeLevel
		if now, err = telemetry.Obey(f.log, schema.StoryFrontend, f.id, &o); err == nil {
			answer.Data, err = schema.Marshal(now)
		}
	}
	if err != nil {
		answer.Header = refusal(err, "")
	}
	f.send(answer)
}

// logged is what a line that concerns a call says of it.
func (c *call) logged() slog.Attr {
	return telemetry.LogCall(c.requestID, c.span.Context().Traceparent)
}

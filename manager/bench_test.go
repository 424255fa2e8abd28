package manager_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// BenchmarkWarmCall is one warm call after the other, from publication to the answer, over in-process connections; the
// sub-benchmark core is a plain request to an echo over the same kind of connection, to compare with.
func BenchmarkWarmCall(b *testing.B) {
	f := natstest.Start(b, natstest.AllArcs())
	startNode(b, f, f.Connect(b), "m1", inline)
	c := newCaller(b, f, "f1")
	key := c.deploy("resize")
	c.invoke("resize", key)
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		b.Fatal(err)
	}
	call := c.call("resize", key, inbox)
	subject, body := c.subject(call), schema.EncodeCall(nil, call)
	b.Run("arc", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.nc.Publish(subject, body); err != nil {
				b.Fatal(err)
			}
			if _, err := sub.NextMsg(patience); err != nil {
				b.Fatal(err)
			}
		}
	})
	echo := f.Connect(b)
	if _, err := echo.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		b.Fatal(err)
	}
	if err := echo.Flush(); err != nil {
		b.Fatal(err)
	}
	b.Run("core", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.nc.Request("echo", body, patience); err != nil {
				b.Fatal(err)
			}
		}
	})
}

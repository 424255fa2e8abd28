package manager_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A frontend that says that it has come back is told of calls that ended while it was away, though this manager was connected
// all the time.
func TestFrontendThatComesBackIsToldAgain(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	startNode(t, f, f.Connect(t), "m1")
	key := c.deploy("resize")
	inbox := c.nc.NewInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	call := c.call("resize", key, inbox)
	c.publish(call)
	if _, err := answers.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, func() bool {
		select {
		case token := <-c.ended:
			return token == call.Token
		default:
			return false
		}
	}, "its end is told once")

	named := make(chan struct{}, 64)
	_, err = c.nc.Subscribe(subjects.FrontendInbox("f1", "b"), func(msg *nats.Msg) {
		var b schema.Beat
		if err := schema.Unmarshal(msg.Data, &b); err != nil {
			t.Errorf("read a beat: %v", err)
		}
		if slices.Contains(b.Late, call.Token) {
			select {
			case named <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tells := func(s schema.FrontendStatus) {
		t.Helper()
		s.V, s.Incarnation = schema.Version, "x"
		b, err := schema.Marshal(&s)
		if err == nil {
			err = c.nc.Publish(f.Names.FrontendStatus("f1"), b)
		}
		if err == nil {
			err = c.nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tells(schema.FrontendStatus{ID: "f1"})
	tells(schema.FrontendStatus{ID: "f2", Reconnects: 1}) // not whose subject it is
	if len(named) > 0 {
		t.Error("a call that has ended is named though nobody came back")
	}
	tells(schema.FrontendStatus{ID: "f1", Reconnects: 1})
	natstest.Eventually(t, patience, func() bool { return len(named) > 0 }, "the call that ended is named")
}

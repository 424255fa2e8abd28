package manager_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/subjects"
)

// The end of a call whose answer passes through its frontend is told by that answer alone; any other's by a notice.
func TestEndIsToldOnce(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	c := newCaller(t, f, "f1")
	key := c.deploy("echo")
	startNode(t, f, f.Connect(t), "m1")
	answered := func(reply string) uint64 {
		t.Helper()
		call := c.call("echo", key, reply)
		sub, err := c.nc.SubscribeSync(reply)
		if err != nil {
			t.Fatal(err)
		}
		c.publish(call)
		if _, err := sub.NextMsg(patience); err != nil {
			t.Fatalf("no answer: %v", err)
		}
		return call.Token
	}
	through := answered(subjects.FrontendInbox("f1", subjects.AnswerKind+".1"))
	others := []uint64{
		answered(subjects.FrontendInbox("f2", subjects.AnswerKind+".1")), // of another frontend: f1 would never hear of it
		answered(c.nc.NewInbox()),
	}
	// Ends are told in their order.
	for _, want := range others {
		select {
		case got := <-c.ended:
			if got != want {
				t.Errorf("the end of call %d is told, want that of %d and none of %d", got, want, through)
			}
		case <-time.After(patience):
			t.Fatalf("the end of call %d is not told", want)
		}
	}
}

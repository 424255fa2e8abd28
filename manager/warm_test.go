package manager_test

import (
	"fmt"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// S06: sequential calls of one function meet one manager, and only the first is cold.
func TestWarmReuse(t *testing.T) {
	t.Parallel()
	for _, managers := range []int{1, 3, 8} {
		t.Run(fmt.Sprint(managers), func(t *testing.T) {
			t.Parallel()
			f := natstest.Start(t, many())
			var nodes []*node
			for i := range managers {
				nodes = append(nodes, startNode(t, f, f.Connect(t), fmt.Sprintf("m%d", i)))
			}
			c := newCaller(t, f, "f1")
			told(t, nodes)
			settled(t, c, nodes)
			key := c.deploy("resize")
			at := ""
			for i := range 60 {
				msg := c.invoke("resize", key)
				if at == "" {
					at = msg.Header.Get(schema.HeaderManager)
				}
				if got := msg.Header.Get(schema.HeaderManager); got != at {
					t.Fatalf("call %d ran at %s, the first at %s", i, got, at)
				}
				want := schema.StartWarm
				if i == 0 {
					want = schema.StartCold
				}
				if start(msg) != want {
					t.Fatalf("call %d is %s, want %s", i, start(msg), want)
				}
			}
		})
	}
}

// settled waits until every manager sees the ring that holds them all, and offers by it, and the server knows. No call may wait.
func settled(t *testing.T, c *caller, nodes []*node) {
	t.Helper()
	natstest.Eventually(t, patience, func() bool {
		ring := c.ring()
		if len(ring.Members) != len(nodes) {
			return false
		}
		for _, n := range nodes {
			if n.Status().RingEpoch != ring.Epoch || !n.Settled() {
				return false
			}
		}
		return true
	}, "every manager offers by the ring that holds them all")
	all := make([]int, c.arcs)
	for nn := range all {
		all[nn] = nn
	}
	c.taken(all...)
}

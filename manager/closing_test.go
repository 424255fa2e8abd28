package manager_test

import (
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// A call may be stored between the record that says that its arc closes and the purge of the marker, by a frontend whose view is
// behind: whoever caught on the arc before goes on, so that the call is moved and runs, and the arc is empty soon. The same holds
// for an opening that closes behind another one.
func TestCallOnAnArcThatCloses(t *testing.T) {
	t.Parallel()
	for name, closes := range map[string]func(*schema.ReservationRecord){
		"the present opening": func(rec *schema.ReservationRecord) {
			rec.State, rec.Limit, rec.Marker = schema.ReservationDraining, 0, 0
		},
		"one behind another": func(rec *schema.ReservationRecord) {
			rec.Closing = []schema.ClosingArc{{Epoch: rec.Epoch, Shard: rec.Shard}}
			rec.State, rec.Epoch, rec.Marker = schema.ReservationProvisioning, rec.Epoch+1, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := reserve(t, natstest.Start(t), 2)
			before := r.rec
			closes(&r.rec)
			r.write()
			r.rec = before
			natstest.Eventually(t, patience, func() bool { return r.nodes[0].Settled() && r.nodes[1].Settled() }, "offers are as the record says")
			a := r.listen()
			r.publishReserved(r.reserved(a.inbox))
			if msg := a.want(1)[0]; refused(msg) != nil || schema.Reason(msg.Header.Get(schema.HeaderReason)) != schema.ReasonOverflow {
				t.Errorf("answered %v", msg.Header)
			}
			natstest.Eventually(t, patience, func() bool { return r.waits() == 0 }, "no call is left")
		})
	}
}

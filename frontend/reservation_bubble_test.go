package frontend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An arc that refused a call is left alone for a while, so that not every call pays for a record that is out of date.
func TestDoubtEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reservation{open: true, made: time.Now()}
		if !r.takes() {
			t.Error("takes nothing at first")
		}
		time.Sleep(time.Second)
		r.doubt()
		time.Sleep(suspectFor - time.Millisecond)
		if r.takes() {
			t.Error("takes calls right after it refused one")
		}
		time.Sleep(time.Millisecond)
		if !r.takes() {
			t.Error("is left alone for ever")
		}
		r.open = false
		if r.takes() {
			t.Error("takes calls though it is not open")
		}
	})
}

// Every publication to a reserved arc expects its marker, whatever its start-by.
func TestHeadersExpectTheMarker(t *testing.T) {
	t.Parallel()
	r := &reservation{check: [2]string{"17", "hearth.open.r.0.a.f.1.7"}}
	for startBy, ttl := range map[time.Duration]string{0: "2s", 1: "3s", 10 * time.Second: "12s", 15 * time.Minute: "902s"} {
		for range 2 { // the second time from what is kept
			h := r.header(startBy)
			if h.Get(nats.MsgTTLHdr) != ttl || h.Get(nats.ExpectedLastSubjSeqHdr) != "17" ||
				h.Get(jetstream.ExpectedLastSubjSeqSubjHeader) != "hearth.open.r.0.a.f.1.7" || len(h) != 3 {
				t.Errorf("start-by %v: %v", startBy, h)
			}
		}
	}
}

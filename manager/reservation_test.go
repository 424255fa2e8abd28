package manager_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// reservation is a reserved arc that the test itself opened, in the place of the controller.
type reservation struct {
	*caller
	rec   schema.ReservationRecord
	key   schema.Key
	nodes []*node // in the arc's ring order
}

// steer takes the controller's lease for the test, before there is a manager, so that the ring and the reservations are what it
// writes.
func (c *caller) steer(ids ...string) {
	c.t.Helper()
	value, err := schema.Marshal(schema.LeaseRecord{V: schema.Version, Holder: "test", Incarnation: "test"})
	if err != nil {
		c.t.Fatal(err)
	}
	leases := c.bucket(topology.Members)
	if _, err := leases.Put(c.t.Context(), schema.ControllerKey, value); err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	c.t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(topology.LeaseTTL / 8)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := leases.Put(ctx, schema.ControllerKey, value); err != nil && ctx.Err() == nil && !errors.Is(err, nats.ErrConnectionClosed) {
				c.t.Errorf("keep the controller's lease: %v", err)
			}
		}
	}()
	c.writeRing(1, ids...)
}

func (c *caller) writeRing(epoch uint64, ids ...string) {
	c.t.Helper()
	value, err := schema.Marshal(schema.RingRecord{V: schema.Version, Epoch: epoch, Members: ids})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.bucket(topology.Ring).Put(c.t.Context(), schema.RingKey, value); err != nil {
		c.t.Fatal(err)
	}
}

// ids are so many names of managers.
func ids(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("m", i))
	}
	return all
}

// reserve starts so many managers and opens the reserved arc of a function's version 1 over them.
func reserve(t testing.TB, f *natstest.Fabric, managers int, settings ...setting) *reservation {
	t.Helper()
	return reserveFor(t, f, managers, func(*schema.FunctionRecord) {}, settings...)
}

// reserveFor is reserve with a change of the function.
func reserveFor(t testing.TB, f *natstest.Fabric, managers int, change func(*schema.FunctionRecord), settings ...setting) *reservation {
	t.Helper()
	c := newCaller(t, f, "f1")
	c.steer(ids(managers)...)
	byID := make(map[string]*node)
	for _, id := range ids(managers) {
		byID[id] = startNode(t, f, f.Connect(t), id, settings...)
	}
	key := c.deployReserved("resize", change)
	r := &reservation{caller: c, key: key, rec: reservationOf(key)}
	for _, id := range r.order(ids(managers)) {
		r.nodes = append(r.nodes, byID[id])
	}
	r.open(7)
	told(t, r.nodes)
	return r
}

// deployReserved is deploy of a function with a version 1, whose key it gives.
func (c *caller) deployReserved(name string, change ...func(*schema.FunctionRecord)) schema.Key {
	c.t.Helper()
	key := c.deploy(name, append(change, func(r *schema.FunctionRecord) {
		v := r.Latest
		v.Version = "1"
		r.Versions = append(r.Versions, v)
	})...)
	key.Version = "1"
	return key
}

// reservationOf is a record for four members of version 1 of function resize.
func reservationOf(key schema.Key) schema.ReservationRecord {
	return schema.ReservationRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Function: "resize", FunctionID: key.FunctionID, Version: "1", Limit: 4,
		State: schema.ReservationActive,
	}
}

// order is all managers of a ring of these in the arc's order.
func (r *reservation) order(ids []string) []string {
	ring := subjects.NewRing(0, ids)
	var order []string
	for _, i := range ring.ReservedOrder(nil, r.rec.Account, r.rec.Function, r.rec.Version) {
		order = append(order, ring.Managers()[i])
	}
	return order
}

// open opens the arc at an epoch: consumer, marker, record.
func (r *reservation) open(epoch uint64) {
	r.t.Helper()
	rec := &r.rec
	rec.Epoch = epoch
	err := topology.EnsureReservedArc(r.t.Context(), r.js, r.names, rec.Shard, rec.Account, rec.Function, rec.Version, epoch)
	if err != nil {
		r.t.Fatal(err)
	}
	marker := r.names.ReservedMarker(rec.Shard, rec.Account, rec.Function, rec.Version, epoch)
	ack, err := r.js.Publish(r.t.Context(), marker, nil, jetstream.WithExpectLastSequencePerSubject(0))
	if err != nil {
		r.t.Fatal(err)
	}
	rec.Marker = ack.Sequence
	r.write()
}

// write has every manager see the record.
func (r *reservation) write() {
	for _, n := range r.nodes {
		n.TakeIn(r.rec, false)
	}
}

// arc is the arc of the present opening.
func (r *reservation) arc() subjects.ArcCall {
	return subjects.ArcCall{
		Reserved: true, Number: r.rec.Shard, Account: r.rec.Account, Function: r.rec.Function, Version: r.rec.Version, Epoch: r.rec.Epoch,
	}
}

// members has managers make members, by rank, and waits until they are offered in their classes.
func (r *reservation) members(counts ...int) {
	r.t.Helper()
	for rank, n := range counts {
		r.nodes[rank].MakeMembers(r.arc(), r.key, n)
	}
	r.offered(counts...)
}

// offered waits until members by rank are idle and offered, and every manager knows of the others'.
func (r *reservation) offered(counts ...int) {
	r.t.Helper()
	name := r.arc().ArcName()
	natstest.Eventually(r.t, patience, func() bool {
		holders := 0
		for _, n := range counts {
			if n > 0 {
				holders++
			}
		}
		place := 0
		for rank, n := range r.nodes {
			want := 0
			if rank < len(counts) {
				want = counts[rank]
			}
			at := slices.IndexFunc(n.Status().Arcs, func(a schema.ArcStatus) bool { return a.Arc == name })
			if want == 0 {
				if at >= 0 {
					return false
				}
				continue
			}
			if at < 0 || n.Status().Arcs[at].Idle != want || n.Class(name) != subjects.ReservedClass(place, holders) {
				return false
			}
			place++
		}
		for _, n := range r.nodes {
			if !n.Settled() {
				return false
			}
		}
		return true
	}, fmt.Sprintf("members %v are offered", counts))
	r.processed()
}

// processed waits until the server has put every pull that it was sent for the arc in its place: a consumer takes them in one by one
// and in order, so that the one that is answered here was the last. No call may wait on the arc.
func (r *reservation) processed() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	next := "$JS.API.CONSUMER.MSG.NEXT." + r.names.CallsR(r.rec.Shard) + "." + r.names.ReservedDurable(r.rec.Epoch)
	body := fmt.Sprintf(`{"batch":1,"no_wait":true,"group":%q,"priority":9}`, topology.PriorityGroup)
	msg, err := r.nc.RequestWithContext(ctx, next, []byte(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if status := msg.Header.Get("Status"); status != "404" {
		r.t.Fatalf("a pull that does not wait is answered %v %q", msg.Header, msg.Data)
	}
}

// reserved is a call that a frontend sends to the reserved arc.
func (r *reservation) reserved(reply string) *schema.Call {
	call := r.call("resize", r.key, reply)
	call.Reason, call.StartBy = schema.ReasonReserved, time.Minute
	return call
}

// publishReserved stores a call on the reserved arc, with the frontend's inbox as its reply.
func (r *reservation) publishReserved(call *schema.Call) {
	r.t.Helper()
	if err := r.tryPublish(call); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reservation) tryPublish(call *schema.Call) error {
	return r.nc.PublishMsg(&nats.Msg{
		Subject: r.names.ReservedCall(r.rec.Shard, call.Account, call.Function, call.Version, r.rec.Epoch),
		Reply:   subjects.FrontendInbox("f1", fmt.Sprintf("p.%016x", call.Token)), Data: schema.EncodeCall(nil, call),
	})
}

// acks hears the PubAcks of a frontend: streams by token.
type acks struct {
	mu      sync.Mutex
	streams map[string][]string
}

func (c *caller) hearAcks() *acks {
	c.t.Helper()
	a := &acks{streams: make(map[string][]string)}
	_, err := c.nc.Subscribe(subjects.FrontendInbox("f1", "p.*"), func(msg *nats.Msg) {
		var ack struct {
			Stream string          `json:"stream"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(msg.Data, &ack); err != nil {
			c.t.Errorf("read a PubAck %q: %v", msg.Data, err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		token := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
		a.streams[token] = append(a.streams[token], cmp.Or(ack.Stream, string(ack.Error)))
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (a *acks) of(call *schema.Call) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.streams[fmt.Sprintf("%016x", call.Token)])
}

// waits is how many messages wait in both streams of calls, the marker not counted.
func (r *reservation) waits() uint64 {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), r.names.CallsR(r.rec.Shard))
	if err != nil {
		r.t.Fatal(err)
	}
	info, err := s.Info(r.t.Context(), jetstream.WithSubjectFilter(r.names.ReservedAll(r.rec.Shard)))
	if err != nil {
		r.t.Fatal(err)
	}
	n := r.stored()
	for _, on := range info.State.Subjects {
		n += on
	}
	return n
}

func (r *reservation) sum(of func(*node) int64) (n int64) {
	for _, node := range r.nodes {
		n += of(node)
	}
	return n
}

func moved(n *node) int64 { return n.Counters().Moved }

// reservedThief claims calls of the reserved arc in the place of all managers: class 0, and before them.
func (r *reservation) reservedThief() *nats.Subscription {
	r.t.Helper()
	sub, err := r.nc.SubscribeSync(r.nc.NewInbox())
	if err != nil {
		r.t.Fatal(err)
	}
	next := "$JS.API.CONSUMER.MSG.NEXT." + r.names.CallsR(r.rec.Shard) + "." + r.names.ReservedDurable(r.rec.Epoch)
	body := fmt.Sprintf(`{"batch":10000,"expires":%d,"group":%q,"priority":0}`, int64(time.Hour), topology.PriorityGroup)
	if err := r.nc.PublishRequest(next, sub.Subject, []byte(body)); err != nil {
		r.t.Fatal(err)
	}
	// The server takes in pulls and calls by queues of their own: the thief is there when a call came to it.
	for {
		r.publishReserved(r.reserved(sub.Subject))
		if msg := r.steal(sub); msg.Reply != "" {
			if err := msg.AckSync(); err != nil {
				r.t.Fatal(err)
			}
			return sub
		}
	}
}

func (r *reservation) steal(sub *nats.Subscription) *nats.Msg {
	r.t.Helper()
	msg, err := sub.NextMsg(patience)
	if err != nil {
		r.t.Fatal(err)
	}
	return msg
}

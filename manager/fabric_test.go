package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// patience bounds every wait for something that must happen; it is no promise about speed.
const patience = time.Minute

func TestMain(m *testing.M) { natstest.Main(m) }

// node is a manager with its worker and its connection.
type node struct {
	*manager.Manager
	nc     *nats.Conn
	worker *echoWorker
}

// setting changes a node before it starts.
type setting func(*manager.Config, *echoWorker)

// many is for the fabric of several managers: as many arcs as a fabric has by default, few where a race is looked for.
func many() natstest.Option {
	numbers := schema.DefaultFabric()
	numbers.Arcs = natstest.Fewer(numbers.Arcs, 8)
	return natstest.Numbers(numbers)
}

func capacity(n int) setting { return func(c *manager.Config, _ *echoWorker) { c.Capacity = n } }

func inline(_ *manager.Config, w *echoWorker) { w.inline = true }

func startNode(t testing.TB, f *natstest.Fabric, nc *nats.Conn, id string, settings ...setting) *node {
	t.Helper()
	n := newNode(t, f, nc, id, settings...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func newNode(t testing.TB, f *natstest.Fabric, nc *nats.Conn, id string, settings ...setting) *node {
	t.Helper()
	w := newEchoWorker(nc)
	cfg := manager.Config{ID: id, Names: f.Names, Capacity: 40, Build: "test", Fabric: schema.DefaultFabric()}
	cfg.Fabric.Arcs = f.Arcs
	if testing.Verbose() && os.Getenv("HEARTH_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", id)
	}
	for _, s := range settings {
		s(&cfg, w)
	}
	m, err := manager.New(nc, w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
		w.wait(ctx)
		if n := w.double.Load(); n > 0 {
			t.Errorf("%s: %d calls met an environment that was not idle", id, n)
		}
	})
	return &node{m, nc, w}
}

// caller stands for a frontend: it publishes calls to their arcs and hears answers and ends.
type caller struct {
	t     testing.TB
	nc    *nats.Conn
	js    jetstream.JetStream
	names subjects.Names
	arcs  int
	next  atomic.Uint64
	ended chan uint64
}

func newCaller(t testing.TB, f *natstest.Fabric, id string) *caller {
	t.Helper()
	nc := f.Connect(t)
	js := natstest.JetStream(t, nc)
	c := &caller{t: t, nc: nc, js: js, names: f.Names, arcs: f.Arcs, ended: make(chan uint64, 1<<16)}
	_, err := nc.Subscribe(subjects.FrontendInbox("f1", "e"), func(msg *nats.Msg) {
		var e schema.Ends
		if err := schema.Unmarshal(msg.Data, &e); err != nil {
			t.Errorf("read ends: %v", err)
		}
		for _, token := range e.Tokens {
			select {
			case c.ended <- token:
			default: // a test that makes more calls does not look at their ends
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// end waits until the end of a call is told, and gives its token.
func (c *caller) end() uint64 {
	c.t.Helper()
	select {
	case token := <-c.ended:
		return token
	case <-time.After(patience):
		c.t.Fatal("no end is told")
		return 0
	}
}

// deploy writes a function's record, as the control handlers do, and gives its key.
func (c *caller) deploy(name string, change ...func(*schema.FunctionRecord)) schema.Key {
	c.t.Helper()
	rec := &schema.FunctionRecord{
		V: schema.Version, Account: subjects.DefaultAccount, Name: name, ID: "id-" + name, Created: time.Unix(0, 0),
		Latest: schema.VersionRecord{
			Version: schema.Latest, Runtime: "provided", MemoryMB: 128, Timeout: 3 * time.Second, CodeSHA256: strings.Repeat("ab", 32),
			ConfigRevision: 1, Modified: time.Unix(0, 0),
		},
	}
	for _, f := range change {
		f(rec)
	}
	c.put(rec)
	return schema.VersionKey(rec, &rec.Latest, "")
}

func (c *caller) put(rec *schema.FunctionRecord) {
	c.t.Helper()
	kv, err := c.js.KeyValue(c.t.Context(), c.names.Bucket(topology.Functions))
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := schema.Marshal(rec)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := kv.Put(c.t.Context(), subjects.Escape(rec.Account)+"."+subjects.Escape(rec.Name), b); err != nil {
		c.t.Fatal(err)
	}
}

// call is an envelope for a function.
func (c *caller) call(name string, key schema.Key, reply string) *schema.Call {
	n := c.next.Add(1)
	return &schema.Call{
		Key: key, RequestID: fmt.Sprintf("r-%s-%d", name, n), Account: subjects.DefaultAccount, Function: name, Frontend: "f1",
		Token: n, Reply: reply, Reason: schema.ReasonUnreserved, Attempt: 1, StartBy: time.Minute, Timeout: 3 * time.Second,
		Payload: fmt.Appendf(nil, "payload %d", n),
	}
}

// subject is where a call is published.
func (c *caller) subject(call *schema.Call) string {
	nn := subjects.UnreservedArc(call.Account, call.Function, call.Tenant, c.arcs)
	return c.names.UnreservedCall(nn, call.Account, call.Function, call.Version, call.Tenant)
}

// publish stores a call and gives its sequence.
func (c *caller) publish(call *schema.Call) uint64 {
	c.t.Helper()
	ack, err := c.js.Publish(c.t.Context(), c.subject(call), schema.EncodeCall(nil, call))
	if err != nil {
		c.t.Fatal(err)
	}
	return ack.Sequence
}

// invoke makes one call and waits for its answer.
func (c *caller) invoke(name string, key schema.Key) *nats.Msg {
	c.t.Helper()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	call := c.call(name, key, inbox)
	if err := c.nc.Publish(c.subject(call), schema.EncodeCall(nil, call)); err != nil {
		c.t.Fatal(err)
	}
	msg, err := sub.NextMsg(patience)
	if err != nil {
		c.t.Fatalf("call %s: %v", call.RequestID, err)
	}
	return msg
}

// start is the start kind that an answer names.
func start(msg *nats.Msg) schema.Start { return schema.Start(msg.Header.Get(schema.HeaderStart)) }

// tryInvoke is invoke for goroutines other than the test's.
func (c *caller) tryInvoke(name string, key schema.Key) error {
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	call := c.call(name, key, inbox)
	if err := c.nc.Publish(c.subject(call), schema.EncodeCall(nil, call)); err != nil {
		return err
	}
	msg, err := sub.NextMsg(patience)
	if err != nil {
		return fmt.Errorf("call %s: %w", call.RequestID, err)
	}
	if string(msg.Data) != string(call.Payload) {
		return fmt.Errorf("call %s answered %q, want %q", call.RequestID, msg.Data, call.Payload)
	}
	return nil
}

// unstarted takes what went wrong in calls and gives how many of them started nowhere: a manager that could not see its
// acknowledgement leave for 2 s does not start the call, and here is no frontend to say so. Anything else fails the test.
func unstarted(t testing.TB, nodes []*node, failed <-chan error) (n int64) {
	t.Helper()
	most := int64(0)
	for _, node := range nodes {
		most += node.Counters().Uncrossed
	}
	for err := range failed {
		if n++; n > most || !errors.Is(err, nats.ErrTimeout) {
			t.Error(err)
		}
	}
	return n
}

// answers collects what comes to one inbox.
type answers struct {
	t     testing.TB
	inbox string
	sub   *nats.Subscription
}

func (c *caller) listen() *answers {
	c.t.Helper()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		c.t.Fatal(err)
	}
	return &answers{c.t, inbox, sub}
}

// want waits for so many answers.
func (a *answers) want(n int) []*nats.Msg {
	a.t.Helper()
	var got []*nats.Msg
	for len(got) < n {
		msg, err := a.sub.NextMsg(patience)
		if err != nil {
			a.t.Fatalf("answer %d of %d: %v", len(got)+1, n, err)
		}
		got = append(got, msg)
	}
	return got
}

// pulls hears what a manager asks of an arc's consumer: by class, the batch of the last request. Once nothing happens
// each side of an arc has one request, its last renewal.
type pulls struct {
	mu    sync.Mutex
	batch map[int]int
}

func (c *caller) hearPulls(nn int) *pulls {
	c.t.Helper()
	p := &pulls{batch: make(map[int]int)}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsOf(nn) + "." + c.names.UnreservedDurable(nn)
	_, err := c.nc.Subscribe(subject, func(msg *nats.Msg) {
		var req struct {
			Batch    int    `json:"batch"`
			Expires  int64  `json:"expires"`
			Group    string `json:"group"`
			Priority int    `json:"priority"`
		}
		if err := json.Unmarshal(msg.Data, &req); err != nil || req.Group != topology.PriorityGroup || req.Expires != 2e9 {
			c.t.Errorf("pull %s: %v", msg.Data, err)
		}
		p.mu.Lock()
		p.batch[req.Priority] = req.Batch
		p.mu.Unlock()
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (p *pulls) last(class int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.batch[class]
}

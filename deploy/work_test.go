package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// TestRolesMayDoTheirWork does with each role's rights what the role does with JetStream, with enough of it that flow
// control has its say too. Any refusal fails it.
func TestRolesMayDoTheirWork(t *testing.T) {
	t.Parallel()
	d := openDoor(t, false)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	enter := func(as, inbox string) (*nats.Conn, jetstream.JetStream) {
		l := d.logins[as]
		nc, err := nats.Connect(d.server.url, l.option(), nats.CustomInboxPrefix(inbox),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("%s: %v", as, err) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return nc, js
	}
	managerConn, manager := enter("manager", subjects.ManagerInbox("m1", "n"))
	frontendConn, frontend := enter("frontend", subjects.FrontendInbox("f1", "n"))
	for range 2 {
		if err := topology.Ensure(ctx, manager, d.names, schema.DefaultFabric()); err != nil {
			t.Fatal(err)
		}
	}

	// A frontend writes functions, everybody follows them.
	var caches []*watch.Cache[int]
	for nc, js := range map[*nats.Conn]jetstream.JetStream{managerConn: manager, frontendConn: frontend} {
		kv, err := js.KeyValue(ctx, d.names.Bucket(topology.Functions))
		if err != nil {
			t.Fatal(err)
		}
		c := watch.New(nc, kv, ">", func(b []byte) (int, error) { return len(b), nil }, nil)
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Stop)
		caches = append(caches, c)
	}
	functions, err := frontend.KeyValue(ctx, d.names.Bucket(topology.Functions))
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range 500 {
		if last, err = functions.Put(ctx, "default.f"+strconv.Itoa(i), make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range caches {
		natstest.Eventually(t, 20*time.Second, func() bool { return c.Revision() >= last }, "everybody has the last function")
	}
	if err := functions.Delete(ctx, "default.f1", jetstream.LastRevision(2)); err != nil {
		t.Error(err)
	}
	for kind, key := range map[string]string{topology.Secrets: "id.1", topology.Ring: schema.FabricKey} {
		kv, err := frontend.KeyValue(ctx, d.names.Bucket(kind))
		if err == nil {
			_, err = kv.Create(ctx, key, []byte("x"))
		}
		if err != nil {
			t.Errorf("frontend writes %s in %s: %v", key, kind, err)
		}
	}

	// A manager holds its lease and the controller's, and writes the ring.
	for kind, key := range map[string]string{
		topology.Members: schema.ControllerKey, topology.Ring: schema.RingKey, topology.Arcs: "u.3", topology.Keys: schema.SealKeyName,
	} {
		kv, err := manager.KeyValue(ctx, d.names.Bucket(kind))
		if err == nil {
			_, err = kv.Create(ctx, key, []byte("x"))
		}
		if err != nil {
			t.Errorf("manager writes %s in %s: %v", key, kind, err)
		}
	}

	// Calls: published by the frontend, looked at, deleted; claimed and locked by the manager.
	call := d.names.UnreservedCall(7, "default", "f1", "1", "")
	for range 2 {
		if _, err := frontend.Publish(ctx, call, nil); err != nil {
			t.Fatal(err)
		}
	}
	calls, err := frontend.Stream(ctx, d.names.CallsOf(7))
	if err != nil {
		t.Fatal(err)
	}
	lister := calls.ListConsumers(ctx)
	n := 0
	for range lister.Info() {
		n++
	}
	if err := lister.Err(); err != nil || n != subjects.DefaultArcs/subjects.UnreservedStreams {
		t.Errorf("frontend sees %d consumers: %v", n, err)
	}
	found, err := frontendConn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+d.names.CallsOf(7), []byte(`{"last_by_subj":"`+call+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(found.Data, &answer); err != nil {
		t.Fatal(err)
	}
	if err := calls.DeleteMsg(ctx, answer.Message.Seq); err != nil {
		t.Error(err)
	}
	got, err := managerConn.RequestWithContext(ctx, "$JS.API.CONSUMER.MSG.NEXT."+d.names.CallsOf(7)+"."+d.names.UnreservedDurable(7),
		[]byte(`{"batch":1,"group":"`+topology.PriorityGroup+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.AckSync(nats.Context(ctx)); err != nil {
		t.Error(err)
	}

	// Code: put by the admin, read by the worker in the manager's process.
	zip := make([]byte, 5<<20)
	for i := range zip {
		zip[i] = byte(rand.Uint32())
	}
	l := d.logins["admin"]
	owner, err := client.Connect(ctx, client.Options{URL: d.server.url, NATS: []nats.Option{l.option()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	var sum string
	for range 2 {
		if sum, err = owner.PutCode(ctx, zip); err != nil {
			t.Fatal(err)
		}
	}
	store := newCodeStore(manager, d.names)
	r, size, err := store.Open(ctx, sum)
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || size != int64(len(zip)) || !bytes.Equal(back, zip) {
		t.Errorf("read %d of %d bytes back: %v", len(back), size, err)
	}
	none := sha256.Sum256(nil)
	if _, _, err := store.Open(ctx, hex.EncodeToString(none[:])); schema.CodeOf(err) != schema.CodeNotFound {
		t.Errorf("a package that nobody put: %v", err)
	}
}

func TestTheServerSaysItsLastWordToSlog(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	l := newServerLog(slog.New(slog.NewTextHandler(&text, nil)))
	l.Noticef("starting %d", 1)
	l.Warnf("careful")
	l.Fatalf("port %d", 1)
	l.Fatalf("port %d", 2)
	<-l.fatal
	if l.cause.Error() != "port 1" || bytes.Contains(text.Bytes(), []byte("starting")) || !bytes.Contains(text.Bytes(), []byte("careful")) {
		t.Errorf("cause %v, log %s", l.cause, text.String())
	}
}

func TestStartServerThatCannotStore(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLogin("admin", "1", adminRights(names))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e, err := startServer(ctx, "127.0.0.1:0", file, &users{admin: l.public, names: names}, slog.New(slog.DiscardHandler))
	if err == nil {
		e.stop()
		t.Fatal("it started")
	}
	if ctx.Err() != nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("with a file in the place of its folder: %v", err)
	}
}

func TestURLOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:0": "http://127.0.0.1:", "0.0.0.0:0": "http://127.0.0.1:",
	} {
		l, err := listen(t.Context(), address, "HTTP", "--http")
		if err != nil {
			t.Fatal(err)
		}
		got := urlOf("http", l.Addr())
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(got, want) || strings.HasSuffix(got, ":0") {
			t.Errorf("listening on %s: %s", address, got)
		}
	}
}

func TestCapacities(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		total, managers int
		free            int64
		want            []int
	}{
		{0, 1, 4 << 30, []int{24}},          // 3/4 of 4 GiB in places of 128 MiB
		{0, 3, 4 << 30, []int{8, 8, 8}},     // shared
		{0, 2, 0, []int{16, 16}},            // not known
		{0, 3, 1 << 20, []int{1, 1, 1}},     // hardly any: one each, so that something runs
		{10, 3, 4 << 30, []int{4, 3, 3}},    // explicit
		{1000, 2, 1 << 30, []int{500, 500}}, // explicit may overcommit
	} {
		got := capacities(tt.total, tt.managers, tt.free)
		if len(got) != len(tt.want) {
			t.Fatalf("%+v: %v", tt, got)
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%d places, %d managers, %d free: %v, want %v", tt.total, tt.managers, tt.free, got, tt.want)
			}
		}
	}
}

func TestSemantic(t *testing.T) {
	t.Parallel()
	for build, want := range map[string]string{
		"v1.2.3": "1.2.3", "v0.0.0-20261123-10f8e87+dirty": "0.0.0-20261123-10f8e87+dirty", "v1.2.3 linux": "1.2.3", "(devel)": "", "": "", "1.2": "",
	} {
		if got := semantic(build); got != want {
			t.Errorf("semantic(%q) is %q, want %q", build, got, want)
		}
	}
}

package deploy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// A reply is not among what the server asks rights for: whatever answers a message of a worker that was taken over (SECURITY 1,
// K), the server itself with its PubAck or a package, would write it where that worker names. So nothing may answer one.
func TestNothingIsWrittenForAWorker(t *testing.T) {
	t.Parallel()
	d := openDoor(t, false)
	m, js := d.manage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := topology.Ensure(ctx, js, d.names, schema.DefaultFabric()); err != nil {
		t.Fatal(err)
	}
	l := d.logins["admin"]
	owner, err := client.Connect(ctx, client.Options{URL: d.server.url, NATS: []nats.Option{l.option()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	if _, err := owner.PutCode(ctx, []byte("a package")); err != nil {
		t.Fatal(err)
	}

	k := d.enter(t, "worker")
	code := topology.CodeStream(d.names)
	asked := []string{
		d.names.Log("default", "f", "1", ""), "$KV." + d.names.Bucket(topology.Members) + "." + schema.WorkerPrefix + "w1",
		"$JS.API.DIRECT.GET." + code, "$JS.API.STREAM.MSG.GET." + code, "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$SYS.REQ.USER.INFO",
	}
	for _, allowed := range workerRights(d.names, "w1").publish {
		asked = append(asked, strings.NewReplacer("*", "m1", ">", "x").Replace(allowed))
	}
	victims := map[string]string{ // and the stream of each
		"$KV." + d.names.Bucket(topology.Functions) + ".default.f": topology.BucketStream(d.names, topology.Functions),
		"$KV." + d.names.Bucket(topology.Arcs) + ".u.1":            topology.BucketStream(d.names, topology.Arcs),
		d.names.UnreservedCall(1, "default", "f", "1", ""):         d.names.CallsOf(1),
		d.names.Log("default", "f", "1", "written by the server"):  d.names.Stream(topology.Logs),
		"$O." + d.names.Bucket(topology.Code) + ".C.x":             code,
	}
	before := map[string]uint64{}
	for _, stream := range victims {
		before[stream] = d.lastOf(t, js, stream)
	}
	for _, subject := range asked {
		for reply := range victims {
			if err := k.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte(`{"seq":1}`)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := k.FlushWithContext(ctx); err != nil { // the server has looked at all of them
		t.Fatal(err)
	}
	// What it answers itself leaves in order: after these, nothing of the worker's is under way to a stream.
	for _, subject := range []string{d.names.Log("default", "f", "1", ""), "$KV." + d.names.Bucket(topology.Members) + "." + schema.MemberPrefix + "m1"} {
		if _, err := js.Publish(ctx, subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+code, []byte(`{"seq":1}`)); err != nil {
		t.Fatal(err)
	}
	before[d.names.Stream(topology.Logs)]++
	// And after a message that a stream takes now, none of an answer is before it.
	marks := map[string]string{
		topology.BucketStream(d.names, topology.Arcs): "$KV." + d.names.Bucket(topology.Arcs) + ".u.2",
		d.names.CallsOf(1):                            d.names.UnreservedCall(9, "default", "f", "1", ""),
		d.names.Stream(topology.Logs):                 d.names.Log("default", "f", "1", ""),
	}
	for stream, subject := range marks {
		if _, err := js.Publish(ctx, subject, nil); err != nil {
			t.Fatal(err)
		}
		before[stream]++
	}
	for stream, want := range before {
		if got := d.lastOf(t, js, stream); got != want {
			t.Errorf("%s is at message %d, want %d: the server has written there for a worker", stream, got, want)
		}
	}
}

func (d *door) lastOf(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

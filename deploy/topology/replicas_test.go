package topology_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// A server may have the name of a cluster and be none: it keeps what must not be lost as well as it can, alone.
func TestClusterInName(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) { o.Cluster.Name = "leaves" }))
	nc := f.Connect(t)
	if nc.ConnectedClusterName() == "" {
		t.Fatal("the server tells no cluster")
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, and found
		if err := topology.Ensure(within(t), js, f.Names, schema.DefaultFabric()); err != nil {
			t.Fatal(err)
		}
	}
}

// In a cluster of three what must not be lost has three replicas, and the stream of calls has one (DESIGN 9).
func TestReplicas(t *testing.T) {
	t.Parallel()
	f := startCluster(t)
	js := f.JetStream(t)
	// What a fabric had on a single server, which has joined a cluster since, is raised.
	before := topology.Bucket(f.Names, topology.Functions)
	natstest.Eventually(t, patience, func() bool {
		_, err := js.CreateStream(within(t), before)
		return err == nil
	}, "the cluster makes a stream")
	ctx := within(t)
	if err := topology.Ensure(ctx, js, f.Names, schema.DefaultFabric()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		before.Name: topology.Replicas, topology.Bucket(f.Names, topology.Members).Name: topology.Replicas, topology.Events(f.Names, "default").Name: topology.Replicas,
		topology.CodeStore(f.Names).Name: topology.Replicas, f.Names.CallsU(0): 1, f.Names.CallsU(7): 1,
	} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			t.Errorf("stream %s: %v", name, err)
		} else if got := s.CachedInfo().Config.Replicas; got != want {
			t.Errorf("stream %s has %d replicas, want %d", name, got, want)
		}
	}
}

// startCluster starts three servers that are one cluster, and gives one without a topology.
func startCluster(t *testing.T) *natstest.Fabric {
	t.Helper()
	var routes []string
	ports := make([]int, topology.Replicas)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes = append(routes, "nats://127.0.0.1:"+strconv.Itoa(ports[i]))
		_ = l.Close()
	}
	var f *natstest.Fabric
	for i, port := range ports {
		f = natstest.Start(t, natstest.Bare(), natstest.Server(func(o *natstest.ServerOptions) {
			o.ServerName = "server-" + strconv.Itoa(i)
			o.Cluster.Name, o.Cluster.Host, o.Cluster.Port = "natstest", "127.0.0.1", port
			o.Routes = natstest.Routes(routes...)
		}))
	}
	natstest.Eventually(t, patience, f.Server.JetStreamIsCurrent, "the cluster has a leader")
	return f
}

package natstest_test

import (
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

func TestStart(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	js := f.JetStream(t)
	if _, err := js.Stream(t.Context(), f.Names.CallsU(0)); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), f.Names.Bucket(topology.Ring))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "ring", "x"); err != nil {
		t.Fatal(err)
	}
	if nc := f.ConnectTCP(t); nc.ConnectedUrl() != f.URL {
		t.Errorf("connected to %s, want %s", nc.ConnectedUrl(), f.URL)
	}
}

func TestRestartKeepsPortAndFiles(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	nc, in := f.ConnectTCP(t), f.Connect(t)
	url := f.URL
	kv, err := f.JetStream(t).KeyValue(t.Context(), f.Names.Bucket(topology.Ring))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "ring", "x"); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	natstest.Eventually(t, 20*time.Second, func() bool { return nc.Stats().Reconnects > 0 && in.Stats().Reconnects > 0 },
		"the connections are back")
	if f.URL != url {
		t.Errorf("URL is %s after the restart, was %s", f.URL, url)
	}
	js := f.JetStream(t)
	kv, err = js.KeyValue(t.Context(), f.Names.Bucket(topology.Ring))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "ring"); err != nil || string(e.Value()) != "x" {
		t.Errorf("key ring after the restart: %v, %v", e, err)
	}
	if _, err := js.Stream(t.Context(), f.Names.CallsU(0)); err == nil {
		t.Error("a stream in memory outlived the server")
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		f := natstest.Start(b)
		f.Stop()
	}
}

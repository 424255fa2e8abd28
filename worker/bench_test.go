package worker_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/null"
	"github.com/hearth-run/hearth/worker/driver/process"
)

// started is a worker with one environment, and a call for it that tells its answer.
func started(b *testing.B, d driver.Driver, folder string, code store, sha string, lines func(worker.Source) worker.Sink) (call func()) {
	names, err := subjects.NewNames("")
	if err != nil {
		b.Fatal(err)
	}
	answered, parked, gone := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	cfg := worker.Config{ID: "w1", Driver: d, Names: names, CacheDir: folder, Code: code, Lines: lines,
		Publish: func(*nats.Msg) error { answered <- struct{}{}; return nil }}
	w, err := worker.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	binding := &schema.Binding{Key: schema.Key{FunctionID: "f", Version: "7", CodeSHA256: sha}, Account: "default", Function: "echo",
		Runtime: "provided", MemoryMB: 128}
	w.Make("e1", binding, func(ev schema.EnvironmentEvent) {
		switch ev.Kind {
		case schema.EnvironmentParked:
			parked <- struct{}{}
		case schema.EnvironmentFailed:
			b.Errorf("init: %+v", ev.Error)
			close(parked)
			fallthrough
		default:
			close(gone)
		}
	})
	b.Cleanup(func() { w.End("e1"); <-gone; _ = w.Stop(b.Context()) })
	<-parked
	run := &schema.Run{
		Call: &schema.Call{Key: binding.Key, RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Account: "default", Function: "echo",
			Reply: "_INBOX.a.b", Reason: schema.ReasonUnreserved, Attempt: 1, Payload: make([]byte, 64)},
		Subject:     names.UnreservedCall(17, "default", "echo", "7", ""),
		Environment: "e1", Arc: "u.17", Manager: "m1", Start: schema.StartWarm, Ended: func(*schema.Run, *schema.Outcome) {},
	}
	return func() {
		w.Start(run)
		<-answered
		<-parked
	}
}

// BenchmarkNull is the worker's own work for a call: comparing, clock, counters, answer.
func BenchmarkNull(b *testing.B) {
	call := started(b, null.New(), "", nil, "", nil)
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}

// BenchmarkProcess is a warm call in a process of its own, by the plain loop of the tests: no NATS.
func BenchmarkProcess(b *testing.B) { benchmarkProcess(b, nil) }

// BenchmarkProcessLogged is the same call with its lines stored in stream LOGS, batches of 100 ms.
func BenchmarkProcessLogged(b *testing.B) {
	f := natstest.Start(b, natstest.AllArcs())
	s, err := worker.NewShipper(f.Connect(b), worker.ShipperConfig{Manager: "m1", Names: f.Names})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Stop(context.Background()); err != nil || s.Shipped().Dropped > 0 {
			b.Errorf("%+v, %v", s.Shipped(), err)
		}
	}()
	benchmarkProcess(b, s.Open)
}

func benchmarkProcess(b *testing.B, lines func(worker.Source) worker.Sink) {
	folder := drivertest.Folder(b)
	d, err := process.New(process.Config{Dir: filepath.Join(folder, "environments")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	code := store{}
	sha := code.put(b, map[string]string{"bootstrap": "#!/bin/sh\nexec " + functionPath + " " + functionArgument + "\n"})
	call := started(b, d, filepath.Join(folder, "cache"), code, sha, lines)
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}

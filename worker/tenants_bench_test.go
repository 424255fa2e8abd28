//go:build linux && (amd64 || arm64)

package worker_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker"
	"github.com/hearth-run/hearth/worker/driver/drivertest"
	"github.com/hearth-run/hearth/worker/driver/native"
)

// BenchmarkBind is the first call of an environment that it binds to a sub-tenant, beside the first call of one without sub-tenants, and
// the calls that follow in both; in turns, in the sandbox, without NATS. What the first call costs beyond the bind is the function's: it has
// never run.
func BenchmarkBind(b *testing.B) {
	needsSandbox(b)
	zip, err := carried()
	if err != nil {
		b.Fatal(err)
	}
	code := store{}
	sha := code.add(zip)
	folder := drivertest.Folder(b)
	sandbox, err := native.New(native.Config{Dir: filepath.Join(folder, "tree")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sandbox.Close() })
	names, err := subjects.NewNames("")
	if err != nil {
		b.Fatal(err)
	}
	answered, parked, gone := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	w, err := worker.New(worker.Config{ID: "w1", Driver: sandbox, Names: names, CacheDir: filepath.Join(folder, "cache"), Code: code, Tenants: true,
		Publish: func(*nats.Msg) error { answered <- struct{}{}; return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Stop(b.Context()) })
	const next = 20
	var first, warm [2][]float64 // us, without sub-tenants and with them
	round := 0
	for b.Loop() {
		for i, tenant := range [2]string{"", "acme"} {
			round++
			id := fmt.Sprint("e", round)
			binding := &schema.Binding{Key: schema.Key{FunctionID: "f", Version: "7", CodeSHA256: sha}, Account: "default", Function: "echo",
				Runtime: "provided", MemoryMB: 128, PerTenant: tenant != ""}
			w.Make(id, binding, func(ev schema.EnvironmentEvent) {
				switch ev.Kind {
				case schema.EnvironmentParked:
					parked <- struct{}{}
				case schema.EnvironmentFailed:
					b.Errorf("init: %+v", ev.Error)
					close(parked)
				default:
					gone <- struct{}{}
				}
			})
			<-parked
			key := binding.Key
			key.Tenant = tenant
			subject := names.UnreservedCall(17, "default", "echo", "7", tenant)
			for call := range 1 + next {
				run := &schema.Run{
					Call: &schema.Call{Key: key, RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Account: "default", Function: "echo",
						Reply: "_INBOX.a.b", Reason: schema.ReasonUnreserved, Attempt: 1, Payload: make([]byte, 64)},
					Subject: subject, Environment: id, Arc: "u.17", Manager: "m1", Start: schema.StartWarm, Ended: func(*schema.Run, *schema.Outcome) {},
				}
				began := time.Now()
				w.Start(run)
				<-answered
				took := float64(time.Since(began).Nanoseconds()) / 1e3
				<-parked
				if call == 0 {
					first[i] = append(first[i], took)
				} else {
					warm[i] = append(warm[i], took)
				}
			}
			w.End(id)
			<-gone
		}
	}
	middle := func(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }
	for i, name := range [2]string{"plain", "tenant"} {
		b.ReportMetric(middle(first[i]), name+"-first-us")
		b.ReportMetric(middle(warm[i]), name+"-warm-us")
	}
	b.ReportMetric(middle(first[1])-middle(first[0]), "bind-us")
}

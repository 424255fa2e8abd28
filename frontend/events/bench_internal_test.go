package events

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// readsHeaders is the part of a frontend that reading an event needs.
type readsHeaders struct{ Runner }

func (readsHeaders) ReadHeaders(*schema.Request, nats.Header) error { return nil }

func (readsHeaders) Lookup(context.Context, string, string) (bool, error) { return true, nil }

// BenchmarkRead is what a delivery costs before its try begins: identity, subject, event, request.
func BenchmarkRead(b *testing.B) {
	names, err := subjects.NewNames("")
	if err != nil {
		b.Fatal(err)
	}
	m := &nats.Msg{Subject: names.Event(subjects.DefaultAccount, "resize", ""), Data: make([]byte, 128)}
	created := time.Unix(1_800_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		e, err := accepted(readsHeaders{}, names, subjects.DefaultAccount, identity(subjects.DefaultAccount, created, 17), created, m)
		if err != nil {
			b.Fatal(err)
		}
		if q := request(&e); q.Function != "resize" || tryOf(&e) == "" {
			b.Fatalf("%+v", q)
		}
	}
}

// BenchmarkDecide is the decision after a try, for its usual ends.
func BenchmarkDecide(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	e := schema.Event{V: schema.Version, ID: "default/x/17", Account: subjects.DefaultAccount, Function: "resize", Accepted: now}
	for name, r := range map[string]Result{
		"done":           {Answer: &schema.Answer{Payload: []byte("1")}},
		"function error": {Answer: &schema.Answer{Payload: []byte("{}"), Header: map[string][]string{schema.HeaderFunctionError: {"Unhandled"}}}},
		"throttled":      {Err: schema.Errorf(schema.CodeThrottled, "full")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide(e, r, limitsOf(nil), now)
			}
		})
	}
}

package schema_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

func sampleEvent() schema.Event {
	return schema.Event{
		V: schema.Version, ID: "default/dbmhpzy8k0w0/17", RequestID: "8476a536-e9f4-4de8-9739-2dfe598c3fcd", Account: "default", Function: "resize",
		Qualifier: "live", Payload: make([]byte, 128), Accepted: time.Unix(1_800_000_000, 123).UTC(), Attempts: 1,
		LastError: &schema.EventError{Code: "Unhandled", Message: "as asked", Status: 200, Body: []byte(`{"errorMessage":"as asked"}`), Version: "7"},
	}
}

// An event has its whole context on RETRIES, and a dead letter has the event.
func TestEventsComeBackWhole(t *testing.T) {
	t.Parallel()
	e := sampleEvent()
	enc, err := schema.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var again schema.Event
	if err := schema.Unmarshal(enc, &again); err != nil {
		t.Fatal(err)
	}
	if again.Accepted = again.Accepted.UTC(); !reflect.DeepEqual(e, again) {
		t.Errorf("%+v, want %+v", again, e)
	}
	dead := schema.DeadLetter{V: schema.Version, Event: e, Reason: schema.DeadRetriesExhausted, Error: e.LastError, Died: e.Accepted}
	if enc, err = schema.Marshal(dead); err != nil {
		t.Fatal(err)
	}
	var read schema.DeadLetter
	if err := schema.Unmarshal(enc, &read); err != nil {
		t.Fatal(err)
	}
	read.Died, read.Event.Accepted = read.Died.UTC(), read.Event.Accepted.UTC()
	if !reflect.DeepEqual(dead, read) {
		t.Errorf("%+v, want %+v", read, dead)
	}
}

// BenchmarkEvent is what a retry costs beside its publish: the event is written once and read once.
func BenchmarkEvent(b *testing.B) {
	e := sampleEvent()
	enc, err := schema.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := schema.Marshal(e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var again schema.Event
			if err := schema.Unmarshal(enc, &again); err != nil {
				b.Fatal(err)
			}
		}
	})
}

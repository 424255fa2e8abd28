package control_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Headers of a stored message are its writer's: one that looks like the server's word that there is nothing, or that something is wrong, hides
// no other (SECURITY 2).
func TestListedBehindAForgedStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "0"), nil))
	to := b.Names.Event(subjects.DefaultAccount, "f", "")
	for _, status := range []string{"404", "500", "100", ""} {
		b.publish(t, b.Names.Dead(subjects.DefaultAccount, "f"), nil, nats.Header{schema.HeaderStatus: {status}, "Nats-Sequence": {"1"}})
		b.publish(t, to, nil, nats.Header{schema.HeaderStatus: {status}, "Description": {"no"}, "Nats-Sequence": {"1"}, "Nats-Subject": {"hearth.event.default.g"}})
	}
	b.publish(t, to, []byte("the last"), nil)
	letter := b.letter(t, "f", []byte("{}"))
	if all := b.letters(t, object{}); len(all) != 5 || all[4].ID != letter {
		t.Errorf("letters: %+v", all)
	}
	m := b.ask(t, subjects.DefaultAccount, "ListEvents", text(t, object{"FunctionName": "f"}))
	var out schema.EventsOutput
	if err := json.Unmarshal(m.Data, &out); err != nil || m.Header.Get(schema.HeaderError) != "" {
		t.Fatalf("%s %v", m.Header.Get(schema.HeaderError), err)
	}
	if len(out.Events) != 5 || out.Events[4].Bytes != 8 {
		t.Errorf("listed %+v", out.Events)
	}
}

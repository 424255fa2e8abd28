package control_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// publish puts a message into a stream, as a poller would.
func (b *bundle) publish(t *testing.T, subject string, record any, header nats.Header) uint64 {
	t.Helper()
	data, raw := record.([]byte)
	if !raw {
		var err error
		if data, err = schema.Marshal(record); err != nil {
			t.Fatal(err)
		}
	}
	ack, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: data, Header: header})
	if err != nil {
		t.Fatalf("publish to %s: %v", subject, err)
	}
	return ack.Sequence
}

var accepted = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// letter buries an event of a function.
func (b *bundle) letter(t *testing.T, function string, payload []byte, change ...func(*schema.DeadLetter)) string {
	t.Helper()
	d := &schema.DeadLetter{
		V: schema.Version, Reason: schema.DeadRetriesExhausted, Died: accepted.Add(time.Hour),
		Error: &schema.EventError{Code: "TypeError", Message: "no", Status: 200},
		Event: schema.Event{
			V: schema.Version, ID: "default/1/7", RequestID: "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001", Account: subjects.DefaultAccount, Function: function,
			Payload: payload, Accepted: accepted, Attempts: 3,
		},
	}
	for _, f := range change {
		f(d)
	}
	return fmt.Sprint(b.publish(t, b.Names.Dead(subjects.DefaultAccount, function), d, nil))
}

func (b *bundle) letters(t *testing.T, request object) []schema.DeadLetterItem {
	t.Helper()
	var all []schema.DeadLetterItem
	for marker := ""; ; {
		ask := object{"Marker": marker}
		for k, v := range request {
			ask[k] = v
		}
		m := b.ask(t, subjects.DefaultAccount, "ListDeadLetters", text(t, ask))
		var out schema.DeadLettersOutput
		if err := json.Unmarshal(m.Data, &out); err != nil || m.Header.Get(schema.HeaderError) != "" {
			t.Fatalf("%s %v", m.Header.Get(schema.HeaderError), err)
		}
		all = append(all, out.DeadLetters...)
		if marker = out.NextMarker; marker == "" {
			return all
		}
	}
}

func (b *bundle) take(t *testing.T, operation string, request any) (out schema.DeadLettersDone) {
	t.Helper()
	m := b.ask(t, subjects.DefaultAccount, operation, text(t, request))
	if err := json.Unmarshal(m.Data, &out); err != nil || m.Header.Get(schema.HeaderError) != "" {
		t.Fatalf("%s: %s %v", operation, m.Header.Get(schema.HeaderError), err)
	}
	return out
}

// nextEvent is what was published to the stream of events next.
func nextEvent(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (b *bundle) events(t *testing.T) *nats.Subscription {
	t.Helper()
	sub, err := b.nc.SubscribeSync(b.Names.EventsOf(subjects.DefaultAccount))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

func TestDeadLettersAreListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "0"), nil))
	first := b.letter(t, "f", []byte(`{"n": 12345678901234567890, "a": "<1.10>"}`), func(d *schema.DeadLetter) { d.Event.Qualifier, d.Event.Tenant = "live", "acme" })
	words := b.letter(t, "gone", []byte("no JSON"), func(d *schema.DeadLetter) { d.Reason, d.Error = schema.DeadInvalid, nil })
	bytes := b.letter(t, "f", []byte{0xff, 0})
	// One payload that JSON writes six times as long: the page ends before it and the next one has it.
	large := b.letter(t, "f", []byte(strings.Repeat("\x01", 1<<20-2)))
	last := b.letter(t, "f", []byte("[]"))

	all := b.letters(t, object{"MaxItems": 2})
	var ids []string
	for _, item := range all {
		ids = append(ids, item.ID)
	}
	if !slices.Equal(ids, []string{first, words, bytes, large, last}) {
		t.Fatalf("listed %v", ids)
	}
	got := all[0]
	if got.Function != "f" || got.Qualifier != "live" || got.Tenant != "acme" || got.RequestID != "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001" ||
		got.Reason != schema.DeadRetriesExhausted || got.Error == nil || got.Error.Code != "TypeError" || got.Attempts != 3 ||
		!got.Accepted.Equal(accepted) || !got.Died.Equal(accepted.Add(time.Hour)) || string(got.Payload) != `{"n":12345678901234567890,"a":"<1.10>"}` || got.Bytes != 42 {
		t.Errorf("%+v", got)
	}
	if string(all[1].Payload) != `"no JSON"` || all[1].Base64 || string(all[2].Payload) != `"/wA="` || !all[2].Base64 ||
		len(all[3].Payload) != len(`\u0001`)*(1<<20-2)+2 {
		t.Errorf("payloads of %+v, %+v", all[1], all[2])
	}
	if of := b.letters(t, object{"FunctionName": "gone"}); len(of) != 1 || of[0].ID != words {
		t.Errorf("of a function that is gone: %+v", of)
	}
	if some := b.letters(t, object{"Ids": []string{last, "4711", first}}); len(some) != 2 || some[0].ID != last || some[1].ID != first {
		t.Errorf("by ids: %+v", some)
	}
	if none := b.letters(t, object{"FunctionName": "f"}); len(none) != 4 {
		t.Errorf("of f: %d", len(none))
	}
	b.refused(t, schema.CodeNotFound, "ListDeadLetters", object{"FunctionName": "nobody"})
	b.refused(t, schema.CodeInvalidParameter, "ListDeadLetters", object{"Ids": []string{"01"}})
	b.refused(t, schema.CodeInvalidParameter, "ListDeadLetters", object{"Marker": "x"})
	b.refused(t, schema.CodeInvalidParameter, "ListEvents", object{"Ids": []string{"1"}, "FunctionName": "f"})
}

// A redriven dead letter is an event again, with all that its caller said, and no dead letter any more.
// A time that JSON cannot write hides no letter, and no event that waits.
func TestListsSurviveTimesThatJSONCannotWrite(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "0"), nil))
	far := time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)
	b.letter(t, "f", []byte(`1`), func(d *schema.DeadLetter) { d.Died, d.Event.Accepted = far, far })
	good := b.letter(t, "f", []byte(`2`))
	if all := b.letters(t, object{}); len(all) != 2 || !all[0].Died.IsZero() || !all[0].Accepted.IsZero() || all[1].ID != good {
		t.Errorf("%+v", all)
	}
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	published := b.events(t)
	named := b.letter(t, "f", []byte(`{"n": 1}`), func(d *schema.DeadLetter) {
		d.Event.Qualifier, d.Event.Tenant, d.Event.BySubject, d.Event.ClientContext = "live", "acme", true, []byte(`{"custom":{}}`)
		d.Event.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	})
	b.letter(t, "f", []byte("2"), func(d *schema.DeadLetter) { d.Event.Tenant = "acme" })
	stray := b.letter(t, "default..x", []byte("3"))

	if out := b.take(t, "RedriveDeadLetters", object{"Ids": []string{named, "4711", stray, named}}); out.Done != 1 ||
		!slices.Equal(out.Missing, []string{"4711"}) || !slices.Equal(out.Failed, []string{stray}) {
		t.Errorf("%+v", out)
	}
	m := nextEvent(t, published)
	if m.Subject != b.Names.Event(subjects.DefaultAccount, "f", "acme") || string(m.Data) != `{"n": 1}` {
		t.Errorf("published %s on %s", m.Data, m.Subject)
	}
	for name, want := range map[string]string{
		schema.HeaderQualifier: "live", schema.HeaderTenant: "", schema.HeaderClientContext: `{"custom":{}}`,
		schema.HeaderRequestID: "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001", schema.HeaderTraceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if out := b.take(t, "RedriveDeadLetters", object{"FunctionName": "f"}); out.Done != 1 || out.NextMarker != "" {
		t.Errorf("the rest: %+v", out)
	}
	if m := nextEvent(t, published); m.Subject != b.Names.Event(subjects.DefaultAccount, "f", "") || m.Header.Get(schema.HeaderTenant) != "acme" {
		t.Errorf("published on %s with %v", m.Subject, m.Header)
	}
	if left := b.letters(t, nil); len(left) != 1 || left[0].ID != stray {
		t.Errorf("left: %+v", left)
	}
	if out := b.take(t, "DeleteDeadLetters", object{"All": true}); out.Done != 1 || len(b.letters(t, nil)) != 0 {
		t.Errorf("deleted: %+v", out)
	}
	for _, bad := range []object{{}, {"All": true, "FunctionName": "f"}, {"Ids": []string{"1"}, "Marker": "x"}, {"All": true, "Marker": "x"}, {"Ids": []string{"-1"}}} {
		b.refused(t, schema.CodeInvalidParameter, "RedriveDeadLetters", bad)
		b.refused(t, schema.CodeInvalidParameter, "DeleteDeadLetters", bad)
	}
	b.refused(t, schema.CodeNotFound, "RedriveDeadLetters", object{"FunctionName": "nobody"})
}

// Many at once redrive each dead letter once, through two frontends, and what dies meanwhile is left for the next time.
func TestRedriveAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.another(t)
	const letters, rivals = 40, 4
	for i := range letters {
		b.letter(t, "f", []byte(fmt.Sprint(i)))
	}
	p := pool.NewWithResults[int]()
	for range rivals {
		p.Go(func() int {
			m, err := b.nc.Request(b.Names.API(subjects.DefaultAccount, "RedriveDeadLetters"), []byte(`{"FunctionName":"f"}`), patience)
			var out schema.DeadLettersDone
			if err != nil || m.Header.Get(schema.HeaderError) != "" && !strings.HasPrefix(m.Header.Get(schema.HeaderErrorCode), "404") || json.Unmarshal(m.Data, &out) != nil {
				t.Errorf("%v, %v", m, err)
			}
			return out.Done
		})
	}
	done := 0
	for _, n := range p.Wait() {
		done += n
	}
	if done != letters {
		t.Errorf("%d were done, of %d", done, letters)
	}
	stream, err := b.js.Stream(t.Context(), b.Names.Events(subjects.DefaultAccount))
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.LastSeq; n != letters {
		t.Errorf("the stream took %d events for %d dead letters", n, letters)
	}
}

// A caller may not use up the ids of redrives: his event would pass for the redriven one, which would be gone.
func TestRedriveIsNotForestalled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.letter(t, "f", []byte("1"))
	for _, guess := range []string{"redrive/" + id, "redrive//" + id} {
		b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), []byte("forged"), nats.Header{schema.HeaderMsgID: {guess}})
	}
	published := b.events(t)
	if out := b.take(t, "RedriveDeadLetters", object{"Ids": []string{id}}); out.Done != 1 {
		t.Errorf("%+v", out)
	}
	if m := nextEvent(t, published); string(m.Data) != "1" {
		t.Errorf("redriven as %q", m.Data)
	}
	stream, err := b.js.Stream(t.Context(), b.Names.Events(subjects.DefaultAccount))
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.LastSeq; n != 3 {
		t.Errorf("%d events were taken, want 3", n)
	}
}

// A full stream of events refuses a redrive, and the dead letter stays.
func TestRedriveIntoAFullStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.letter(t, "f", []byte(strings.Repeat("x", 4096)))
	cfg := topology.Events(b.Names, subjects.DefaultAccount)
	cfg.MaxBytes = 1024
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	b.refused(t, schema.CodeCapacityExceeded, "RedriveDeadLetters", object{"Ids": []string{id}})
	if left := b.letters(t, nil); len(left) != 1 || left[0].ID != id {
		t.Errorf("left: %+v", left)
	}
}

// Events are counted where they lie, and listed in pages: the accepted ones, then those that wait for another try.
func TestEventsAreListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "0"), nil))
	list := func(request object) (out schema.EventsOutput) {
		t.Helper()
		m := b.ask(t, subjects.DefaultAccount, "ListEvents", text(t, request))
		if err := json.Unmarshal(m.Data, &out); err != nil || m.Header.Get(schema.HeaderError) != "" {
			t.Fatalf("%s %v", m.Header.Get(schema.HeaderError), err)
		}
		return out
	}
	if out := list(object{"FunctionName": "f"}); out.Waiting+out.Running+out.Retrying+out.DeadLetters != 0 || len(out.Events) != 0 || out.Events == nil {
		t.Errorf("of nothing: %+v", out)
	}
	b.refused(t, schema.CodeNotFound, "ListEvents", object{"FunctionName": "nobody"})

	b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), []byte("{}"), nats.Header{
		schema.HeaderRequestID: {"8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001"}, schema.HeaderQualifier: {"live"},
	})
	b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", "acme"), []byte("22"), nil)
	b.publish(t, b.Names.Event(subjects.DefaultAccount, "ff", ""), []byte("of another"), nil)
	b.publish(t, b.Names.Event(subjects.DefaultAccount, "f", ""), []byte("333"), nil)
	due := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	retry := &schema.Event{
		V: schema.Version, ID: "default/1/9", RequestID: "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0002", Account: subjects.DefaultAccount, Function: "f",
		Payload: []byte("4444"), Accepted: accepted, Attempts: 1, LastError: &schema.EventError{Code: "TypeError", Message: "no", Status: 200},
	}
	b.publish(t, b.Names.RetryHeld(subjects.DefaultAccount, "f", "default/1/9/1/0"), retry, nats.Header{
		jetstream.ScheduleHeader: {"@at " + due.Format(time.RFC3339)}, jetstream.ScheduleTargetHeader: {b.Names.RetryDue(subjects.DefaultAccount, "f")},
	})
	b.publish(t, b.Names.RetryDue(subjects.DefaultAccount, "f"), retry, nil)
	b.letter(t, "f", []byte("5"))
	// One is out at a poller.
	consumer, err := b.js.CreateConsumer(t.Context(), b.Names.Events(subjects.DefaultAccount), jetstream.ConsumerConfig{
		Durable: b.Names.EventDurable(subjects.DefaultAccount, "f"), AckPolicy: jetstream.AckExplicitPolicy, FilterSubjects: b.Names.EventFilters(subjects.DefaultAccount, "f"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(jetstream.FetchMaxWait(patience)); err != nil {
		t.Fatal(err)
	}

	counted := func(out schema.EventsOutput) {
		t.Helper()
		rows := make(map[string]uint64)
		for _, e := range out.Events {
			rows[e.State]++
		}
		if rows["waiting"] != out.Waiting || rows["running"] != out.Running || rows["retrying"] != out.Retrying {
			t.Errorf("%v are listed, %d waiting, %d running, %d retrying counted", rows, out.Waiting, out.Running, out.Retrying)
		}
	}
	whole := list(object{"FunctionName": "f"})
	counted(whole)
	if whole.FunctionName != "f" || whole.Waiting != 2 || whole.Running != 1 || whole.Retrying != 2 || whole.DeadLetters != 1 {
		t.Errorf("%+v", whole)
	}
	for size := 1; size <= 6; size++ {
		var items []schema.EventItem
		pages := 0
		for marker := ""; ; pages++ {
			out := list(object{"FunctionName": "f", "MaxItems": size, "Marker": marker})
			items = append(items, out.Events...)
			if marker = out.NextMarker; marker == "" || pages > 10 {
				break
			}
		}
		if fmt.Sprintf("%+v", pointless(items)) != fmt.Sprintf("%+v", pointless(whole.Events)) {
			t.Errorf("in pages of %d: %+v", size, items)
		}
	}
	if len(whole.Events) != 5 {
		t.Fatalf("%d items", len(whole.Events))
	}
	one, two, held := whole.Events[0], whole.Events[1], whole.Events[3]
	if one.State != "running" || one.RequestID != "8d2f9f3a-3a44-4d0b-9b3e-7a2c4a5f0001" || one.Qualifier != "live" || one.Bytes != 2 || one.Due != nil {
		t.Errorf("%+v", one)
	}
	if two.State != "waiting" || two.Tenant != "acme" || two.Sequence != 2 {
		t.Errorf("%+v", two)
	}
	if held.State != "retrying" || held.Attempts != 1 || held.Due == nil || !held.Due.Equal(due) || held.LastError == nil || held.Bytes != 4 || !held.Accepted.Equal(accepted) {
		t.Errorf("%+v", held)
	}

	// The due one is out too: the retry that is held still is not.
	if consumer, err = b.js.CreateConsumer(t.Context(), b.Names.Stream(topology.Retries), jetstream.ConsumerConfig{
		Durable: b.Names.EventDurable(subjects.DefaultAccount, "f"), AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: b.Names.RetryDue(subjects.DefaultAccount, "f"),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(jetstream.FetchMaxWait(patience)); err != nil {
		t.Fatal(err)
	}
	whole = list(object{"FunctionName": "f"})
	counted(whole)
	if whole.Running != 2 || whole.Events[3].State != "retrying" || whole.Events[4].State != "running" {
		t.Errorf("%+v", whole)
	}
}

// pointless are items without their pointers, whose addresses differ.
func pointless(items []schema.EventItem) []schema.EventItem {
	out := slices.Clone(items)
	for i := range out {
		out[i].Due, out[i].LastError = nil, nil
	}
	return out
}

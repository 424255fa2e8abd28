package manager_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/manager"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// agree gets the managers' key for the folder of a manager.
func agree(t testing.TB, f *natstest.Fabric, id, dir string, within time.Duration) (*seal.Key, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return manager.AgreeKey(ctx, f.Connect(t), manager.KeyRequest{Names: f.Names, Manager: id, Dir: dir, Patience: within})
}

// holds sets a manager up with this key.
func holds(key *seal.Key) setting {
	return func(c *manager.Config, _ *echoWorker) {
		c.Seal = &schema.SealKeyRecord{V: schema.Version, KeyID: key.ID(), Public: key.Public()}
		c.HandOver = key.HandOver
	}
}

// Of managers that start a fabric at once exactly one key wins, and the others get it from who has it once it is on the
// ring. Each keeps it in its folder, and nothing else.
func TestManagersAgreeOnOneKey(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	var all conc.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		all.Go(func() {
			id := "m" + string(rune('1'+i))
			dir := t.TempDir()
			key, err := agree(t, f, id, dir, patience)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = key.ID()
			if kept, err := seal.Load(dir); err != nil || kept.ID() != key.ID() {
				t.Errorf("%s keeps %v, %v", id, kept, err)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("in the folder of %s: %v, %v", id, files, err)
			}
			if info, err := os.Stat(filepath.Join(dir, seal.FileName)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info, err)
			}
			n := newNode(t, f, f.Connect(t), id, holds(key))
			if err := n.Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("keys %v", ids)
		}
	}
}

// A start that died after it published its proposal finds it again: no key is lost that variables were sealed to.
func TestProposalOutlivesACrash(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	dir := t.TempDir()
	first, err := agree(t, f, "m1", dir, patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, seal.FileName), filepath.Join(dir, seal.DraftName)); err != nil {
		t.Fatal(err)
	}
	again, err := agree(t, f, "m1", dir, time.Millisecond)
	if err != nil || again.ID() != first.ID() {
		t.Errorf("after the crash: %v, %v", again, err)
	}
}

// Who asks under the id of a manager that runs is told so, and not that nobody has the key.
func TestKeyForAnIDThatIsHeld(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	key, err := agree(t, f, "m1", t.TempDir(), patience)
	if err != nil {
		t.Fatal(err)
	}
	startNode(t, f, f.Connect(t), "m1", holds(key))
	_, err = agree(t, f, "m1", t.TempDir(), patience)
	if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), `manager id "m1" is held by another process`) {
		t.Errorf("%v, want that the id is held", err)
	}
}

func TestKeyThatNobodyGives(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	key, err := agree(t, f, "m1", t.TempDir(), patience)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	refused := func(says ...string) {
		t.Helper()
		text := ""
		natstest.Eventually(t, patience, func() bool { // until it has found all of them on the ring
			_, err := agree(t, f, "m2", dir, time.Second)
			if schema.CodeOf(err) != schema.CodeConflict {
				t.Fatalf("%v, want %s", err, schema.CodeConflict)
			}
			text = err.Error()
			return !slices.ContainsFunc(says, func(part string) bool { return !strings.Contains(text, part) })
		}, fmt.Sprintf("it says %q", says))
		for _, part := range []string{key.ID(), dir, seal.FileName} {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not say %q", text, part)
			}
		}
	}
	refused("nobody else is on the ring", "if every copy is lost", "new fabric")
	// One that holds none, and one that gives a foreign one, which bucket keys does not name.
	startNode(t, f, f.Connect(t), "m3", func(c *manager.Config, _ *echoWorker) { c.Seal = nil })
	refused("m3")
	foreign, err := seal.Draft(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startNode(t, f, f.Connect(t), "m4", func(c *manager.Config, _ *echoWorker) { c.HandOver = foreign.HandOver })
	refused("m3", "m4")
	if _, err := seal.Load(dir); err == nil {
		t.Error("it kept a key all the same")
	}
	startNode(t, f, f.Connect(t), "m5", holds(key))
	if got, err := agree(t, f, "m2", dir, patience); err != nil || got.ID() != key.ID() {
		t.Errorf("with one that has it: %v, %v", got, err)
	}
}

// Where variables are sealed to a key that nobody names any more, no other key takes its place: neither one that a folder without
// any would propose, nor one that a manager brings along. Whoever has the right one is taken.
func TestNoKeyTakesThePlaceOfALostOne(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	lost, other := t.TempDir(), t.TempDir()
	key, err := agree(t, f, "m1", lost, patience)
	if err != nil {
		t.Fatal(err)
	}
	record, err := seal.Seal(key.Public(), "id.1", schema.Variables{"A": "b"})
	if err != nil {
		t.Fatal(err)
	}
	value, err := schema.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	bucket := func(kind string) jetstream.KeyValue {
		kv, err := f.JetStream(t).KeyValue(t.Context(), f.Names.Bucket(kind))
		if err != nil {
			t.Fatal(err)
		}
		return kv
	}
	if _, err := bucket(topology.Secrets).Put(t.Context(), "id.1", value); err != nil {
		t.Fatal(err)
	}
	keys := bucket(topology.Keys)
	if err := keys.Delete(t.Context(), schema.SealKeyName); err != nil { // a bucket that was lost and made again
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), key.ID()) || !strings.Contains(err.Error(), "new fabric") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := keys.Get(t.Context(), schema.SealKeyName); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("%s: a key was published: %v", what, err)
		}
	}
	_, err = agree(t, f, "m2", other, time.Second)
	refused("a folder without a key", err)
	if _, err := seal.Load(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it kept a key: %v", err)
	}
	foreign, err := seal.Draft(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, f, f.Connect(t), "m3", holds(foreign))
	refused("a manager with another key", n.Start(t.Context()))
	startNode(t, f, f.Connect(t), "m1", holds(key))
	if got, err := agree(t, f, "m2", other, patience); err != nil || got.ID() != key.ID() {
		t.Errorf("after the one that has it came: %v, %v", got, err)
	}
}

// The key goes to an inbox of the manager that asks and nowhere else, whoever manages to ask.
func TestKeyGoesToManagersOnly(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	key, err := agree(t, f, "m1", t.TempDir(), patience)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, f, f.Connect(t), "m1", holds(key))
	nc := f.Connect(t)
	heard, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	wish, err := seal.NewWish()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(who string) []byte {
		b, err := schema.Marshal(schema.KeyAsk{V: schema.Version, Manager: who, Public: wish.Public()})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	short, err := schema.Marshal(schema.KeyAsk{V: schema.Version, Manager: "m2", Public: make([]byte, 31)})
	if err != nil {
		t.Fatal(err)
	}
	bad := []struct {
		reply string
		body  []byte
	}{
		{subjects.FrontendInbox("f1", "x"), ask("m2")}, {subjects.FrontendInbox("m2", "x"), ask("m2")}, {"_INBOX.x", ask("m2")},
		{"", ask("m2")}, {subjects.ManagerInbox("m3", "x"), ask("m2")}, {subjects.ManagerInbox("m2", "*"), ask("m2")},
		{subjects.ManagerInbox("m2", "x"), ask("")}, {"_HM.", ask("")}, {"$KV.HEARTH_keys.seal", ask("m2")},
		{subjects.ManagerInbox("m2", "x"), []byte{0xdd, 0xff, 0xff, 0xff, 0xff}}, {subjects.ManagerInbox("m2", "x"), nil},
		{subjects.ManagerInbox("m2", "x"), short},
	}
	for _, b := range bad {
		if err := nc.PublishMsg(&nats.Msg{Subject: f.Names.ManagerKey("m1"), Reply: b.reply, Data: b.body}); err != nil {
			t.Fatal(err)
		}
	}
	// The last one is in order, so that all have been looked at when it is answered.
	if err := nc.PublishMsg(&nats.Msg{Subject: f.Names.ManagerKey("m1"), Reply: subjects.ManagerInbox("m2", "good"), Data: ask("m2")}); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := heard.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var answer schema.KeyAnswer
		if m.Subject == f.Names.ManagerKey("m1") || schema.Unmarshal(m.Data, &answer) != nil || len(answer.Sealed) == 0 {
			continue // questions, statuses, leases
		}
		if m.Subject != subjects.ManagerInbox("m2", "good") {
			t.Fatalf("the key went to %q", m.Subject)
		}
		if got, err := wish.Open(answer.Sealed, key.ID()); err != nil || got.ID() != key.ID() {
			t.Errorf("%v, %v", got, err)
		}
		break
	}
	if got := n.Counters().Garbage; got != int64(len(bad)-1) { // the short key is one of ours and only not answered
		t.Errorf("%d questions were counted as bad, want %d", got, len(bad)-1)
	}
}

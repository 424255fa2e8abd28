package tokens_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/manager/tokens"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// clock is moved by hand: passes moves both hands, jump the wall's alone.
type clock struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func newClock() *clock { return &clock{wall: time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)} }

func (c *clock) passes(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *clock) clock() tokens.Clock {
	return tokens.Clock{Wall: c.now, Mono: func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mono
	}}
}

type bench struct {
	*natstest.Fabric
	t     testing.TB
	clock *clock
	nc    *nats.Conn
	kv    jetstream.KeyValue
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{Fabric: natstest.Start(t), t: t, clock: newClock()}
	b.nc = b.Connect(t)
	var err error
	if b.kv, err = natstest.JetStream(t, b.nc).KeyValue(t.Context(), b.Names.Bucket(topology.Keys)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) keys(id, dir string) *tokens.Keys {
	b.t.Helper()
	k, err := tokens.New(b.nc, tokens.Config{Manager: id, Names: b.Names, Dir: dir, Clock: b.clock.clock()})
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

func (b *bench) start(id, dir string) *tokens.Keys {
	b.t.Helper()
	k := b.keys(id, dir)
	if err := k.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.stop(k) })
	return k
}

func (b *bench) stop(k *tokens.Keys) {
	if err := k.Stop(context.WithoutCancel(b.t.Context())); err != nil {
		b.t.Error(err)
	}
}

// turn has the keys look at the clocks.
func (b *bench) turn(k *tokens.Keys) {
	b.t.Helper()
	if err := k.Turn(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// set is the JWKS of all managers now.
func (b *bench) set() token.Set {
	b.t.Helper()
	var records []schema.TokenKeysRecord
	names, err := b.kv.ListKeysFiltered(b.t.Context(), schema.TokenKeysName("*"))
	if err != nil {
		b.t.Fatal(err)
	}
	for name := range names.Keys() {
		entry, err := b.kv.Get(b.t.Context(), name)
		if err != nil {
			b.t.Fatal(err)
		}
		var r schema.TokenKeysRecord
		if err := schema.Unmarshal(entry.Value(), &r); err != nil {
			b.t.Fatal(err)
		}
		if name != schema.TokenKeysName(subjects.Escape(r.Manager)) {
			b.t.Errorf("%s is of manager %s", name, r.Manager)
		}
		records = append(records, r)
	}
	return token.Union(records, b.clock.now())
}

// signs gives a token's text and the key that signed it, after everybody's check of it.
func (b *bench) signs(k *tokens.Keys) (text, kid string) {
	b.t.Helper()
	got, err := k.Token(b.t.Context(), subject())
	if err != nil {
		b.t.Fatal(err)
	}
	return got.Text, b.good(got.Text)
}

// good is the name of the key with which a token is good now.
func (b *bench) good(text string) (kid string) {
	b.t.Helper()
	set := b.set()
	c := token.Check{Keys: set, Issuer: "hearth", Audience: "db", Now: b.clock.now()}
	if _, err := c.Verify(text); err != nil {
		b.t.Fatalf("%v, among %v", err, set)
	}
	for _, one := range set.Keys {
		c.Keys = token.Set{Keys: []schema.TokenJWK{one}}
		if _, err := c.Verify(text); err == nil {
			return one.ID
		}
	}
	return ""
}

func (b *bench) served(kid string) bool {
	b.t.Helper()
	set := b.set()
	_, ok := set.Find(kid)
	return ok
}

func subject() token.Subject {
	return token.Subject{Issuer: "hearth", Account: "default", Tenant: "a", Function: "f", Version: "1", Environment: "e", Audiences: []string{"db"}}
}

// TestRotation: the first key signs at once; the next is published first and signs 10 min later, no sooner; the last is served
// for 30 min after it signed for the last time, and not for ever.
func TestRotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.start("m1", t.TempDir())
	_, first := b.signs(k)
	for range 24*4 - 1 { // it is looked after all the while
		b.clock.passes(15 * time.Minute)
		b.turn(k)
		if _, kid := b.signs(k); kid != first || len(b.set().Keys) != 1 {
			t.Fatalf("another key after %v", b.clock.mono)
		}
	}
	b.clock.passes(15 * time.Minute)
	b.turn(k)
	if n := len(b.set().Keys); n != 2 {
		t.Fatalf("%d keys after a day, want the next one beside that which signs", n)
	}
	b.clock.passes(10*time.Minute - time.Second)
	b.turn(k)
	last, kid := b.signs(k)
	if kid != first {
		t.Fatal("the next key signs before it was published for 10 min")
	}
	b.clock.passes(time.Second)
	b.turn(k)
	_, second := b.signs(k)
	if second == first {
		t.Fatal("the next key does not sign after 10 min")
	}
	b.clock.passes(token.MaxLife - 2*time.Second) // last was signed a second before the turn
	b.turn(k)
	b.good(last)
	b.clock.passes(15*time.Minute + time.Second)
	b.turn(k)
	if !b.served(first) {
		t.Error("the last key went before its 30 min")
	}
	b.clock.passes(time.Second)
	b.turn(k)
	if b.served(first) || !b.served(second) {
		t.Error("the last key is served for ever, or the present one is not")
	}
}

// TestRestart: keys outlast it, also one that waits, which begins to wait anew.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dir := t.TempDir()
	k := b.start("m/1", dir)
	text, first := b.signs(k)
	path := filepath.Join(dir, tokens.FileName("m/1"))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the keys' file: %v, %v", info, err)
	}
	b.stop(k)
	if _, err := k.Token(t.Context(), subject()); schema.CodeOf(err) != schema.CodeUnavailable {
		t.Errorf("stopped, it says %v", err)
	}
	b.good(text) // what is published stays
	k = b.start("m/1", dir)
	if _, kid := b.signs(k); kid != first {
		t.Error("another key after a restart")
	}
	b.clock.passes(25 * time.Hour)
	b.turn(k) // the next one is there
	b.clock.passes(9 * time.Minute)
	b.stop(k)
	k = b.start("m/1", dir)
	b.clock.passes(9 * time.Minute)
	b.turn(k)
	if _, kid := b.signs(k); kid != first {
		t.Error("the next key signs 9 min after the restart")
	}
	b.clock.passes(time.Minute)
	b.turn(k)
	if _, kid := b.signs(k); kid == first {
		t.Error("the next key does not sign 10 min after the restart")
	}
}

// TestManagerGone: the JWKS has the keys of all, and those of one that never comes back for half an hour, at most one.
func TestManagerGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k1, k2 := b.start("m1", t.TempDir()), b.start("m2", t.TempDir())
	text, first := b.signs(k1)
	_, second := b.signs(k2)
	if first == second || len(b.set().Keys) != 2 {
		t.Fatalf("keys %s and %s, served %d", first, second, len(b.set().Keys))
	}
	b.stop(k1)
	b.clock.passes(token.MaxLife - time.Second)
	b.good(text)
	b.clock.passes(15 * time.Minute)
	if !b.served(first) {
		t.Error("its key is not served for 30 min")
	}
	b.clock.passes(31 * time.Minute)
	b.turn(k2)
	if b.served(first) || !b.served(second) {
		t.Error("its key is served for ever, or the other's is not")
	}
}

// TestClockJumps: whichever way, tokens are of the new time, their key is served long enough, and no key signs sooner.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{-24 * time.Hour, -40 * time.Minute, -time.Second, 40 * time.Minute, 48 * time.Hour} {
		b := setup(t)
		k := b.start("m1", t.TempDir())
		_, first := b.signs(k)
		b.clock.passes(24 * time.Hour)
		b.turn(k) // the next one waits
		b.clock.jump(jump)
		_, kid := b.signs(k) // at once, before anybody looked after the keys
		if kid != first {
			t.Errorf("%v: another key signs before its 10 min", jump)
		}
		b.clock.passes(30*time.Minute - time.Second)
		if !b.served(kid) {
			t.Errorf("%v: the key is not served for 30 min", jump)
		}
		b.turn(k) // now the next one signs
		_, second := b.signs(k)
		if second == first {
			t.Errorf("%v: the next key does not sign", jump)
		}
		b.clock.jump(-jump)
		b.turn(k)
		if !b.served(first) {
			t.Errorf("%v and back: the last key went", jump)
		}
		if _, kid := b.signs(k); kid != second || !b.served(second) {
			t.Errorf("%v and back: %s signs, not %s", jump, kid, second)
		}
		b.clock.passes(31 * time.Minute)
		b.turn(k)
		if b.served(first) {
			t.Errorf("%v: the last key stays", jump)
		}
	}
}

// TestNotPublished: a key that cannot be published for long enough signs nothing, and says so.
func TestNotPublished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.start("m1", t.TempDir())
	b.signs(k)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.clock.passes(30 * time.Minute)
	if _, err := k.Token(ctx, subject()); err != nil {
		t.Errorf("published for 30 min more, it says %v", err)
	}
	b.clock.passes(time.Second)
	got, err := k.Token(ctx, subject())
	if schema.CodeOf(err) != schema.CodeUnavailable || got.Text != "" {
		t.Errorf("it signs with a key that is not served long enough: %v", err)
	}
	b.signs(k) // and once it can, it does
}

// TestFileRefused: a file that others read or that is damaged is refused, and says what to do; nothing is made in its place.
func TestFileRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dir := t.TempDir()
	b.stop(b.start("m1", dir))
	path := filepath.Join(dir, tokens.FileName("m1"))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func() error{
		"chmod 600":  func() error { return os.Chmod(path, 0o640) },
		"is damaged": func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"not one of its keys signs": func() error {
			return os.WriteFile(path, []byte(strings.ReplaceAll(string(good), `"signing"`, `"retired"`)), 0o600)
		},
		"of manager": func() error {
			return os.WriteFile(path, []byte(strings.ReplaceAll(string(good), `"m1"`, `"m2"`)), 0o600)
		},
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		err := b.keys("m1", dir).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "seed") {
			t.Errorf("%s: %v", says, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left in the folder: %v, %v", files, err)
	}
}

// TestNoAudience: it says what to do.
func TestNoAudience(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.start("m1", t.TempDir())
	s := subject()
	s.Audiences = nil
	if _, err := k.Token(t.Context(), s); !errors.Is(err, &schema.Error{Code: schema.CodeInvalidParameter}) || !strings.Contains(err.Error(), "--audience") {
		t.Errorf("it says %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := tokens.Config{Rotate: time.Minute}
	var got []string
	for _, f := range c.Validate() {
		got = append(got, f.Field)
	}
	if want := []string{"Manager", "Names", "Dir", "Rotate"}; !slices.Equal(got, want) {
		t.Errorf("refused %v, want %v", got, want)
	}
	if _, err := tokens.New(nil, c); schema.CodeOf(err) != schema.CodeInvalidParameter {
		t.Error(err)
	}
}

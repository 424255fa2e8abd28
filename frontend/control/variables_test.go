package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const hush = "hush-8f14e45fceea167a"

func withToken(name, code, value string) object {
	return function(name, code, object{"Environment": object{"Variables": object{"TOKEN": value}}})
}

// TestValuesStaySealed looks for a value in everything that the service writes: records, answers, refusals, logs.
func TestValuesStaySealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	said := new(bytes.Buffer)
	for _, r := range []struct {
		operation string
		request   any
	}{
		{"CreateFunction", withToken("f", code, hush)},
		{"CreateFunction", withToken("f", code, hush)}, // is there already
		{"CreateFunction", function("g", code, object{"Environment": object{"Variables": object{"AWS_REGION": hush, "9": hush}}})},
		{"CreateFunction", function("g", code, object{"Environment": object{"Variables": object{"A_KEY": []string{hush}}}})},
		{"CreateFunction", function("g", code, object{"Environment": object{"Variables": object{"A_KEY": hush + "\x00"}}})},
		{"CreateFunction", function("g", code, object{"Environment": object{"Variables": object{"A_KEY": hush + strings.Repeat("x", 5000)}}})},
		{"UpdateFunctionConfiguration", object{"FunctionName": "f", "Environment": object{"Variables": object{"TOKEN": hush, "MORE": hush}}}},
		{"GetFunction", object{"FunctionName": "f"}},
		{"ListFunctions", object{"FunctionVersion": "ALL"}},
		{"PublishVersion", object{"FunctionName": "f"}},
	} {
		m := b.ask(t, subjects.DefaultAccount, r.operation, text(t, r.request))
		fmt.Fprintln(said, m.Header, string(m.Data))
	}
	if !strings.Contains(said.String(), `"TOKEN":"***"`) {
		t.Errorf("no answer names the variable:\n%s", said)
	}
	for what, written := range map[string]string{"an answer": said.String(), "the log": b.logs.String(), "a stream": b.everyMessage(t)} {
		if strings.Contains(written, hush) {
			t.Errorf("the value stands in %s", what)
		}
	}
	if got := b.variables(t, b.record(t, "f").Latest.SecretKey)["MORE"]; got != hush {
		t.Errorf("a manager opens %q", got)
	}
}

// everyMessage is all that any stream of the fabric holds.
func (b *bundle) everyMessage(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	for name := range b.streams(t) {
		stream, err := b.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := max(1, stream.CachedInfo().State.FirstSeq); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			m, err := stream.GetMsg(t.Context(), seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&all, m.Subject, m.Header, string(m.Data))
		}
	}
	return all.String()
}

func (b *bundle) streams(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, kind := range topology.Buckets() {
		names[topology.BucketStream(b.Names, kind)] = true
	}
	return names
}

func TestSealedSetOpensInItsPlaceAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	b.must(t, "CreateFunction", withToken("f", code, hush))
	b.must(t, "CreateFunction", withToken("g", code, "another"))
	f, g := b.record(t, "f").Latest.SecretKey, b.record(t, "g").Latest.SecretKey
	moved := b.sealed(t, f)
	moved.At = g
	if _, err := b.key.Open(moved); !errors.Is(err, seal.ErrMoved) {
		t.Errorf("a set moved to another function: %v, want %v", err, seal.ErrMoved)
	}
}

// order is bucket functions that checks, before a record is written, that what it refers to is there.
type order struct {
	jetstream.KeyValue
	t *testing.T
	b *bundle
	n int
}

func (o *order) check(value []byte) {
	var rec schema.FunctionRecord
	if err := schema.Unmarshal(value, &rec); err != nil {
		o.t.Error(err)
	}
	o.b.sealed(o.t, rec.Latest.SecretKey)
	o.n++
}

func (o *order) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	o.check(value)
	return o.KeyValue.Create(ctx, key, value, opts...)
}

func (o *order) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	o.check(value)
	return o.KeyValue.Update(ctx, key, value, revision)
}

func TestVariablesAreWrittenBeforeTheirRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := &order{t: t, b: b}
	b.service.WrapFunctions(func(kv jetstream.KeyValue) jetstream.KeyValue { o.KeyValue = kv; return o })
	b.must(t, "CreateFunction", withToken("f", b.putZip(t, "zero"), "1"))
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Environment": object{"Variables": object{"TOKEN": "2"}}})
	if o.n != 2 {
		t.Errorf("%d writes seen, want 2", o.n)
	}
}

// TestSealedSetsGoWithTheirLastVersion follows a function through its life.
func TestSealedSetsGoWithTheirLastVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	expect := func(when string, n int) {
		t.Helper()
		natstest.Eventually(t, time.Minute, func() bool { return len(b.secrets(t)) == n }, fmt.Sprintf("%s: %d sealed sets", when, n))
	}
	variables := func(value string) {
		t.Helper()
		b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Environment": object{"Variables": object{"TOKEN": value}}})
	}
	b.must(t, "CreateFunction", withToken("f", b.putZip(t, "zero"), "1"))
	expect("created", 1)
	variables("2")
	expect("replaced", 1)
	b.must(t, "PublishVersion", object{"FunctionName": "f"})
	variables("3")
	expect("a version keeps its own", 2)
	if got := b.variables(t, b.record(t, "f").Versions[0].SecretKey)["TOKEN"]; got != "2" {
		t.Errorf("version 1 has %q, want 2", got)
	}
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Timeout": 9})
	expect("another member changed", 2)
	b.must(t, "DeleteFunction", object{"FunctionName": "f", "Qualifier": "1"})
	expect("the version is gone", 1)
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Environment": object{"Variables": object{}}})
	expect("no variables any more", 0)
	variables("4")
	b.must(t, "PublishVersion", object{"FunctionName": "f"})
	variables("5")
	b.must(t, "DeleteFunction", object{"FunctionName": "f"})
	expect("the function is gone", 0)
}

// TestReplacedVariablesStayAWhile: calls that were accepted before a deploy may still need an environment with the
// variables that it replaced. A service that ends leaves none behind.
func TestReplacedVariablesStayAWhile(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *control.Config) { c.Keep = time.Hour })
	b.must(t, "CreateFunction", withToken("f", b.putZip(t, "zero"), "1"))
	before := b.record(t, "f").Latest.SecretKey
	b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Environment": object{"Variables": object{"TOKEN": "2"}}})
	if got := b.variables(t, before)["TOKEN"]; got != "1" {
		t.Errorf("a call from before the deploy finds %q, want 1", got)
	}
	if err := b.service.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys := b.secrets(t); len(keys) != 1 || keys[0] == before {
		t.Errorf("sealed sets %v after the end, want that of $LATEST alone", keys)
	}
}

// TestUnchangedDeployKeepsEnvironments: the same again changes no key of environments and makes no new version.
func TestUnchangedDeployKeepsEnvironments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	b.must(t, "CreateFunction", withToken("f", code, hush))
	b.must(t, "PublishVersion", object{"FunctionName": "f"})
	before := b.record(t, "f")
	deploy := func(value string) {
		t.Helper()
		b.must(t, "UpdateFunctionCode", object{"FunctionName": "f", "Code": object{"Sha256": code}})
		b.must(t, "UpdateFunctionConfiguration",
			object{"FunctionName": "f", "Runtime": "provided", "Environment": object{"Variables": object{"TOKEN": value}}})
		b.must(t, "PublishVersion", object{"FunctionName": "f"})
	}
	deploy(hush)
	same := b.record(t, "f")
	if schema.VersionKey(before, &before.Latest, "") != schema.VersionKey(same, &same.Latest, "") || len(same.Versions) != 1 {
		t.Errorf("the same deploy made %+v of %+v, %d versions", same.Latest.ConfigRevision, before.Latest.ConfigRevision, len(same.Versions))
	}
	deploy("another")
	other := b.record(t, "f")
	if schema.VersionKey(before, &before.Latest, "") == schema.VersionKey(other, &other.Latest, "") || len(other.Versions) != 2 {
		t.Errorf("another value made %+v of %+v, %d versions", other.Latest.ConfigRevision, before.Latest.ConfigRevision, len(other.Versions))
	}
}

func TestNoManagerNoVariables(t *testing.T) {
	t.Parallel()
	b := bare(t)
	code := b.putZip(t, "zero")
	body := b.refused(t, schema.CodeUnavailable, "CreateFunction", withToken("f", code, hush))
	if !strings.Contains(body.Message, "hearth up") {
		t.Errorf("%q does not say what to do", body.Message)
	}
	b.refused(t, schema.CodeNotFound, "GetFunction", object{"FunctionName": "f"})
	b.must(t, "CreateFunction", function("f", code, nil))
	if m := b.ask(t, subjects.FabricAccount, "GetFabric", "{}"); m.Header.Get(schema.HeaderErrorCode) != "503" {
		t.Errorf("GetFabric before any manager: %v", m.Header)
	}
}

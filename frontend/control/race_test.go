package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// meeting is bucket functions whose first readers wait for one another, so that all of them have read the same.
type meeting struct {
	jetstream.KeyValue
	once *sync.Once
	all  *sync.WaitGroup
}

func (m meeting) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	entry, err := m.KeyValue.Get(ctx, key)
	m.once.Do(func() {
		m.all.Done()
		m.all.Wait()
	})
	return entry, err
}

// rivals are n frontends' services whose next operations all begin with the same reading of a function.
func rivals(t *testing.T, b *bundle, n int) []*control.Service {
	t.Helper()
	var all sync.WaitGroup
	all.Add(n)
	services := make([]*control.Service, n)
	for i := range services {
		services[i] = b.another(t)
		services[i].WrapFunctions(func(kv jetstream.KeyValue) jetstream.KeyValue { return meeting{kv, new(sync.Once), &all} })
	}
	return services
}

// together runs one request on each service at once and gives the errors.
func together(t *testing.T, services []*control.Service, operation string, request func(i int) any) []error {
	t.Helper()
	errs := make([]error, len(services))
	requests := make([][]byte, len(services))
	for i := range services {
		requests[i] = []byte(text(t, request(i)))
	}
	var all conc.WaitGroup
	for i, s := range services {
		all.Go(func() { _, errs[i] = s.Do(t.Context(), subjects.DefaultAccount, operation, requests[i]) })
	}
	all.Wait()
	return errs
}

// oneWinner checks that exactly one of them went through and that the others were refused with this code and told who.
func oneWinner(t *testing.T, errs []error, code schema.Code, winner string) {
	t.Helper()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
		case schema.CodeOf(err) != code:
			t.Errorf("rival %d: %v, want %s", i, err, code)
		case !strings.Contains(err.Error(), winner):
			t.Errorf("rival %d: %v does not name the winner %s", i, err, winner)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d rivals went through, want 1", won, len(errs))
	}
}

func TestTwoCreatesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	codes := []string{b.putZip(t, "one"), b.putZip(t, "two"), b.putZip(t, "three")}
	errs := together(t, rivals(t, b, 3), "CreateFunction", func(i int) any {
		return function("f", codes[i], object{"Environment": object{"Variables": object{"WHO": fmt.Sprint("rival ", i)}}})
	})
	rec := b.record(t, "f")
	oneWinner(t, errs, schema.CodeConflict, rec.Latest.RevisionID)
	for i, err := range errs {
		if err == nil && (rec.Latest.CodeSHA256 != codes[i] || b.variables(t, rec.Latest.SecretKey)["WHO"] != fmt.Sprint("rival ", i)) {
			t.Errorf("the record is not the winner's")
		}
	}
	if keys := b.secrets(t); len(keys) != 1 {
		t.Errorf("sealed sets %v, want the winner's alone", keys)
	}
}

func TestTwoCodeDeploysAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), nil))
	codes := []string{b.putZip(t, "one"), b.putZip(t, "two")}
	errs := together(t, rivals(t, b, 2), "UpdateFunctionCode", func(i int) any {
		return object{"FunctionName": "f", "Code": object{"Sha256": codes[i]}, "Publish": true}
	})
	rec := b.record(t, "f")
	oneWinner(t, errs, schema.CodeConflict, rec.Latest.RevisionID)
	if len(rec.Versions) != 1 || rec.Versions[0].CodeSHA256 != rec.Latest.CodeSHA256 {
		t.Errorf("versions %v, want one, of the winner's code", rec.Versions)
	}
}

func TestTwoConfigurationsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), object{"Environment": object{"Variables": object{"WHO": "first"}}}))
	errs := together(t, rivals(t, b, 2), "UpdateFunctionConfiguration", func(i int) any {
		return object{"FunctionName": "f", "MemorySize": 256 + i, "Environment": object{"Variables": object{"WHO": fmt.Sprint(i)}}}
	})
	rec := b.record(t, "f")
	oneWinner(t, errs, schema.CodeConflict, rec.Latest.RevisionID)
	if got := b.variables(t, rec.Latest.SecretKey)["WHO"]; got != fmt.Sprint(rec.Latest.MemoryMB-256) {
		t.Errorf("memory of rival %d with the variables of rival %s", rec.Latest.MemoryMB-256, got)
	}
	natstest.Eventually(t, time.Minute, func() bool {
		keys := b.secrets(t)
		return len(keys) == 1 && keys[0] == rec.Latest.SecretKey
	}, "the winner's sealed set is there alone")
}

func TestStaleRevisionIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), nil))
	second := b.must(t, "UpdateFunctionConfiguration", object{"FunctionName": "f", "Timeout": 5})
	body := b.refused(t, schema.CodePrecondition, "UpdateFunctionConfiguration",
		object{"FunctionName": "f", "Timeout": 6, "RevisionId": first["RevisionId"]})
	if now := second["RevisionId"].(string); !strings.Contains(body.Message, now) {
		t.Errorf("%q does not name the present revision %s", body.Message, now)
	}
}

// TestDifferentAliasesAtOnce: what may follow any other change is applied again, not refused.
func TestDifferentAliasesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), object{"Publish": true}))
	for i, err := range together(t, rivals(t, b, 6), "CreateAlias", func(i int) any {
		return object{"FunctionName": "f", "Name": fmt.Sprint("a", i), "FunctionVersion": "1"}
	}) {
		if err != nil {
			t.Errorf("alias a%d: %v", i, err)
		}
	}
	if got := len(b.record(t, "f").Aliases); got != 6 {
		t.Errorf("%d aliases, want 6", got)
	}
}

func TestSameAliasAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.must(t, "CreateFunction", function("f", b.putZip(t, "zero"), object{"Publish": true}))
	b.must(t, "CreateAlias", object{"FunctionName": "f", "Name": "live", "FunctionVersion": "$LATEST"})
	errs := together(t, rivals(t, b, 2), "UpdateAlias", func(i int) any {
		return object{"FunctionName": "f", "Name": "live", "FunctionVersion": "1", "Description": fmt.Sprint(i)}
	})
	oneWinner(t, errs, schema.CodeConflict, b.record(t, "f").Aliases["live"].RevisionID)
}

// TestChangeMeetsDelete: a change that began before a function was deleted and made anew does not touch the new one,
// whether it is a deploy or one that may follow any other change.
func TestChangeMeetsDelete(t *testing.T) {
	t.Parallel()
	for operation, request := range map[string]string{
		"UpdateFunctionConfiguration": `{"FunctionName":"f","MemorySize":999,"Environment":{"Variables":{"TOKEN":"of the old one"}}}`,
		"CreateAlias":                 `{"FunctionName":"f","Name":"live","FunctionVersion":"$LATEST"}`,
	} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			code := b.putZip(t, "zero")
			b.must(t, "CreateFunction", function("f", code, nil))
			old := b.record(t, "f").ID
			slow := b.another(t)
			var once sync.Once
			slow.WrapFunctions(func(kv jetstream.KeyValue) jetstream.KeyValue {
				return hook{kv, func() {
					once.Do(func() {
						b.do(t, "DeleteFunction", object{"FunctionName": "f"})
						b.do(t, "CreateFunction", function("f", code, nil))
					})
				}}
			})
			_, err := slow.Do(t.Context(), subjects.DefaultAccount, operation, []byte(request))
			if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), "created again") {
				t.Errorf("%v, want %s", err, schema.CodeConflict)
			}
			rec := b.record(t, "f")
			if rec.ID == old || rec.Latest.MemoryMB != schema.DefaultMemoryMB || len(rec.Aliases) != 0 || len(b.secrets(t)) != 0 {
				t.Errorf("the new function is %+v, want it as it was made, under another id than %s", rec, old)
			}
		})
	}
}

// TestDeleteMeetsNewFunction: a deletion that had read a function spares the one that was made under its name since.
func TestDeleteMeetsNewFunction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "zero")
	b.must(t, "CreateFunction", function("f", code, nil))
	slow := b.another(t)
	var once sync.Once
	slow.WrapFunctions(func(kv jetstream.KeyValue) jetstream.KeyValue {
		return late{kv, func() {
			once.Do(func() {
				b.do(t, "DeleteFunction", object{"FunctionName": "f"})
				b.do(t, "CreateFunction", withToken("f", code, hush))
			})
		}}
	})
	_, err := slow.Do(t.Context(), subjects.DefaultAccount, "DeleteFunction", []byte(`{"FunctionName":"f"}`))
	if schema.CodeOf(err) != schema.CodeConflict || !strings.Contains(err.Error(), "created again") {
		t.Errorf("%v, want %s", err, schema.CodeConflict)
	}
	if got := b.variables(t, b.record(t, "f").Latest.SecretKey)["TOKEN"]; got != hush {
		t.Errorf("the new function has %q", got)
	}
}

// do runs an operation on the first service, where a request over NATS could go to any.
func (b *bundle) do(t *testing.T, operation string, request any) {
	t.Helper()
	if _, err := b.service.Do(t.Context(), subjects.DefaultAccount, operation, []byte(text(t, request))); err != nil {
		t.Errorf("%s: %v", operation, err)
	}
}

// late is bucket functions that runs something after each read.
type late struct {
	jetstream.KeyValue
	after func()
}

func (l late) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	defer l.after()
	return l.KeyValue.Get(ctx, key)
}

// hook is bucket functions that runs something before each compare-and-set.
type hook struct {
	jetstream.KeyValue
	before func()
}

func (h hook) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	h.before()
	return h.KeyValue.Update(ctx, key, value, revision)
}

// secrets are the keys in bucket secrets.
func (b *bundle) secrets(t *testing.T) []string {
	t.Helper()
	lister, err := b.bucket(t, topology.Secrets).ListKeys(t.Context())
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	return keys
}

// sealed reads a record of bucket secrets as a manager does.
func (b *bundle) sealed(t *testing.T, key string) schema.SecretRecord {
	t.Helper()
	entry, err := b.bucket(t, topology.Secrets).Get(t.Context(), key)
	if err != nil {
		t.Fatalf("sealed set %q: %v", key, err)
	}
	record := schema.SecretRecord{}
	if err := schema.Unmarshal(entry.Value(), &record); err != nil {
		t.Fatal(err)
	}
	record.At = key
	return record
}

// variables opens what lies under a key, as a manager does.
func (b *bundle) variables(t *testing.T, key string) schema.Variables {
	t.Helper()
	vars, err := b.key.Open(b.sealed(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return vars
}

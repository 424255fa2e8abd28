package control_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// A function whose record cannot be decoded hides no other one: lists go on without it, whoever asks for it hears what it is
// and what to do, and it can be deleted and deployed again.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "0")
	for _, name := range []string{"a", "b", "c", "d"} {
		b.must(t, "CreateFunction", function(name, code, nil))
	}
	newer := b.record(t, "c")
	key := func(name string) string { return subjects.DefaultAccount + "." + name }
	if _, err := b.bucket(t, topology.Functions).Put(t.Context(), key("b"), []byte("\x81\xa1vno record")); err != nil {
		t.Fatal(err)
	}
	value, err := schema.Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(value), "\xa1v\x01") // the version, whatever comes before it
	if i < 0 {
		t.Fatalf("%q", value[:16])
	}
	value[i+2] = 99
	if _, err := b.bucket(t, topology.Functions).Put(t.Context(), key("c"), value); err != nil {
		t.Fatal(err)
	}
	for _, request := range []object{{}, {"MaxItems": 1}, {"FunctionVersion": "ALL"}} {
		if got, _ := b.pagesOf(t, "ListFunctions", "Functions", request, nameAndVersion); !slices.Equal(got, []string{"a:$LATEST", "d:$LATEST"}) {
			t.Errorf("%v: %v", request, got)
		}
	}
	if logs := b.logs.String(); !strings.Contains(logs, "left out of the list") || !strings.Contains(logs, "function=b") {
		t.Errorf("the log does not name it: %s", logs)
	}
	for _, operation := range []string{"GetFunction", "ListVersionsByFunction", "DeleteFunction"} {
		if refused := b.refused(t, schema.CodeInternal, operation, object{"FunctionName": "c"}); !strings.Contains(refused.Message, "function c") ||
			!strings.Contains(refused.Message, "update this node") {
			t.Errorf("%s of a newer build's: %s", operation, refused.Message)
		}
	}
	for _, operation := range []string{"GetFunction", "GetFunctionConfiguration"} {
		if refused := b.refused(t, schema.CodeInternal, operation, object{"FunctionName": "b"}); !strings.Contains(refused.Message, "function b is damaged") ||
			!strings.Contains(refused.Message, "deploy it again") {
			t.Errorf("%s: %s", operation, refused.Message)
		}
	}
	b.must(t, "DeleteFunction", object{"FunctionName": "b"})
	b.must(t, "CreateFunction", function("b", code, nil))
	if got, _ := b.pagesOf(t, "ListFunctions", "Functions", object{}, nameAndVersion); !slices.Equal(got, []string{"a:$LATEST", "b:$LATEST", "d:$LATEST"}) {
		t.Errorf("then: %v", got)
	}
}

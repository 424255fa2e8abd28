package control_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// pagesOf lists all pages of an operation and gives one text an item.
func (b *bundle) pagesOf(t *testing.T, operation, member string, request object, item func(object) string) (items []string, pages int) {
	t.Helper()
	for marker := ""; ; {
		ask := object{"Marker": marker}
		for k, v := range request {
			ask[k] = v
		}
		out := b.must(t, operation, ask)
		pages++
		for _, i := range out[member].([]any) {
			items = append(items, item(i.(object)))
		}
		next, _ := out["NextMarker"].(string)
		if next == "" {
			return items, pages
		}
		if next == marker || pages > 1000 {
			t.Fatalf("%s does not get on from marker %q", operation, marker)
		}
		marker = next
	}
}

func nameAndVersion(o object) string { return fmt.Sprint(o["FunctionName"], ":", o["Version"]) }

func TestListsComeInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	codes := []string{b.putZip(t, "0"), b.putZip(t, "1")}
	var names, versions []string
	for i := range 53 {
		name := fmt.Sprintf("f-%02d", i)
		b.must(t, "CreateFunction", function(name, codes[0], object{"Publish": i%10 == 3}))
		names = append(names, name+":$LATEST")
		versions = append(versions, name+":$LATEST")
		if i%10 == 3 {
			versions = append(versions, name+":1")
		}
	}
	for size, pages := range map[int]int{0: 2, 7: 8, 53: 2, 10_000: 2} {
		got, n := b.pagesOf(t, "ListFunctions", "Functions", object{"MaxItems": size}, nameAndVersion)
		if !slices.Equal(got, names) || n != pages {
			t.Errorf("MaxItems %d: %d pages, want %d, of %v", size, n, pages, got)
		}
	}
	for size := range 9 {
		got, _ := b.pagesOf(t, "ListFunctions", "Functions", object{"MaxItems": size, "FunctionVersion": "ALL"}, nameAndVersion)
		if !slices.Equal(got, versions) {
			t.Errorf("all versions, MaxItems %d: %v", size, got)
		}
	}
	for i := range 12 {
		b.must(t, "UpdateFunctionCode", object{"FunctionName": "f-03", "Code": object{"Sha256": codes[(i+1)%2]}, "Publish": true})
		b.must(t, "CreateAlias", object{"FunctionName": "f-03", "Name": fmt.Sprintf("a%02d", i), "FunctionVersion": fmt.Sprint(1 + i%3)})
	}
	for size := range 5 {
		got, _ := b.pagesOf(t, "ListVersionsByFunction", "Versions", object{"FunctionName": "f-03", "MaxItems": size},
			func(o object) string { return o["Version"].(string) })
		if len(got) != 14 || got[0] != schema.Latest || got[1] != "1" || got[13] != "13" {
			t.Errorf("versions, MaxItems %d: %v", size, got)
		}
		aliases, _ := b.pagesOf(t, "ListAliases", "Aliases", object{"FunctionName": "f-03", "MaxItems": size, "FunctionVersion": "2"},
			func(o object) string { return o["Name"].(string) })
		if !slices.Equal(aliases, []string{"a01", "a04", "a07", "a10"}) {
			t.Errorf("aliases of version 2, MaxItems %d: %v", size, aliases)
		}
	}
}

// TestPagesWithoutTheirMarker: the item that a marker names may be gone when the next page is asked for.
func TestPagesWithoutTheirMarker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.putZip(t, "0")
	for _, name := range []string{"a", "b", "c", "d"} {
		b.must(t, "CreateFunction", function(name, code, nil))
	}
	first := b.must(t, "ListFunctions", object{"MaxItems": 2})
	b.must(t, "DeleteFunction", object{"FunctionName": "b"})
	b.must(t, "DeleteFunction", object{"FunctionName": "a"})
	rest, _ := b.pagesOf(t, "ListFunctions", "Functions", object{}, nameAndVersion)
	second := b.must(t, "ListFunctions", object{"MaxItems": 2, "Marker": first["NextMarker"]})
	if got := second["Functions"].([]any); len(got) != 2 || nameAndVersion(got[0].(object)) != rest[0] {
		t.Errorf("page after a deleted item: %v, want %v", got, rest)
	}
}

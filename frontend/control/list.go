package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// listFunctions lists the functions of an account by name, each by its $LATEST, or with FunctionVersion ALL by every
// version.
func (s *Service) listFunctions(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListFunctions", "FunctionVersion", "Marker", "MaxItems"); err != nil {
		return nil, err
	}
	if in.FunctionVersion != "" && in.FunctionVersion != "ALL" {
		return nil, schema.Invalid(schema.FieldError{Field: "FunctionVersion", Got: clip(in.FunctionVersion), Allowed: "ALL, or absent"})
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	// The marker is the last item of the page before: what is deleted or created between pages moves nothing else.
	after, err := readMarker(in.Marker, "functions", 2)
	if err != nil {
		return nil, err
	}
	names, err := s.names(ctx, account)
	if err != nil {
		return nil, err
	}
	if in.Marker != "" {
		i, found := slices.BinarySearch(names, after[0])
		if found && in.FunctionVersion == "" {
			i++
		}
		names = names[i:]
	}
	out := schema.ListFunctionsOutput{Functions: []schema.FunctionConfiguration{}}
	for _, name := range names {
		rec, err := s.read(ctx, account, name)
		if schema.CodeOf(err) == schema.CodeNotFound && err != nil {
			continue // deleted meanwhile
		}
		if errors.Is(err, errUnreadable) {
			s.log.Error("a function is left out of the list", "account", account, "function", name, "error", err)
			continue // GetFunction of it says the same
		}
		if err != nil {
			return nil, err
		}
		for _, v := range listed(rec, in.FunctionVersion) {
			if in.Marker != "" && name == after[0] && versionNumber(v.Version) <= versionNumber(after[1]) {
				continue
			}
			if n := len(out.Functions); n == size {
				last := out.Functions[n-1]
				out.NextMarker = writeMarker("functions", last.FunctionName, last.Version)
				return out, nil
			}
			qualifier := ""
			if in.FunctionVersion != "" {
				qualifier = v.Version
			}
			out.Functions = append(out.Functions, configuration(rec, v, qualifier, false))
		}
	}
	return out, nil
}

func listed(rec *schema.FunctionRecord, functionVersion string) []*schema.VersionRecord {
	if functionVersion == "" {
		return []*schema.VersionRecord{&rec.Latest}
	}
	return allVersions(rec)
}

// names are the names of an account's functions, sorted.
func (s *Service) names(ctx context.Context, account string) ([]string, error) {
	prefix := subjects.Escape(account) + "."
	lister, err := s.store.functions.ListKeysFiltered(ctx, prefix+"*")
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	var names []string
	for key := range lister.Keys() {
		if name, ok := subjects.Unescape(strings.TrimPrefix(key, prefix)); ok {
			names = append(names, name)
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("list functions: %w", context.Cause(ctx)) // the list may be cut off
	}
	slices.Sort(names)
	return names, nil
}

// writeMarker names the last item of a page, for callers an opaque text.
func writeMarker(kind string, item ...string) string {
	text, err := json.Marshal(append([]string{kind}, item...))
	if err != nil { // strings cannot fail
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// readMarker reads what writeMarker wrote for the same list, n items; an empty marker gives n empty ones.
func readMarker(marker, kind string, n int) ([]string, error) {
	if marker == "" {
		return make([]string, n), nil
	}
	var item []string
	text, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil || len(marker) > 1024 || json.Unmarshal(text, &item) != nil || len(item) != n+1 || item[0] != kind {
		return nil, schema.Invalid(schema.FieldError{Field: "Marker", Got: clip(marker), Allowed: "the NextMarker of the page before"})
	}
	return item[1:], nil
}

// only names the members of a request that were sent and that the operation does not take.
func only[T any](in *T, operation string, members ...string) error {
	var bad []schema.FieldError
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !v.Field(i).IsZero() && !slices.Contains(members, name) {
			bad = append(bad, schema.FieldError{Field: name, Allowed: "is no member of " + operation})
		}
	}
	return schema.Invalid(bad...)
}

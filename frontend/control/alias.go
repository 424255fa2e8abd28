package control

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// MaxAliases is how many aliases a function may have: they stand in one record.
const MaxAliases = 1000

// createAlias names a version, or two by weight.
func (s *Service) createAlias(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := aliasInput(request, "CreateAlias", "FunctionName", "Name", "FunctionVersion", "Description", "RoutingConfig")
	if err != nil {
		return nil, err
	}
	if in.FunctionVersion == nil {
		return nil, schema.Invalid(schema.FieldError{Field: "FunctionVersion", Allowed: "required"})
	}
	return s.changeAlias(ctx, account, name, func(rec *schema.FunctionRecord) (schema.AliasRecord, error) {
		if old, ok := rec.Aliases[in.Name]; ok {
			return old, schema.Errorf(schema.CodeConflict, "Alias already exists: %s (version %s, revision %s)",
				schema.ARN(account, name, in.Name), old.Version, old.RevisionID)
		}
		if len(rec.Aliases) >= MaxAliases {
			return schema.AliasRecord{}, schema.Errorf(schema.CodeInvalidParameter, "function %s has %d aliases: delete some", name, MaxAliases)
		}
		return applyAlias(rec, schema.AliasRecord{Name: in.Name}, in)
	})
}

// updateAlias changes the members that the request has.
func (s *Service) updateAlias(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := aliasInput(request, "UpdateAlias", "FunctionName", "Name", "FunctionVersion", "Description", "RoutingConfig", "RevisionId")
	if err != nil {
		return nil, err
	}
	first := "" // the alias's revision when this operation began
	return s.changeAlias(ctx, account, name, func(rec *schema.FunctionRecord) (schema.AliasRecord, error) {
		old, ok := rec.Aliases[in.Name]
		if !ok {
			return old, notFound(account, name, in.Name)
		}
		if err := precondition(in.RevisionId, old.RevisionID, "to version "+old.Version); err != nil {
			return old, err
		}
		if first != "" && first != old.RevisionID {
			return old, schema.Errorf(schema.CodeConflict, "alias %s of %s was changed meanwhile: it names version %s since revision %s",
				in.Name, name, old.Version, old.RevisionID)
		}
		first = old.RevisionID
		return applyAlias(rec, old, in)
	})
}

// changeAlias writes the alias that edit makes. Changes of other aliases, of versions and of $LATEST may come between.
func (s *Service) changeAlias(ctx context.Context, account, name string, edit func(*schema.FunctionRecord) (schema.AliasRecord, error)) (any, error) {
	var written schema.AliasRecord
	rec, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) (err error) {
		if written, err = edit(rec); err != nil {
			return err
		}
		written.RevisionID = uuid.NewString()
		if rec.Aliases == nil {
			rec.Aliases = make(map[string]schema.AliasRecord)
		}
		rec.Aliases[written.Name] = written
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return aliasConfiguration(rec, written), nil
}

// applyAlias is the alias a with the members that the request has, if it then names versions that are there.
func applyAlias(rec *schema.FunctionRecord, a schema.AliasRecord, in *schema.AliasInput) (schema.AliasRecord, error) {
	apply(&a.Version, in.FunctionVersion)
	apply(&a.Description, in.Description)
	if in.RoutingConfig != nil {
		a.SecondVersion, a.SecondWeight = "", 0
		for version, weight := range in.RoutingConfig.AdditionalVersionWeights {
			a.SecondVersion, a.SecondWeight = version, weight
		}
	}
	const routing = "RoutingConfig.AdditionalVersionWeights"
	var bad []schema.FieldError
	if a.Version != schema.Latest && !numbered(a.Version) {
		bad = append(bad, schema.FieldError{Field: "FunctionVersion", Got: clip(a.Version), Allowed: "$LATEST or the number of a version"})
	}
	switch {
	case in.RoutingConfig != nil && len(in.RoutingConfig.AdditionalVersionWeights) > 1:
		bad = append(bad, schema.FieldError{Field: routing, Allowed: "one more version at most"})
	case a.SecondVersion == "":
	case a.SecondVersion == schema.Latest || a.Version == schema.Latest:
		bad = append(bad, schema.FieldError{Field: routing, Allowed: "$LATEST is not supported for an alias pointing to more than 1 version"})
	case !numbered(a.SecondVersion):
		bad = append(bad, schema.FieldError{Field: routing, Got: clip(a.SecondVersion), Allowed: "the number of a version"})
	case a.SecondVersion == a.Version:
		bad = append(bad, schema.FieldError{Field: routing, Got: a.Version, Allowed: "another version than FunctionVersion"})
	case !(a.SecondWeight >= 0 && a.SecondWeight <= 1):
		bad = append(bad, schema.FieldError{Field: routing, Got: fmt.Sprint(a.SecondWeight), Allowed: "a weight from 0.0 to 1.0"})
	}
	if err := schema.Invalid(bad...); err != nil {
		return a, err
	}
	for _, version := range []string{a.Version, a.SecondVersion} {
		if _, ok := rec.Find(version); !ok {
			return a, notFound(rec.Account, rec.Name, version)
		}
	}
	return a, nil
}

// getAlias answers with an alias.
func (s *Service) getAlias(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := aliasInput(request, "GetAlias", "FunctionName", "Name")
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	a, ok := rec.Aliases[in.Name]
	if !ok {
		return nil, notFound(account, name, in.Name)
	}
	return aliasConfiguration(rec, a), nil
}

// deleteAlias removes an alias; one that is not there counts as removed.
func (s *Service) deleteAlias(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := aliasInput(request, "DeleteAlias", "FunctionName", "Name")
	if err != nil {
		return nil, err
	}
	_, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		if _, ok := rec.Aliases[in.Name]; !ok {
			return errUnchanged
		}
		delete(rec.Aliases, in.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return nil, nil
}

// listAliases lists the aliases of a function by name, all or those that name a version.
func (s *Service) listAliases(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListAliases", "FunctionName", "FunctionVersion", "Marker", "MaxItems"); err != nil {
		return nil, err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	after, err := readMarker(in.Marker, "aliases", 1)
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	out := schema.ListAliasesOutput{Aliases: []schema.AliasConfiguration{}}
	for _, alias := range slices.Sorted(maps.Keys(rec.Aliases)) {
		a := rec.Aliases[alias]
		if alias <= after[0] || in.FunctionVersion != "" && a.Version != in.FunctionVersion && a.SecondVersion != in.FunctionVersion {
			continue
		}
		if n := len(out.Aliases); n == size {
			out.NextMarker = writeMarker("aliases", out.Aliases[n-1].Name)
			break
		}
		out.Aliases = append(out.Aliases, aliasConfiguration(rec, a))
	}
	return out, nil
}

// aliasInput reads the request of an operation that takes these members, and the function that it names.
func aliasInput(request []byte, operation string, members ...string) (*schema.AliasInput, string, error) {
	in, err := decode[schema.AliasInput](request)
	if err != nil {
		return nil, "", err
	}
	if err := only(in, operation, members...); err != nil {
		return nil, "", err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, "", err
	}
	if err := schema.ValidateAlias(in.Name); err != nil {
		return nil, "", err
	}
	if in.Description != nil && len(*in.Description) > 256 {
		return nil, "", schema.Invalid(schema.FieldError{Field: "Description", Got: clip(*in.Description), Allowed: "at most 256 bytes"})
	}
	return in, name, nil
}

func aliasConfiguration(rec *schema.FunctionRecord, a schema.AliasRecord) schema.AliasConfiguration {
	c := schema.AliasConfiguration{
		AliasArn: schema.ARN(rec.Account, rec.Name, a.Name), Name: a.Name, FunctionVersion: a.Version, Description: a.Description,
		RevisionId: a.RevisionID,
	}
	if a.SecondVersion != "" {
		c.RoutingConfig = &schema.RoutingConfig{AdditionalVersionWeights: map[string]float64{a.SecondVersion: a.SecondWeight}}
	}
	return c
}

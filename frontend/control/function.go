package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// getFunction answers with the configuration of a version and where its code lies.
func (s *Service) getFunction(ctx context.Context, account string, request []byte) (any, error) {
	rec, v, qualifier, err := s.version(ctx, account, "GetFunction", request)
	if err != nil {
		return nil, err
	}
	out := schema.GetFunctionOutput{Configuration: configuration(rec, v, qualifier, true), Tags: rec.Tags}
	if rec.Concurrency != nil {
		out.Concurrency = &schema.ConcurrencyOutput{ReservedConcurrentExecutions: rec.Concurrency}
	}
	// Lambda gives a URL in S3; here `nats object get BUCKET NAME` has the code, for who may read the store.
	out.Code.RepositoryType, out.Code.Location = "NATS", s.cfg.Names.Bucket(topology.Code)+"/"+v.CodeSHA256
	return out, nil
}

// getFunctionConfiguration answers with the configuration of a version.
func (s *Service) getFunctionConfiguration(ctx context.Context, account string, request []byte) (any, error) {
	rec, v, qualifier, err := s.version(ctx, account, "GetFunctionConfiguration", request)
	if err != nil {
		return nil, err
	}
	return configuration(rec, v, qualifier, true), nil
}

// version reads the version that a request names, and the qualifier by which it did.
func (s *Service) version(ctx context.Context, account, operation string, request []byte) (*schema.FunctionRecord, *schema.VersionRecord, string, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, nil, "", err
	}
	if err := only(in, operation, "FunctionName", "Qualifier"); err != nil {
		return nil, nil, "", err
	}
	name, qualifier, err := target(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, nil, "", err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, nil, "", err
	}
	v, ok := resolve(rec, qualifier)
	if !ok {
		return nil, nil, "", notFound(account, name, qualifier)
	}
	return rec, v, qualifier, nil
}

// deleteFunction deletes one published version, or the function with all of them. Calls that run go on in their
// environments (DESIGN 3).
func (s *Service) deleteFunction(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "DeleteFunction", "FunctionName", "Qualifier"); err != nil {
		return nil, err
	}
	name, qualifier, err := target(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if qualifier != "" {
		return nil, s.deleteVersion(ctx, account, name, qualifier)
	}
	return nil, s.deleteWhole(ctx, account, name)
}

func (s *Service) deleteWhole(ctx context.Context, account, name string) error {
	id := ""
	for try := range attempts {
		rec, revision, err := s.load(ctx, account, name)
		switch {
		case errors.Is(err, errDamaged):
			// There is no other way to be rid of it. Whose variables go along only a view from before can tell.
			if seen, _, ok := s.view.Function(account, name); ok && id == "" {
				id = seen.ID
			}
			s.log.Warn("a function whose record is damaged is deleted", "account", account, "function", name, "function_id", id, "error", err)
		case err != nil:
			return err
		case id != "" && rec.ID != id:
			return schema.Errorf(schema.CodeConflict, "function %s was deleted and created again meanwhile, at %s", name, stamp(rec.Created))
		default:
			id = rec.ID
		}
		if err := s.unreserved(ctx, account, name, ""); err != nil {
			return err
		}
		gone, err := s.remove(ctx, account, name, revision)
		if err == nil {
			if id != "" {
				s.dropAllSecrets(ctx, id)
			}
			s.settle(ctx, gone)
			return s.release(ctx, &schema.FunctionRecord{Account: account, Name: name, ID: id}, "")
		}
		if !clashed(err) {
			return fmt.Errorf("delete function %s: %w", name, err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return schema.Errorf(schema.CodeConflict, "function %s is being changed by others; delete it again", name)
}

func (s *Service) deleteVersion(ctx context.Context, account, name, qualifier string) error {
	switch {
	case qualifier == schema.Latest:
		return schema.Invalid(schema.FieldError{
			Field: "Qualifier", Got: qualifier, Allowed: "$LATEST version cannot be deleted without deleting the function.",
		})
	case !numbered(qualifier):
		return schema.Invalid(schema.FieldError{Field: "Qualifier", Got: qualifier, Allowed: "the number of a version; an alias is deleted by DeleteAlias"})
	}
	if err := s.unreserved(ctx, account, name, qualifier); err != nil {
		return err
	}
	secret := ""
	rec, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		i := slices.IndexFunc(rec.Versions, func(v schema.VersionRecord) bool { return v.Version == qualifier })
		if i < 0 {
			return notFound(account, name, qualifier)
		}
		var by []string
		for _, alias := range slices.Sorted(maps.Keys(rec.Aliases)) {
			if a := rec.Aliases[alias]; a.Version == qualifier || a.SecondVersion == qualifier {
				by = append(by, alias)
			}
		}
		if len(by) > 0 {
			return schema.Errorf(schema.CodeConflict, "version %s of %s is used by alias %s: point it elsewhere or delete it first", qualifier,
				name, strings.Join(by, ", "))
		}
		secret = rec.Versions[i].SecretKey
		rec.Versions = slices.Delete(rec.Versions, i, i+1)
		return nil
	})
	if err != nil {
		return err
	}
	s.dropSecrets(ctx, rec, secret)
	s.settle(ctx, revision)
	return s.release(ctx, rec, qualifier)
}

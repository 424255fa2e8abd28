package control

import (
	"context"
	"reflect"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// updateFunctionCode has $LATEST run another package.
func (s *Service) updateFunctionCode(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.FunctionInput](request)
	if err != nil {
		return nil, err
	}
	zip, err := takeZip(in)
	if err != nil {
		return nil, err
	}
	if err := validated(in, in.ValidateUpdateCode); err != nil {
		return nil, err
	}
	first, _, err := s.load(ctx, account, in.FunctionName)
	if err != nil {
		return nil, err
	}
	if err := precondition(in.RevisionId, first.Latest.RevisionID, deployOf(first)); err != nil {
		return nil, err
	}
	size, err := s.checkCode(ctx, in.Code.Sha256, zip, &first.Latest)
	if err != nil {
		return nil, err
	}
	var answered *schema.VersionRecord
	edit := func(rec *schema.FunctionRecord) error {
		v := &rec.Latest
		v.CodeSHA256, v.CodeSize = in.Code.Sha256, size
		if in.Architectures != nil && in.Architectures[0] != v.Architecture {
			v.Architecture = in.Architectures[0]
			v.ConfigRevision++
		}
		touch(v, time.Now().UTC())
		answered = v
		if !in.Publish {
			return nil
		}
		var err error
		answered, err = publish(rec, nil)
		return err
	}
	if in.DryRun {
		if err := edit(first); err != nil {
			return nil, err
		}
		return configuration(first, answered, publishedQualifier(answered), true), nil
	}
	rec, revision, err := s.change(ctx, account, in.FunctionName, first, otherDeploy, edit)
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return configuration(rec, answered, publishedQualifier(answered), true), nil
}

// updateFunctionConfiguration changes the members of $LATEST that the request has. What changes nothing leaves the
// configuration's revision, and so every warm environment, as it is.
func (s *Service) updateFunctionConfiguration(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.FunctionInput](request)
	if err != nil {
		return nil, err
	}
	if err := validated(in, in.ValidateUpdateConfiguration); err != nil {
		return nil, err
	}
	first, _, err := s.load(ctx, account, in.FunctionName)
	if err != nil {
		return nil, err
	}
	if err := precondition(in.RevisionId, first.Latest.RevisionID, deployOf(first)); err != nil {
		return nil, err
	}
	was := first.Latest
	next := was
	configure(&next, in)
	if err := schema.Invalid(schema.ValidateHandler(next.Runtime, next.Handler)...); err != nil {
		return nil, err
	}
	written, err := s.replaceVariables(ctx, first, in, &next)
	if err != nil {
		return nil, err
	}
	changed := !reflect.DeepEqual(was, next)
	rec, revision, err := s.change(ctx, account, in.FunctionName, first, otherDeploy, func(rec *schema.FunctionRecord) error {
		rec.Latest = next // what it was is still as first: see otherDeploy
		if changed {
			rec.Latest.ConfigRevision++
		}
		touch(&rec.Latest, time.Now().UTC())
		return nil
	})
	if err != nil {
		s.dropSecrets(ctx, nil, written)
		return nil, err
	}
	s.retireSecrets(ctx, rec, was.SecretKey)
	s.settle(ctx, revision)
	return configuration(rec, &rec.Latest, "", true), nil
}

// replaceVariables seals the variables of the request into next, if it has some and they are not those that the
// function has. It returns the key that it wrote, "" for none.
func (s *Service) replaceVariables(ctx context.Context, rec *schema.FunctionRecord, in *schema.FunctionInput, next *schema.VersionRecord) (string, error) {
	if in.Environment == nil {
		return "", nil
	}
	digest, err := s.digestOf(ctx, rec.ID, in.Environment.Variables)
	if err != nil {
		return "", err
	}
	if digest == next.SecretsSHA256 {
		return "", nil
	}
	set, err := s.sealVariables(ctx, rec.ID, next.ConfigRevision+1, in.Environment.Variables, digest)
	if err != nil {
		return "", err
	}
	take(next, set)
	return set.key, nil
}

// otherDeploy refuses a change of $LATEST that met another one on its way: two at once would leave one's code with the
// other's configuration. Versions and aliases may change beside it.
func otherDeploy(was, now *schema.FunctionRecord) error {
	if was.Latest.RevisionID == now.Latest.RevisionID {
		return nil
	}
	return schema.Errorf(schema.CodeConflict, "another deploy of %s was faster (%s) and stands; this one changed nothing", now.Name,
		deployOf(now))
}

package control

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// createFunction makes a function from code that lies in the store. Order: everything is checked, the variables are
// sealed, and the one write that makes the function exist comes last.
func (s *Service) createFunction(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.FunctionInput](request)
	if err != nil {
		return nil, err
	}
	zip, err := takeZip(in)
	if err != nil {
		return nil, err
	}
	if err := validated(in, in.ValidateCreate); err != nil {
		return nil, err
	}
	if in.TenancyConfig != nil {
		if err := s.keptApart(in.TenancyConfig.TenantIsolationMode); err != nil {
			return nil, err
		}
	}
	if other, _, err := s.load(ctx, account, in.FunctionName); err == nil {
		return nil, alreadyExists(other)
	} else if schema.CodeOf(err) != schema.CodeNotFound {
		return nil, err
	}
	size, err := s.checkCode(ctx, in.Code.Sha256, zip, nil)
	if err != nil {
		return nil, err
	}
	rec := newRecord(account, in, size)
	if in.Environment != nil {
		digest, err := s.digestOf(ctx, rec.ID, in.Environment.Variables)
		if err != nil {
			return nil, err
		}
		set, err := s.sealVariables(ctx, rec.ID, rec.Latest.ConfigRevision, in.Environment.Variables, digest)
		if err != nil {
			return nil, err
		}
		take(&rec.Latest, set)
	}
	answered := &rec.Latest
	if in.Publish {
		if answered, err = publish(rec, nil); err != nil {
			return nil, err
		}
	}
	revision, err := s.create(ctx, rec)
	if err != nil {
		s.dropSecrets(ctx, nil, rec.Latest.SecretKey)
		return nil, err
	}
	s.settle(ctx, revision)
	return configuration(rec, answered, publishedQualifier(answered), true), nil
}

func newRecord(account string, in *schema.FunctionInput, size int64) *schema.FunctionRecord {
	now := time.Now().UTC()
	rec := &schema.FunctionRecord{
		V: schema.Version, Account: account, Name: in.FunctionName, ID: randomHex(16), Created: now, NextVersion: 1, Tags: in.Tags,
		PerTenant: in.TenancyConfig != nil,
		Latest: schema.VersionRecord{
			Version: schema.Latest, MemoryMB: schema.DefaultMemoryMB, Timeout: schema.DefaultTimeout * time.Second,
			EphemeralMB: schema.DefaultEphemeralMB, CodeSHA256: in.Code.Sha256, CodeSize: size, ConfigRevision: 1,
		},
	}
	configure(&rec.Latest, in)
	rec.Latest.Architecture = cmp.Or(rec.Latest.Architecture, "x86_64")
	touch(&rec.Latest, now)
	return rec
}

// configure writes the members that the request has into v; variables are apart, since they are sealed.
func configure(v *schema.VersionRecord, in *schema.FunctionInput) {
	apply(&v.Runtime, in.Runtime)
	apply(&v.Handler, in.Handler)
	apply(&v.Role, in.Role)
	apply(&v.Description, in.Description)
	apply(&v.MemoryMB, in.MemorySize)
	if in.Timeout != nil {
		v.Timeout = time.Duration(*in.Timeout) * time.Second
	}
	if in.EphemeralStorage != nil {
		v.EphemeralMB = in.EphemeralStorage.Size
	}
	if in.Architectures != nil {
		v.Architecture = in.Architectures[0]
	}
	if in.TracingConfig != nil {
		v.Tracing = in.TracingConfig.Mode
	}
	if l := in.LoggingConfig; l != nil {
		v.LogFormat, v.LogGroup, v.LogLevel, v.SystemLogLevel = l.LogFormat, l.LogGroup, l.ApplicationLogLevel, l.SystemLogLevel
	}
	if in.Hearth != nil {
		v.Idempotent, v.Egress, v.Audiences = in.Hearth.Idempotent, in.Hearth.Egress, in.Hearth.Audiences
	}
}

// take has v refer to a sealed set of variables.
func take(v *schema.VersionRecord, set sealedSet) {
	v.VariableNames, v.SecretKey, v.SecretsSHA256 = set.names, set.key, set.digest
}

// touch marks a change of $LATEST: who had read it before can tell.
func touch(v *schema.VersionRecord, now time.Time) {
	v.RevisionID = uuid.NewString()
	v.Modified = now
}

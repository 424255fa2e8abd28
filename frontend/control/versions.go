package control

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// MaxVersions is how many published versions a function may have at a time: they stand in one record.
const MaxVersions = 1000

// publishVersion makes an immutable version of $LATEST, or answers with the last one if nothing changed since.
func (s *Service) publishVersion(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.FunctionInput](request)
	if err != nil {
		return nil, err
	}
	if err := validated(in, in.ValidatePublish); err != nil {
		return nil, err
	}
	var answered *schema.VersionRecord
	rec, revision, err := s.change(ctx, account, in.FunctionName, nil, otherDeploy, func(rec *schema.FunctionRecord) error {
		if err := precondition(in.RevisionId, rec.Latest.RevisionID, deployOf(rec)); err != nil {
			return err
		}
		if present := codeSHA(rec.Latest.CodeSHA256); in.CodeSha256 != nil && *in.CodeSha256 != "" && *in.CodeSha256 != present {
			return schema.Invalid(schema.FieldError{
				Field: "CodeSha256", Got: clip(*in.CodeSha256), Allowed: "the CodeSHA256 of $LATEST, " + present,
			})
		}
		before := len(rec.Versions)
		var err error
		if answered, err = publish(rec, in.Description); err != nil {
			return err
		}
		if len(rec.Versions) == before {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return configuration(rec, answered, answered.Version, true), nil
}

// publish adds a version with what $LATEST is now and returns it, or returns the last one if that is the same. The
// result points into rec.
func publish(rec *schema.FunctionRecord, description *string) (*schema.VersionRecord, error) {
	if n := len(rec.Versions); n > 0 {
		last := &rec.Versions[n-1]
		if last.CodeSHA256 == rec.Latest.CodeSHA256 && last.ConfigRevision == rec.Latest.ConfigRevision {
			return last, nil
		}
	}
	if len(rec.Versions) >= MaxVersions {
		return nil, schema.Errorf(schema.CodeStorageExceeded, "function %s has %d versions", rec.Name, len(rec.Versions))
	}
	v := rec.Latest
	v.Version = strconv.Itoa(rec.NextVersion)
	v.RevisionID = uuid.NewString()
	v.Modified = time.Now().UTC()
	apply(&v.Description, description)
	rec.NextVersion++
	rec.Versions = append(rec.Versions, v)
	return &rec.Versions[len(rec.Versions)-1], nil
}

// publishedQualifier is what an ARN says of the version that an operation answers with: nothing of $LATEST.
func publishedQualifier(v *schema.VersionRecord) string {
	if v.Version == schema.Latest {
		return ""
	}
	return v.Version
}

// listVersions lists $LATEST and then the published versions, in the order of their numbers.
func (s *Service) listVersions(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListVersionsByFunction", "FunctionName", "Marker", "MaxItems"); err != nil {
		return nil, err
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	from, err := readMarker(in.Marker, "versions", 1)
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	all := allVersions(rec)
	if in.Marker != "" {
		// The first version after the one that the marker names, which may be gone.
		i := slices.IndexFunc(all, func(v *schema.VersionRecord) bool { return versionNumber(v.Version) > versionNumber(from[0]) })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	out := schema.ListVersionsOutput{Versions: []schema.FunctionConfiguration{}}
	for i, v := range all {
		if i == size {
			out.NextMarker = writeMarker("versions", all[i-1].Version)
			break
		}
		out.Versions = append(out.Versions, configuration(rec, v, v.Version, false))
	}
	return out, nil
}

// allVersions are $LATEST and the published ones, ascending.
func allVersions(rec *schema.FunctionRecord) []*schema.VersionRecord {
	all := make([]*schema.VersionRecord, 0, 1+len(rec.Versions))
	all = append(all, &rec.Latest)
	for i := range rec.Versions {
		all = append(all, &rec.Versions[i])
	}
	return all
}

// versionNumber orders versions: $LATEST is 0, first of all.
func versionNumber(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return n
}

// codeSHA is a hash as Lambda writes it, in base64, from the hex of the store.
func codeSHA(hexSum string) string {
	sum, err := hex.DecodeString(hexSum)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}

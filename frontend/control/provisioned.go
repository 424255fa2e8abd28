package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// MaxReserved is the largest limit of one reservation.
const MaxReserved = 100_000

// putProvisioned reserves environments for a published version, or changes how many. It answers at once: members are made
// meanwhile, and the status says when they are there. DESIGN 5, 6.
func (s *Service) putProvisioned(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ProvisionedInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "PutProvisionedConcurrencyConfig", "FunctionName", "Qualifier", "ProvisionedConcurrentExecutions"); err != nil {
		return nil, err
	}
	switch n := in.ProvisionedConcurrentExecutions; {
	case n == nil:
		return nil, schema.Invalid(schema.FieldError{Field: "ProvisionedConcurrentExecutions", Allowed: "required"})
	case *n < 1 || *n > MaxReserved:
		return nil, schema.Invalid(schema.FieldError{
			Field: "ProvisionedConcurrentExecutions", Got: strconv.Itoa(*n), Allowed: fmt.Sprintf("1 to %d; delete the configuration to have none", MaxReserved),
		})
	}
	rec, v, err := s.reservable(ctx, account, in)
	if err != nil {
		return nil, err
	}
	all, err := s.reservationsOf(ctx, account, "")
	if err != nil {
		return nil, err
	}
	if err := s.fits(all, rec, v, *in.ProvisionedConcurrentExecutions); err != nil {
		return nil, err
	}
	if rec.Concurrency != nil {
		reserved, err := s.reservedInAll(ctx, account, rec.Name, v.Version)
		if most := *rec.Concurrency - reserved; err != nil {
			return nil, err
		} else if *in.ProvisionedConcurrentExecutions > most {
			return nil, schema.Invalid(schema.FieldError{
				Field: "ProvisionedConcurrentExecutions", Got: strconv.Itoa(*in.ProvisionedConcurrentExecutions),
				Allowed: fmt.Sprintf("at most %d: the function's limit is %d, %d of it are reserved for other versions", max(0, most), *rec.Concurrency, reserved),
			})
		}
	}
	r, err := s.limit(ctx, rec, v.Version, *in.ProvisionedConcurrentExecutions)
	if err != nil {
		return nil, err
	}
	// Who deletes the version looks for reservations before and after: one of the two sees the other.
	switch now, err := s.read(ctx, account, rec.Name); {
	case schema.CodeOf(err) == schema.CodeNotFound || err == nil && (now.ID != rec.ID || !has(now, v.Version)):
		if _, err := s.limit(ctx, rec, v.Version, 0); err != nil {
			return nil, err
		}
		return nil, notFound(account, rec.Name, v.Version)
	case err != nil:
		return nil, err
	}
	return provisioned(s.look().told(r)), nil
}

// published names the versions that there are, the last few of many.
func published(rec *schema.FunctionRecord) string {
	const most = 10
	all := rec.Versions
	switch {
	case len(all) == 0:
		return "none is published"
	case len(all) > most:
		all = all[len(all)-most:]
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Version
	}
	if len(all) < len(rec.Versions) {
		return fmt.Sprintf("the last of %d are %s", len(rec.Versions), strings.Join(names, ", "))
	}
	return "there is " + strings.Join(names, ", ")
}

func has(rec *schema.FunctionRecord, version string) bool {
	_, ok := rec.Find(version)
	return ok
}

// release ends the reservations of what was just deleted, of one version or with "" of all: somebody may have reserved it meanwhile,
// and nobody could name it any more to take that back.
func (s *Service) release(ctx context.Context, rec *schema.FunctionRecord, version string) error {
	all, err := s.reservationsOf(ctx, rec.Account, rec.Name)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.FunctionID != rec.ID || r.Limit == 0 || version != "" && r.Version != version {
			continue
		}
		if _, err := s.limit(ctx, rec, r.Version, 0); err != nil {
			return err
		}
	}
	return nil
}

// getProvisioned answers with how far a reservation is.
func (s *Service) getProvisioned(ctx context.Context, account string, request []byte) (any, error) {
	_, r, err := s.reserved(ctx, account, "GetProvisionedConcurrencyConfig", request)
	if err != nil {
		return nil, err
	}
	return provisioned(s.look().told(r)), nil
}

// deleteProvisioned ends a reservation: its members go as they become idle (DESIGN 6).
func (s *Service) deleteProvisioned(ctx context.Context, account string, request []byte) (any, error) {
	rec, r, err := s.reserved(ctx, account, "DeleteProvisionedConcurrencyConfig", request)
	if err != nil {
		return nil, err
	}
	_, err = s.limit(ctx, rec, r.Version, 0)
	return nil, err
}

// reserved is the reservation that a request names alone. One that is being emptied is none any more, as on AWS.
func (s *Service) reserved(ctx context.Context, account, operation string, request []byte) (*schema.FunctionRecord, *schema.ReservationRecord, error) {
	in, err := decode[schema.ProvisionedInput](request)
	if err != nil {
		return nil, nil, err
	}
	if err := only(in, operation, "FunctionName", "Qualifier"); err != nil {
		return nil, nil, err
	}
	rec, v, err := s.reservable(ctx, account, in)
	if err != nil {
		return nil, nil, err
	}
	r, _, err := s.reservation(ctx, account, rec.Name, v.Version)
	if err == nil && r.Limit == 0 {
		err = schema.Errorf(schema.CodeNoProvisioned, "No Provisioned Concurrency Config found for this function")
	}
	return rec, r, err
}

// listProvisioned lists the reservations of a function, a page at a time.
func (s *Service) listProvisioned(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ProvisionedInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListProvisionedConcurrencyConfigs", "FunctionName", "Marker", "MaxItems"); err != nil {
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
	after, err := readMarker(in.Marker, "provisioned", 1)
	if err != nil {
		return nil, err
	}
	if _, err := s.read(ctx, account, name); err != nil {
		return nil, err
	}
	all, err := s.reservationsOf(ctx, account, name)
	if err != nil {
		return nil, err
	}
	out := schema.ListProvisionedOutput{ProvisionedConcurrencyConfigs: []schema.ProvisionedOutput{}}
	last, seen := "", s.look()
	for _, r := range all {
		if r.Limit == 0 || versionNumber(r.Version) <= versionNumber(after[0]) {
			continue
		}
		if len(out.ProvisionedConcurrencyConfigs) == size {
			out.NextMarker = writeMarker("provisioned", last)
			break
		}
		p := provisioned(seen.told(r))
		p.FunctionArn = schema.ARN(account, name, r.Version)
		out.ProvisionedConcurrencyConfigs = append(out.ProvisionedConcurrencyConfigs, *p)
		last = r.Version
	}
	return out, nil
}

// reservable is the published version that a request names, itself or by an alias of one version. An alias is resolved now:
// pointed elsewhere later, it takes no reservation with it (DESIGN 6: aliases resolve before the arc is chosen).
func (s *Service) reservable(ctx context.Context, account string, in *schema.ProvisionedInput) (*schema.FunctionRecord, *schema.VersionRecord, error) {
	name, qualifier, err := target(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, nil, err
	}
	v, ok := resolve(rec, qualifier)
	switch alias, is := rec.Aliases[qualifier]; {
	case qualifier == "":
		return nil, nil, schema.Invalid(schema.FieldError{Field: "Qualifier", Allowed: "required: a published version, or an alias of one"})
	case !ok && schema.ValidateAlias(qualifier) != nil:
		return nil, nil, schema.Errorf(schema.CodeNotFound, "%s (the function is there, this version is not; %s)", notFound(account, name, qualifier).Message,
			published(rec))
	case !ok:
		return nil, nil, notFound(account, name, qualifier)
	case v.Version == schema.Latest:
		return nil, nil, schema.Errorf(schema.CodeInvalidParameter,
			"Provisioned Concurrency Configs cannot be applied to unpublished function versions. Publish one: `hearth deploy --publish`")
	case is && alias.SecondVersion != "":
		return nil, nil, schema.Invalid(schema.FieldError{
			Field: "Qualifier", Got: qualifier, Allowed: fmt.Sprintf("an alias of one version; this one has two: reserve for %s and %s", alias.Version, alias.SecondVersion),
		})
	}
	return rec, v, nil
}

// fits refuses a limit that the ring cannot hold, and says what is free: places that no environment has or that unreserved ones
// can be evicted from, less what other reservations have been promised and not got yet, and what this one has.
func (s *Service) fits(all []*schema.ReservationRecord, rec *schema.FunctionRecord, v *schema.VersionRecord, limit int) error {
	if most := s.view.Fabric().MaxEnvironments; most > 0 {
		elsewhere := 0
		for _, r := range all {
			if r.Function != rec.Name || r.Version != v.Version {
				elsewhere += r.Limit
			}
		}
		if limit > most-elsewhere {
			return schema.Invalid(schema.FieldError{
				Field: "ProvisionedConcurrentExecutions", Got: strconv.Itoa(limit),
				Allowed: fmt.Sprintf("at most %d: max-environments of the fabric is %d, %d of it are reserved elsewhere", max(0, most-elsewhere), most, elsewhere),
			})
		}
	}
	ring, seen := s.view.Ring(), s.look()
	places := schema.Places(v.MemoryMB)
	free, heard := 0, 0
	for _, m := range seen.managers {
		if slices.Contains(ring.Members, m.ID) {
			heard++
			free += max(0, m.Room) / places
		}
	}
	if heard < len(ring.Members) || heard == 0 {
		return nil // not all of them have said what they have: the controller will find out
	}
	has := 0
	for _, r := range all {
		kept := seen.kept(r)
		switch {
		case r.Function == rec.Name && r.Version == v.Version:
			has = kept
		case kept < r.Limit:
			if other, ok := s.memory(r); ok {
				free -= (r.Limit - kept) * schema.Places(other) / places
			}
		}
	}
	if most := max(0, free) + has; limit > most {
		return schema.Invalid(schema.FieldError{
			Field: "ProvisionedConcurrentExecutions", Got: strconv.Itoa(limit),
			Allowed: fmt.Sprintf("at most %d of its %d MB are free on the ring: add managers or capacity, or reserve less elsewhere", most, v.MemoryMB),
		})
	}
	return nil
}

// memory is that of the version that a reservation is for.
func (s *Service) memory(r *schema.ReservationRecord) (int, bool) {
	rec, _, ok := s.view.Function(r.Account, r.Function)
	if !ok {
		return 0, false
	}
	v, ok := rec.Find(r.Version)
	if !ok {
		return 0, false
	}
	return v.MemoryMB, true
}

// limit writes the limit of a reservation by compare-and-set, and nothing else of it: where it goes from there is the
// controller's. Of two who change one at once the later is told what the other made of it.
func (s *Service) limit(ctx context.Context, rec *schema.FunctionRecord, version string, limit int) (*schema.ReservationRecord, error) {
	key := subjects.ReservationKey(rec.Account, rec.Name, version)
	first := -1
	for try := range attempts {
		r, revision, err := s.reservation(ctx, rec.Account, rec.Name, version)
		switch {
		case err != nil:
			return nil, err
		case r.Version == "": // none yet
			r.V, r.Account, r.Function, r.FunctionID, r.Version = schema.Version, rec.Account, rec.Name, rec.ID, version
			r.State = schema.ReservationProvisioning
		case r.FunctionID != rec.ID:
			return nil, schema.Errorf(schema.CodeConflict, "the reservation of an earlier function %s is still being emptied; try again", rec.Name)
		}
		switch {
		case r.Limit == limit && revision > 0:
			return r, nil // also where somebody else made it so meanwhile
		case first < 0:
			first = r.Limit
		case first != r.Limit:
			return nil, schema.Errorf(schema.CodeConflict, "the reservation of %s:%s was changed by somebody else meanwhile: it is %d now", rec.Name, version, r.Limit)
		}
		r.Limit, r.Updated = limit, time.Now().UTC()
		value, err := schema.Marshal(r)
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			_, err = s.store.reservations.Create(ctx, key, value)
		} else {
			_, err = s.store.reservations.Update(ctx, key, value, revision)
		}
		switch {
		case err == nil:
			return r, nil
		case !clashed(err):
			return nil, fmt.Errorf("write the reservation of %s:%s: %w", rec.Name, version, err)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
	return nil, schema.Errorf(schema.CodeConflict, "the reservation of %s:%s is being changed by others: %d attempts met %d changes", rec.Name,
		version, attempts, attempts)
}

// reservation reads the record of one; where there is none it is empty, at revision 0.
func (s *Service) reservation(ctx context.Context, account, name, version string) (*schema.ReservationRecord, uint64, error) {
	r := new(schema.ReservationRecord)
	entry, err := s.store.reservations.Get(ctx, subjects.ReservationKey(account, name, version))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return r, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("read the reservation of %s:%s: %w", name, version, err)
	}
	if err := schema.Unmarshal(entry.Value(), r); err != nil {
		return nil, 0, fmt.Errorf("read the reservation of %s:%s: %w", name, version, err)
	}
	return r, entry.Revision(), nil
}

func provisioned(t reservationTold) *schema.ProvisionedOutput {
	return &schema.ProvisionedOutput{
		Requested: t.record.Limit, Allocated: t.size + t.starting, Available: t.size, Status: t.status, StatusReason: t.reason,
		LastModified: lambdaTime(t.record.Updated),
	}
}

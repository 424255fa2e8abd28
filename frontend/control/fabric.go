package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

// getFabric answers with the numbers that all nodes share.
func (s *Service) getFabric(ctx context.Context, _ string, request []byte) (any, error) {
	if _, err := decode[struct{}](request); err != nil {
		return nil, err
	}
	fabric, revision, err := s.loadFabric(ctx)
	if err != nil {
		return nil, err
	}
	return schema.FabricOutput{Values: fabric.Values(), Revision: revision}, nil
}

// putFabric changes some of them, all that the request has or none, by compare-and-set on what the others are.
func (s *Service) putFabric(ctx context.Context, _ string, request []byte) (any, error) {
	in, err := decode[schema.FabricInput](request)
	if err != nil {
		return nil, err
	}
	if len(in.Values) == 0 {
		return nil, schema.Invalid(schema.FieldError{Field: "values", Allowed: "at least one name and its new value"})
	}
	for try := range attempts {
		fabric, revision, err := s.loadFabric(ctx)
		if err != nil {
			return nil, err
		}
		if err := setFabric(&fabric, in.Values); err != nil {
			return nil, err
		}
		value, err := schema.Marshal(fabric)
		if err != nil {
			return nil, err
		}
		revision, err = s.store.ring.Update(ctx, schema.FabricKey, value, revision)
		if err == nil {
			return schema.FabricOutput{Values: fabric.Values(), Revision: revision}, nil
		}
		if !clashed(err) {
			return nil, fmt.Errorf("write the fabric's numbers: %w", err)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
	return nil, schema.Errorf(schema.CodeConflict, "the fabric's numbers are being changed by others; set them again")
}

// setFabric gives the values in the order of their names; a refusal names every bad one, with what it was and what the
// fabric has.
func setFabric(fabric *schema.Fabric, values map[string]string) error {
	now := fabric.Values()
	var bad []schema.FieldError
	for _, key := range slices.Sorted(maps.Keys(values)) {
		err := fabric.Set(key, values[key])
		var refused *schema.Error
		if err == nil {
			continue
		}
		if !errors.As(err, &refused) || len(refused.Fields) == 0 {
			return err
		}
		for _, f := range refused.Fields {
			if has, ok := now[key]; ok {
				f.Allowed += fmt.Sprintf(" (the fabric has %q)", has)
			}
			bad = append(bad, f)
		}
	}
	bad = append(bad, fabric.Validate()...)
	return schema.Invalid(bad...)
}

// loadFabric reads the numbers, which the first manager writes.
func (s *Service) loadFabric(ctx context.Context) (schema.Fabric, uint64, error) {
	var fabric schema.Fabric
	entry, err := s.store.ring.Get(ctx, schema.FabricKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fabric, 0, schema.Errorf(schema.CodeUnavailable, "the fabric has no numbers yet: no manager has started; start one "+
			"(`hearth up` or `hearth manager`)")
	}
	if err != nil {
		return fabric, 0, fmt.Errorf("read the fabric's numbers: %w", err)
	}
	if err := schema.Unmarshal(entry.Value(), &fabric); err != nil {
		return fabric, 0, fmt.Errorf("read the fabric's numbers: %w", err)
	}
	return fabric, entry.Revision(), nil
}

// getTokenKeys answers with the issuer of the fabric's tokens and the keys by which they are checked, from a watch.
func (s *Service) getTokenKeys(_ context.Context, _ string, request []byte) (any, error) {
	if _, err := decode[struct{}](request); err != nil {
		return nil, err
	}
	return s.view.TokenKeys(), nil
}

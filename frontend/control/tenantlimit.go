package control

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hearth-run/hearth/schema"
)

// putTenantConcurrency sets how many environments, and calls in flight, each sub-tenant of a function may have. DESIGN 7, S66.
func (s *Service) putTenantConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.TenantConcurrencyInput](request)
	if err != nil {
		return nil, err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	most, of := schema.MaxConcurrency, ""
	if n := s.view.Fabric().MaxEnvironments; n > 0 {
		most, of = min(most, n), " (max-environments of the fabric)"
	}
	switch n := in.TenantConcurrency; {
	case n == nil:
		return nil, schema.Invalid(schema.FieldError{Field: "TenantConcurrency", Allowed: "required"})
	case *n < 1 || *n > most:
		return nil, schema.Invalid(schema.FieldError{
			Field: "TenantConcurrency", Got: strconv.Itoa(*n), Allowed: fmt.Sprintf("1 to %d%s; a limit of the function of 0 stops all of them", most, of),
		})
	}
	return s.setTenantConcurrency(ctx, account, name, in.TenantConcurrency)
}

// deleteTenantConcurrency takes the limit by sub-tenant away.
func (s *Service) deleteTenantConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	name, err := tenantConcurrencyOf(request, "DeleteTenantConcurrency")
	if err != nil {
		return nil, err
	}
	_, err = s.setTenantConcurrency(ctx, account, name, nil)
	return nil, err
}

// getTenantConcurrency answers with the limit by sub-tenant, with nothing where there is none.
func (s *Service) getTenantConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	name, err := tenantConcurrencyOf(request, "GetTenantConcurrency")
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	return schema.TenantConcurrencyOutput{TenantConcurrency: rec.TenantConcurrency}, nil
}

func (s *Service) setTenantConcurrency(ctx context.Context, account, name string, n *int) (any, error) {
	_, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		if n != nil && !rec.PerTenant {
			return schema.Invalid(schema.FieldError{
				Field: "FunctionName", Got: name, Allowed: "a function with sub-tenants (TenancyConfig.TenantIsolationMode " + schema.PerTenant + ")",
			})
		}
		rec.TenantConcurrency = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return schema.TenantConcurrencyOutput{TenantConcurrency: n}, nil
}

func tenantConcurrencyOf(request []byte, operation string) (string, error) {
	in, err := decode[schema.TenantConcurrencyInput](request)
	if err != nil {
		return "", err
	}
	if err := only(in, operation, "FunctionName"); err != nil {
		return "", err
	}
	return unqualified(in.FunctionName)
}

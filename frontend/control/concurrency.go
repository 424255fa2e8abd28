package control

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hearth-run/hearth/schema"
)

// putConcurrency sets how many environments a function may have, over all its versions; 0 stops it. DESIGN 5, S13.
func (s *Service) putConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ConcurrencyInput](request)
	if err != nil {
		return nil, err
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	switch n := in.ReservedConcurrentExecutions; {
	case n == nil:
		return nil, schema.Invalid(schema.FieldError{Field: "ReservedConcurrentExecutions", Allowed: "required"})
	case *n < 0 || *n > schema.MaxConcurrency:
		return nil, schema.Invalid(schema.FieldError{
			Field: "ReservedConcurrentExecutions", Got: strconv.Itoa(*n), Allowed: fmt.Sprintf("0 to %d", schema.MaxConcurrency),
		})
	}
	n := *in.ReservedConcurrentExecutions
	if reserved, err := s.reservedInAll(ctx, account, name, ""); err != nil {
		return nil, err
	} else if reserved > n {
		return nil, schema.Invalid(schema.FieldError{
			Field: "ReservedConcurrentExecutions", Got: strconv.Itoa(n), Allowed: fmt.Sprintf("at least %d, which its versions have reserved", reserved),
		})
	}
	return s.setConcurrency(ctx, account, name, &n)
}

// deleteConcurrency takes a function's limit away.
func (s *Service) deleteConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	name, err := concurrencyOf(request, "DeleteFunctionConcurrency")
	if err != nil {
		return nil, err
	}
	_, err = s.setConcurrency(ctx, account, name, nil)
	return nil, err
}

// getConcurrency answers with a function's limit, with nothing where it has none.
func (s *Service) getConcurrency(ctx context.Context, account string, request []byte) (any, error) {
	name, err := concurrencyOf(request, "GetFunctionConcurrency")
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	return schema.ConcurrencyOutput{ReservedConcurrentExecutions: rec.Concurrency}, nil
}

func (s *Service) setConcurrency(ctx context.Context, account, name string, n *int) (any, error) {
	_, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		rec.Concurrency = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return schema.ConcurrencyOutput{ReservedConcurrentExecutions: n}, nil
}

// reservedInAll is what the versions of a function have reserved, all but one.
func (s *Service) reservedInAll(ctx context.Context, account, name, but string) (n int, err error) {
	all, err := s.reservationsOf(ctx, account, name)
	for _, r := range all {
		if r.Version != but {
			n += r.Limit
		}
	}
	return n, err
}

func concurrencyOf(request []byte, operation string) (string, error) {
	in, err := decode[schema.ConcurrencyInput](request)
	if err != nil {
		return "", err
	}
	if err := only(in, operation, "FunctionName"); err != nil {
		return "", err
	}
	return unqualified(in.FunctionName)
}

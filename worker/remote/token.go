package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// tokens asks the manager for the tokens of an environment, as long as the session lasts: keys lie with managers alone.
func (s *session) tokens(environment string) schema.TokenSource {
	return func(ctx context.Context, tenant string) (schema.Token, error) {
		r := s.remote
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(r.life, func() { cancel(errOver) })
		defer stop()
		select {
		case <-s.over:
			return schema.Token{}, errOver
		default:
		}
		ask, err := schema.Marshal(schema.WorkerTokenAsk{V: schema.Version, Environment: environment, Tenant: tenant})
		if err != nil {
			return schema.Token{}, err
		}
		m, err := r.nc.RequestWithContext(ctx, subjects.ManagerToken(r.cfg.Manager, r.cfg.ID, s.link.Session()), ask)
		if err != nil {
			return schema.Token{}, fmt.Errorf("ask manager %s for a token: %w", r.cfg.Manager, err)
		}
		var t schema.WorkerToken
		if err := schema.Unmarshal(m.Data, &t); err != nil {
			return schema.Token{}, fmt.Errorf("read the token of manager %s: %w", r.cfg.Manager, err)
		}
		if t.Error != "" {
			return schema.Token{}, errors.New(t.Error)
		}
		return schema.Token{Text: t.Text, Life: t.Life}, nil
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
)

// Bounds of GetTrace.
const (
	traceWait  = 2 * time.Second // for nodes that do not answer: as long as one that has fallen silent is known
	traceParts = 4096            // answers that are taken at most
)

// getTrace asks all frontends and managers what they know of a call, and makes one story of it. It waits until every node that is
// known to live has answered, and no longer than traceWait for those that do not. What one of another account did is not told: nodes
// tell of calls of this one alone.
func (s *Service) getTrace(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.StoryInput](request)
	if err != nil {
		return nil, err
	}
	if err := traced(in); err != nil {
		return nil, err
	}
	parts, silent, err := s.askNodes(ctx, account, in.RequestID)
	if err != nil {
		return nil, err
	}
	out, ok := story.Merge(story.Of{Account: account, Function: in.FunctionName, Tenant: in.TenantID}, in.RequestID, parts)
	switch {
	case !ok && len(out.Others) > 0:
		return nil, schema.Errorf(schema.CodeNotFound, "request id %s is of no call that is asked for; it is of %s", in.RequestID, names(out.Others))
	case !ok:
		text := fmt.Sprintf("no node knows of a call with request id %s: each keeps its last %d calls, until it ends", in.RequestID, schema.StoriesKept)
		if len(silent) > 0 {
			text += fmt.Sprintf("; %d that are known did not answer in time: %s", len(silent), clip(fmt.Sprint(silent)))
		}
		return nil, schema.Errorf(schema.CodeNotFound, "%s", text)
	}
	out.Silent = silent
	return out, nil
}

// traced checks what is asked for.
func traced(in *schema.StoryInput) error {
	var bad []schema.FieldError
	if !traceable(in.RequestID) {
		bad = append(bad, schema.FieldError{Field: "RequestId", Got: clip(in.RequestID), Allowed: "the request id of a call, as its answer and its log lines have it"})
	}
	if in.FunctionName != "" && schema.ValidateFunctionName(in.FunctionName) != nil {
		bad = append(bad, schema.FieldError{Field: "FunctionName", Got: clip(in.FunctionName), Allowed: "the name of a function, or none"})
	}
	if in.TenantID != "" && schema.ValidateTenant(in.TenantID) != nil {
		bad = append(bad, schema.FieldError{Field: "TenantId", Got: clip(in.TenantID), Allowed: "the name of a sub-tenant, or none"})
	}
	if len(bad) > 0 {
		return schema.Invalid(bad...)
	}
	return nil
}

// names are calls as people read them.
func names(calls []schema.StoryOther) string {
	all := make([]string, len(calls))
	for i, c := range calls {
		all[i] = clip(c.String())
	}
	return strings.Join(all, ", ")
}

// traceable reports whether an id can be one of a call: hex digits and dashes, as a UUID has them, in any length up to its own.
func traceable(id string) bool {
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || c == '-') {
			return false
		}
	}
	return 0 < len(id) && len(id) <= 36
}

// askNodes gathers what the nodes tell, and names those that are known and did not.
func (s *Service) askNodes(ctx context.Context, account, id string) (parts []schema.StoryPart, silent []string, err error) {
	ask, err := schema.Marshal(schema.StoryAsk{V: schema.Version, RequestID: id, Account: account})
	if err != nil {
		return nil, nil, err
	}
	sub, err := s.nc.SubscribeSync(s.nc.NewInbox())
	if err != nil {
		return nil, nil, fmt.Errorf("listen for stories: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // nothing is expected on it any more
	missing := make(map[string]bool)
	for _, m := range s.view.Managers() {
		missing[schema.StoryManager+" "+m.ID] = true
	}
	for _, f := range s.view.Frontends() {
		missing[schema.StoryFrontend+" "+f] = true
	}
	if err := s.nc.PublishRequest(s.cfg.Names.Trace(id), sub.Subject, ask); err != nil {
		return nil, nil, fmt.Errorf("ask for stories: %w", err)
	}
	wait, cancel := context.WithTimeoutCause(ctx, traceWait, errors.New("waiting for the nodes' stories"))
	defer cancel()
	for len(missing) > 0 && len(parts) < traceParts {
		m, err := sub.NextMsgWithContext(wait)
		if err != nil {
			if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrNoResponders) {
				return nil, nil, fmt.Errorf("wait for stories: %w", err)
			}
			break
		}
		var part schema.StoryPart
		if err := schema.Unmarshal(m.Data, &part); err != nil {
			s.log.Warn("a story cannot be read", "bytes", len(m.Data), "error", err)
			continue
		}
		delete(missing, part.Node.Kind+" "+part.Node.ID)
		parts = append(parts, part)
	}
	for node := range missing {
		silent = append(silent, node)
	}
	slices.Sort(silent)
	return parts, silent, nil
}

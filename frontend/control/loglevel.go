package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	levelTime  = time.Second // bounds the wait for a node's answer, which it gives at once
	levelsOnce = 32          // nodes that are asked at once
)

// levelNode is a node that can be told from which level on to log.
type levelNode struct{ kind, id string }

func (n levelNode) String() string { return n.kind + " " + n.id }

// setLogLevel changes from which level on nodes log while they run, or tells how it stands.
func (s *Service) setLogLevel(ctx context.Context, _ string, request []byte) (any, error) {
	in, err := decode[schema.LevelInput](request)
	if err != nil {
		return nil, err
	}
	var bad []schema.FieldError
	if in.Level != "" {
		if _, ok := telemetry.ParseLevel(in.Level); !ok {
			bad = append(bad, schema.FieldError{Field: "Level", Got: clip(in.Level), Allowed: "debug, info, warn, error, or left out"})
		}
	}
	lasting := time.Duration(in.ForSeconds) * time.Second
	if in.ForSeconds < 0 || in.ForSeconds > int(schema.MaxLevelFor/time.Second) {
		bad = append(bad, schema.FieldError{Field: "ForSeconds", Got: fmt.Sprint(in.ForSeconds), Allowed: fmt.Sprint("0 to ", int(schema.MaxLevelFor/time.Second))})
	}
	if in.Node == "" || len(in.Node) > 128 {
		bad = append(bad, schema.FieldError{Field: "Node", Got: clip(in.Node), Allowed: "the id of a manager or frontend, or " + schema.AllNodes})
	}
	if err := schema.Invalid(bad...); len(bad) > 0 {
		return nil, err
	}
	nodes := s.levelNodes(in.Node)
	if len(nodes) == 0 {
		return nil, schema.Errorf(schema.CodeNotFound, "no node %q is there; there are %s", clip(in.Node), clip(fmt.Sprint(s.levelNodes(schema.AllNodes))))
	}
	out := &schema.LevelOutput{Nodes: []schema.NodeLevel{}}
	var mu sync.Mutex // guards out
	crew := pool.New().WithMaxGoroutines(levelsOnce)
	for _, n := range nodes {
		crew.Go(func() {
			level, err := s.orderLevel(ctx, n, &schema.LevelOrder{V: schema.Version, Level: in.Level, For: lasting})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.log.Info("log level of a node", "node", n.String(), "error", err)
				out.Silent = append(out.Silent, n.String())
				return
			}
			out.Nodes = append(out.Nodes, level)
		})
	}
	crew.Wait()
	if len(out.Nodes) == 0 {
		return nil, schema.Errorf(schema.CodeUnavailable, "nobody of %s did it", clip(fmt.Sprint(out.Silent)))
	}
	slices.SortFunc(out.Nodes, func(a, b schema.NodeLevel) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID)) })
	slices.Sort(out.Silent)
	return out, nil
}

// levelNodes are the nodes that a request means: one by its id, or all that are known.
func (s *Service) levelNodes(id string) (nodes []levelNode) {
	for _, f := range s.view.Frontends() {
		nodes = append(nodes, levelNode{schema.StoryFrontend, f})
	}
	for _, m := range s.view.Managers() {
		nodes = append(nodes, levelNode{schema.StoryManager, m.ID})
	}
	if id != schema.AllNodes {
		nodes = slices.DeleteFunc(nodes, func(n levelNode) bool { return n.id != id })
	}
	return nodes
}

// orderLevel tells one node.
func (s *Service) orderLevel(ctx context.Context, n levelNode, o *schema.LevelOrder) (level schema.NodeLevel, err error) {
	subject, order := subjects.FrontendInbox(n.id, "l"), any(o)
	if n.kind == schema.StoryManager {
		subject, order = s.cfg.Names.ManagerControl(n.id), &schema.Control{V: schema.Version, Op: schema.ControlLevel, Level: o}
	}
	body, err := schema.Marshal(order)
	if err != nil {
		return level, err
	}
	ctx, cancel := context.WithTimeout(ctx, levelTime)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return level, err
	}
	if text := m.Header.Get(schema.HeaderError); text != "" {
		return level, schema.ParseErrorHeaders(m.Header.Get(schema.HeaderErrorCode), text)
	}
	return level, schema.Unmarshal(m.Data, &level)
}

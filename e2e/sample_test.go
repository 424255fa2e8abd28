package e2e_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
)

// sampler adds up S of a reservation at every status that a manager tells, as frontends do.
type sampler struct {
	t        testing.TB
	function string

	mu     sync.Mutex // guards what follows
	told   map[string]*managerTold
	lowest int // from the first time on that becomes came true
	begun  bool
}

// managerTold is the members that one life of a manager told last, by arc.
type managerTold struct {
	incarnation string
	ready       map[string]int
}

// sample begins to listen to the managers.
func sample(t testing.TB, l *ledger, function string) *sampler {
	t.Helper()
	s := &sampler{t: t, function: function, told: map[string]*managerTold{}}
	sub, err := l.nc.Subscribe("hearth.status.manager.*", s.heard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection may be closed
	return s
}

func (s *sampler) heard(m *nats.Msg) {
	var status schema.ManagerStatus
	if err := schema.Unmarshal(m.Data, &status); err != nil {
		s.t.Errorf("a manager's status: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told[status.ID]
	if told == nil || told.incarnation != status.Incarnation {
		if status.Partial {
			return
		}
		told = &managerTold{incarnation: status.Incarnation}
		s.told[status.ID] = told
	}
	if !status.Partial {
		told.ready = map[string]int{}
	}
	for _, a := range status.Arcs {
		if a.Function == s.function && strings.HasPrefix(a.Arc, "r.") {
			told.ready[a.Arc] = a.Ready
		}
	}
	s.see()
}

// see takes a sample. mu is held.
func (s *sampler) see() {
	if s.begun {
		s.lowest = min(s.lowest, s.all())
	}
}

// all is S. mu is held.
func (s *sampler) all() (n int) {
	for id := range s.told {
		n += s.of(id)
	}
	return n
}

func (s *sampler) of(manager string) (n int) {
	if told := s.told[manager]; told != nil {
		for _, ready := range told.ready {
			n += ready
		}
	}
	return n
}

func (s *sampler) sum() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all()
}

func (s *sampler) at(manager string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(manager)
}

// gone forgets a manager whose process has ended.
func (s *sampler) gone(manager string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.told, manager)
	s.see()
}

// becomes waits until members are so, and counts the samples from then on.
func (s *sampler) becomes(what string, so func() bool) {
	s.t.Helper()
	eventually(s.t, what, so)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun, s.lowest = true, s.all()
	}
}

// least is the lowest S of all samples.
func (s *sampler) least() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lowest
}

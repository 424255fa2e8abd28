package story

import (
	"cmp"
	"slices"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Merge makes one story of what nodes told of the calls of an account under a request id: of the last one, or of the last one of the
// function and the sub-tenant that of names. It reports false where none of them knows such a call; the story then holds the others.
// It changes the parts.
//
// The steps of a node stay in their order. Nodes of one clock are laid together by its time; between clocks causes decide: the
// publication that a step belongs to, and its stage in that. Only where two frontends published the same call, one after the other
// (tries of an event), and nothing else tells which was first, their times do.
func Merge(of Of, id string, parts []schema.StoryPart) (*schema.Story, bool) {
	lines, others := pick(&of, parts)
	s := &schema.Story{RequestID: id, Account: of.Account, Others: others}
	for _, o := range others {
		s.Other = append(s.Other, o.Function)
	}
	s.Other = slices.Compact(s.Other)
	if len(lines) == 0 {
		return s, false
	}
	s.Function, s.Tenant = lines[0].told.Function, lines[0].told.Tenant
	rank := publications(lines)
	byClock := make(map[string][]schema.StoryStep)
	var clocks []string
	for i := range lines {
		l := &lines[i]
		s.Left += l.told.Left
		if byClock[l.node.Clock] == nil {
			clocks = append(clocks, l.node.Clock)
		}
		byClock[l.node.Clock] = join(byClock[l.node.Clock], l.told.Steps, func(a, b *schema.StoryStep) int { return a.At.Compare(b.At) })
	}
	for _, clock := range clocks {
		s.Steps = join(s.Steps, byClock[clock], func(a, b *schema.StoryStep) int {
			return cmp.Or(cmp.Compare(rank[a.Publication], rank[b.Publication]), cmp.Compare(a.Stage&stages, b.Stage&stages))
		})
	}
	sum(s, lines)
	if s.Tries == 0 { // no frontend tells any more
		s.Tries = len(rank)
	}
	return s, true
}

const stages = 1<<stageTries - 1

// line is what one node told of the call.
type line struct {
	node schema.StoryNode
	told schema.StoryTold
}

func (l *line) last() time.Time { return l.told.Steps[len(l.told.Steps)-1].At }

// pick chooses the call that happened last where an id names several that may be meant, frontends first, and gives the others, sorted.
func pick(of *Of, parts []schema.StoryPart) (lines []line, others []schema.StoryOther) {
	type name = schema.StoryOther
	newest := make(map[name]time.Time)
	var all []line
	for _, p := range parts {
		for _, told := range p.Calls {
			if len(told.Steps) == 0 {
				continue
			}
			for i := range told.Steps {
				told.Steps[i].Node = p.Node
			}
			l := line{p.Node, told}
			all = append(all, l)
			if n := (name{Function: told.Function, Tenant: told.Tenant}); l.last().After(newest[n]) {
				newest[n] = l.last()
			}
		}
	}
	var last name
	for n, at := range newest {
		switch {
		case of.Function != "" && of.Function != n.Function, of.Tenant != "" && of.Tenant != n.Tenant:
		case last == name{}, at.After(newest[last]), at.Equal(newest[last]) && compareOthers(n, last) < 0:
			last = n
		}
	}
	for _, l := range all {
		if (name{Function: l.told.Function, Tenant: l.told.Tenant}) == last {
			lines = append(lines, l)
		}
	}
	delete(newest, last)
	for n := range newest {
		others = append(others, n)
	}
	slices.SortFunc(others, compareOthers)
	slices.SortStableFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.node.Kind, b.node.Kind), a.told.Steps[0].At.Compare(b.told.Steps[0].At), cmp.Compare(a.node.ID, b.node.ID))
	})
	return lines, others
}

func compareOthers(a, b schema.StoryOther) int {
	return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Tenant, b.Tenant))
}

// publications numbers those that are told of in the order in which they were made.
func publications(lines []line) map[uint64]int {
	type publication struct {
		token    uint64
		tries    uint64
		frontend bool
		at       time.Time
	}
	first := make(map[uint64]publication)
	for _, l := range lines { // frontends come first
		for i := range l.told.Steps {
			s := &l.told.Steps[i]
			if _, known := first[s.Publication]; !known {
				first[s.Publication] = publication{s.Publication, s.Stage >> stageTries, l.node.Kind == schema.StoryFrontend, s.At}
			}
		}
	}
	all := make([]publication, 0, len(first))
	for _, p := range first {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b publication) int {
		return cmp.Or(cmp.Compare(a.tries, b.tries), a.at.Compare(b.at), cmp.Compare(a.token, b.token))
	})
	rank := make(map[uint64]int, len(all))
	for i, p := range all {
		rank[p.token] = i
	}
	return rank
}

// join lays two sequences together, each in its own order: the head that is before the other comes first, of equal ones that of a.
func join(a, b []schema.StoryStep, compare func(a, b *schema.StoryStep) int) []schema.StoryStep {
	out := make([]schema.StoryStep, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compare(&a[0], &b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// sum says how the story stands, by whose clock, and which version it was about.
func sum(s *schema.Story, lines []line) {
	head := &s.Steps[max(0, slices.IndexFunc(s.Steps, func(step schema.StoryStep) bool { return step.Node.Kind == schema.StoryFrontend }))]
	s.Node, s.Began, s.Status = head.Node, head.At, schema.StoryRunning
	for i := range s.Steps {
		step := &s.Steps[i]
		status, says := outcome(step)
		over := says && status != schema.StoryRunning || step.What == "ended" || step.What == "untold"
		switch {
		case says:
			s.Status = status
		case over && s.Status == schema.StoryRunning:
			s.Status = schema.StoryIsUnknown // it has ended, and who knows how does not tell
		}
		switch {
		case over && step.Node.Clock == head.Node.Clock:
			s.Ended = step.At
		case over && step.Node.Kind == schema.StoryFrontend:
			s.Ended = time.Time{} // another frontend saw it end, by a clock of its own
		}
		if step.What == "published" {
			s.Tries++
		}
	}
	if s.Status == schema.StoryRunning {
		s.Ended = time.Time{}
	}
	last := s.Steps[len(s.Steps)-1].Node
	for _, l := range lines {
		if l.told.Version != "" && (s.Version == "" || l.node == last) {
			s.Version = l.told.Version
		}
	}
}

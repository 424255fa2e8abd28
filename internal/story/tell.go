package story

import (
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Node is whose book it is.
func (b *Book) Node() schema.StoryNode { return b.node }

// Tell is what this node knows of the calls of an account with a request id. It answers that it knows nothing, too.
func (b *Book) Tell(account, id string) schema.StoryPart {
	part := schema.StoryPart{V: schema.Version, Node: b.node}
	for _, r := range b.copies(account, id) {
		t := teller{kind: b.node.Kind}
		for i := range int(r.n) {
			t.step(r.step(i))
		}
		part.Calls = append(part.Calls, schema.StoryTold{
			Function: r.of.Function, Version: r.of.Version, Tenant: r.of.Tenant, Steps: t.told, Left: int(r.left),
		})
	}
	return part
}

// copies are the records of an id, so that no call waits while words are made of them.
func (b *Book) copies(account, id string) (found []record) {
	if id == "" || len(id) > longest {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for next := b.first[b.hash(id)%buckets]; next != 0; next = b.links[next-1].after {
		r := b.at(next - 1)
		if r.named(id) && r.of.Account == account {
			c := *r
			if r.overflow != nil {
				rest := *r.overflow
				c.overflow = &rest
			}
			found = append(found, c)
		}
	}
	return found
}

// teller makes words of the steps of one call at one node, in their order.
type teller struct {
	kind  string
	of    uint64 // publication and stage that the last claim named: what follows it is of the same
	stage uint64
	tries uint64
	told  []schema.StoryStep
}

// Stages order the steps of one publication: the frontend's first ones, then each claim by the leg of its way and its delivery, then
// the frontend's last ones. See [Merge].
const (
	stageStored = 1
	stageClaim  = 1 << 8
	stageMoved  = 1 << 40 // the leg on the unreserved arc, after a reserved one
	stageEnd    = 1 << 44
	stageTries  = 48 // bits above which tries stand
)

func (t *teller) step(s *Step) {
	switch s.Code {
	case admitted, joined:
		t.tries = uint64(s.n[1])
	case claimed:
		t.tries = uint64(s.n[3])
	}
	switch s.Code {
	case claimed:
		t.of, t.stage = s.Of, stageClaim+uint64(s.n[1])<<1
		if s.flags&flagHanded != 0 {
			t.stage++
		}
		if s.flags&flagReserved == 0 {
			t.stage += stageMoved
		}
	case admitted, decided, repeated, joined:
		t.of, t.stage = s.Of, 0
	case stored:
		t.of, t.stage = s.Of, stageStored
	case spilled, overflowed:
		t.of, t.stage = s.Of, stageMoved
	case refused, answered, ended, untold, lost, abandoned, named, gone:
		t.of, t.stage = s.Of, stageEnd
	}
	at := time.Unix(0, s.At).UTC()
	for _, w := range s.words() {
		t.told = append(t.told, schema.StoryStep{
			At: at, What: w.what, Text: w.text, Facts: w.facts, Publication: t.of, Stage: t.tries<<stageTries | t.stage,
		})
	}
}

package console

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// ringFresh is for how long what GetRing answered serves all who look: it asks streams for all their consumers. An error
// serves as long.
const ringFresh = time.Second

// ringCache keeps the last answers of GetRing, so that many windows ask no more than one. It is safe for concurrent use.
type ringCache struct {
	mu   sync.Mutex // never held while somebody asks
	kept map[string]*ringLook
}

// ringLook is one question, by function, and its answer.
type ringLook struct {
	done chan struct{} // closed when what follows is written
	at   time.Time
	out  *schema.RingOutput
	err  error
}

// fresh reports whether a look serves: it is under way, or not old.
func (l *ringLook) fresh() bool {
	select {
	case <-l.done:
		return time.Since(l.at) < ringFresh
	default:
		return true
	}
}

// mostKept is for how many functions rings are kept.
const mostKept = 64

// get is a fresh answer, from ask where none is kept. Who comes meanwhile waits for it, or until ctx ends. ask has the values of
// ctx and not its end, for it asks for others too: it bounds its own time.
func (k *ringCache) get(ctx context.Context, function string, ask func(context.Context) (*schema.RingOutput, error)) (*schema.RingOutput, error) {
	k.mu.Lock()
	l := k.kept[function]
	if l == nil || !l.fresh() {
		if k.kept == nil || len(k.kept) >= mostKept {
			k.kept = make(map[string]*ringLook) // who waits for one of them has it
		}
		l = &ringLook{done: make(chan struct{}), err: errors.New("the look at the ring was broken off")}
		k.kept[function] = l
		k.mu.Unlock()
		defer func() { l.at = time.Now(); close(l.done) }()
		l.out, l.err = ask(context.WithoutCancel(ctx))
		return l.out, l.err
	}
	k.mu.Unlock()
	select {
	case <-l.done:
		return l.out, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// arcRow is one arc as the page shows it.
type arcRow struct {
	Key, Name, Subject, Kind, Waiting, Claimed string
	Ranks                                      []rankOf
	Hot                                        bool // calls wait
}

// rankOf is a manager of an arc, and its colour.
type rankOf struct {
	Manager string
	Colour  int
}

type ringBody struct {
	Function, FormURL string
	Epoch             uint64
	Nodes             []ringNode
	All               environments
	Places            int
	Bar               bar
	Reserved          []arcRow
	Unreserved        []arcRow
	Drawing           *drawing
	Failed            []string
}

// ReservedParts and UnreservedParts are the arcs as tables that stand beside one another where there is room.
func (b ringBody) ReservedParts() [][]arcRow { return parts(b.Reserved) }

// UnreservedParts is as ReservedParts.
func (b ringBody) UnreservedParts() [][]arcRow { return parts(b.Unreserved) }

func parts(arcs []arcRow) [][]arcRow {
	const few = 8 // not worth another table
	n := min(3, (len(arcs)+few-1)/few)
	if n == 0 {
		return nil
	}
	return slices.Collect(slices.Chunk(arcs, (len(arcs)+n-1)/n))
}

// ringNode is a manager of the ring, and of how many arcs it is the first.
type ringNode struct {
	node
	Colour int
	First  int
}

// colours is how many there are; further managers begin anew. Each is named beside it too.
const colours = 8

func (c *Console) ring(r *http.Request) (*page, error) {
	function := r.URL.Query().Get("function")
	function = function[:min(len(function), 200)]
	b := ringBody{Function: function, FormURL: Root + "/ring"}
	nodes := c.nodes()
	b.All, b.Places = sum(nodes)
	b.Bar = barOf("all", b.All, b.Places)
	colour := make(map[string]int)
	for i, n := range nodes {
		colour[n.ID] = i % colours
		b.Nodes = append(b.Nodes, ringNode{node: n, Colour: i % colours})
	}
	out, err := c.askRing(r.Context(), function)
	if err != nil {
		b.Failed = together(func() error { return err })
		out = &schema.RingOutput{Epoch: c.fabric.Ring().Epoch}
	}
	b.Epoch = out.Epoch
	for i, a := range out.Arcs {
		row := c.arcRow(i, a, colour)
		if a.Kind == "reserved" {
			b.Reserved = append(b.Reserved, row)
			continue
		}
		b.Unreserved = append(b.Unreserved, row)
		if len(a.Ranks) > 0 {
			for k := range b.Nodes {
				if b.Nodes[k].ID == a.Ranks[0] {
					b.Nodes[k].First++
				}
			}
		}
	}
	if function == "" && len(b.Unreserved) > 1 {
		b.Drawing = draw(b.Unreserved)
	}
	live := url.Values{"page": {"ring"}}
	if function != "" {
		live.Set("function", function)
	}
	return &page{Name: "ring", Title: "Ring", Live: live, Shape: ringShape(nodes, out), Body: b}, nil
}

func (c *Console) askRing(ctx context.Context, function string) (*schema.RingOutput, error) {
	return c.rings.get(ctx, function, func(ctx context.Context) (*schema.RingOutput, error) {
		out := new(schema.RingOutput)
		if err := c.do(ctx, subjects.FabricAccount, "GetRing", schema.RingInput{FunctionName: function}, out); err != nil {
			return nil, err
		}
		return out, nil
	})
}

// ringShape tells pages apart that have other managers, arcs or ranks.
func ringShape(nodes []node, out *schema.RingOutput) string {
	ranks := 0
	for _, a := range out.Arcs {
		ranks += len(a.Ranks)
	}
	return shapeOf(nodes) + strconv.Itoa(len(out.Arcs)) + "/" + strconv.Itoa(ranks) + "/" + strconv.FormatUint(out.Epoch, 10)
}

func (c *Console) arcRow(i int, a schema.RingArc, colour map[string]int) arcRow {
	row := arcRow{
		Key: "a" + strconv.Itoa(i), Subject: a.Subject, Kind: a.Kind, Name: c.arcName(a.Subject), Waiting: counted(a.Pending), Claimed: counted(a.Claimed),
		Hot: a.Pending > 0,
	}
	for _, m := range a.Ranks {
		row.Ranks = append(row.Ranks, rankOf{m, colour[m]})
	}
	return row
}

// arcName is the short name of an arc, by its subject.
func (c *Console) arcName(subject string) string {
	short, ok := strings.CutPrefix(subject, c.names.Prefix()+".arc.")
	if !ok {
		return subject
	}
	if nn, unreserved := strings.CutPrefix(short, "u."); unreserved {
		nn, _, _ = strings.Cut(nn, ".")
		return "u." + nn
	}
	return short
}

// counted is a number of calls, of which the stream may not have told.
func counted(n int) string {
	if n < 0 {
		return "?"
	}
	return grouped(n)
}

// ringNow is what changes of the ring.
func (c *Console) ringNow(ctx context.Context, function string) figures {
	nodes := c.nodes()
	f := figures{Text: make(map[string]string), Attr: make(map[string]map[string]string)}
	f.nodes(nodes)
	out, err := c.askRing(ctx, function)
	if err != nil {
		return f // without a shape the page stays
	}
	f.Shape = ringShape(nodes, out)
	for i, a := range out.Arcs {
		key := "a" + strconv.Itoa(i)
		f.Text[key+".waiting"], f.Text[key+".claimed"] = counted(a.Pending), counted(a.Claimed)
		f.Attr[key+".hot"] = map[string]string{"data-hot": strconv.FormatBool(cmp.Compare(a.Pending, 0) > 0)}
	}
	return f
}

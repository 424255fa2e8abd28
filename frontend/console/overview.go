package console

import (
	"context"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// environments counts environments by state. Reserved and Surplus are among the others.
type environments struct {
	Idle, Busy, Starting, Reserved, Surplus int
}

// All is those that there are.
func (e environments) All() int { return e.Idle + e.Busy + e.Starting }

// bar is how environments fill a drawing of 100 units: of a capacity, or of themselves where there are more.
type bar struct {
	Key                             string
	Busy, Starting, Idle            float64 // widths
	BusyAt, StartingAt, IdleAt      float64
	BusyN, StartingN, IdleN, Places int
}

func barOf(key string, e environments, places int) bar {
	b := bar{Key: key, BusyN: e.Busy, StartingN: e.Starting, IdleN: e.Idle, Places: places}
	whole := float64(max(places, e.All(), 1))
	part := func(n int) float64 { return float64(n*1000/int(whole)) / 10 }
	b.Busy, b.Starting, b.Idle = part(e.Busy), part(e.Starting), part(e.Idle)
	b.StartingAt, b.IdleAt = b.Busy, b.Busy+b.Starting
	return b
}

// attrs are the attributes of the drawing's parts.
func (b bar) attrs(into map[string]map[string]string) {
	for _, p := range [...]struct {
		name     string
		at, wide float64
	}{{"busy", b.BusyAt, b.Busy}, {"starting", b.StartingAt, b.Starting}, {"idle", b.IdleAt, b.Idle}} {
		into[b.Key+"."+p.name] = map[string]string{"x": number(p.at), "width": number(p.wide)}
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// node is one manager as the page shows it.
type node struct {
	ID       string
	Key      string // of its figures
	State    string
	Well     bool // on the ring, and heard
	Capacity int
	Room     int
	environments
	Bar bar
}

// nodes are the managers of the ring, and others that tell their status.
func (c *Console) nodes() []node {
	ring, told := c.fabric.Ring(), c.fabric.Managers()
	at := make(map[string]int)
	var all []node
	add := func(id string, state schema.MemberState) {
		if _, known := at[id]; !known {
			at[id] = len(all)
			all = append(all, node{ID: id, State: string(state)})
		}
	}
	for _, id := range ring.Members {
		add(id, stateSilent)
	}
	for _, id := range ring.Leaving {
		add(id, schema.MemberDraining)
	}
	for _, m := range told {
		i, on := at[m.ID]
		switch {
		case !on && m.State == schema.MemberActive:
			continue // it has left; its last word outlives it for a moment
		case !on:
			add(m.ID, m.State)
			i = at[m.ID]
		case all[i].State != string(schema.MemberDraining):
			all[i].State = string(m.State)
		}
		n := &all[i]
		n.Capacity, n.Room = m.Capacity, m.Room
		n.environments = environments{m.Idle, m.Busy, m.Starting, m.Reserved, m.Surplus}
	}
	for i := range all {
		n := &all[i]
		n.Key = "m" + strconv.Itoa(i)
		n.Well = n.State == string(schema.MemberActive)
		n.Bar = barOf(n.Key, n.environments, n.Capacity)
	}
	return all
}

// stateSilent is that of a manager on the ring which this frontend does not hear.
const stateSilent schema.MemberState = "silent"

// shapeOf tells pages apart whose managers are others or stand otherwise.
func shapeOf(nodes []node) string {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteString(n.ID + "=" + n.State + " ")
	}
	return hash(b.String())
}

// hash is a short name of a text.
func hash(s string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// sum is all environments of the fabric, and its capacity.
func sum(nodes []node) (e environments, places int) {
	for _, n := range nodes {
		e.Idle, e.Busy, e.Starting = e.Idle+n.Idle, e.Busy+n.Busy, e.Starting+n.Starting
		e.Reserved, e.Surplus = e.Reserved+n.Reserved, e.Surplus+n.Surplus
		places += n.Capacity
	}
	return e, places
}

type overviewBody struct {
	Nodes     []node
	All       environments
	Places    int
	Bar       bar
	Totals    Totals
	Bad       uint64
	Functions int
	Spark     spark

	Reservations int
	Late         []schema.ReservationOutput // not ready
	Letters      int
	MoreLetters  bool
	Failed       []string  // what could not be found out
	Trouble      []trouble // what an operator looks at first
}

// spark is the drawing of the last minute.
type spark struct {
	Calls, Bad, Rate, BadRate, Most string
	Width, Height                   int
}

func (c *Console) spark() spark {
	r, calls, bad, most := c.history.now()
	return spark{Calls: calls, Bad: bad, Rate: perSecond(r.calls), BadRate: perSecond(r.bad), Most: perSecond(most), Width: sparkWidth, Height: sparkHeight}
}

// mostLetters is how many dead letters the overview looks at: to say that there are some.
const mostLetters = 50

func (c *Console) overview(r *http.Request) (*page, error) {
	b := overviewBody{Nodes: c.nodes(), Totals: c.fabric.Totals(), Functions: len(c.fabric.Functions(c.account)), Spark: c.spark()}
	b.All, b.Places = sum(b.Nodes)
	b.Bar = barOf("all", b.All, b.Places)
	b.Bad = b.Totals.bad()
	b.Failed = together(
		func() error { return c.lateReservations(r.Context(), &b) },
		func() error {
			var out schema.DeadLettersOutput
			err := c.do(r.Context(), c.account, "ListDeadLetters", schema.EventsInput{MaxItems: mostLetters}, &out)
			b.Letters, b.MoreLetters = len(out.DeadLetters), out.NextMarker != ""
			return err
		},
	)
	b.Trouble = b.trouble()
	return &page{Name: "overview", Title: "Overview", Live: url.Values{"page": {"overview"}}, Shape: shapeOf(b.Nodes), Body: b}, nil
}

func (c *Console) lateReservations(ctx context.Context, b *overviewBody) error {
	var out schema.ListReservationsOutput
	if err := c.do(ctx, c.account, "ListReservations", schema.ListReservationsInput{}, &out); err != nil {
		return err
	}
	b.Reservations = len(out.Reservations)
	for _, r := range out.Reservations {
		if r.Status != schema.ReservationReady && r.State != schema.ReservationDraining {
			b.Late = append(b.Late, r)
		}
	}
	return nil
}

// trouble is a thing that is not as it should be, and the page that shows it.
type trouble struct{ Text, Href string }

// trouble says in words what is not as it should be.
func (b *overviewBody) trouble() []trouble {
	var all []trouble
	on := 0
	for _, n := range b.Nodes {
		if n.Well {
			on++
		} else if n.State == string(stateSilent) {
			all = append(all, trouble{Text: "Manager " + visible(n.ID) + " is on the ring and not heard."})
		}
	}
	if on == 0 {
		all = append(all, trouble{Text: "No manager takes calls."})
	}
	if n := len(b.Late); n > 0 {
		all = append(all, trouble{Text: plural(n, "reservation is", "reservations are") + " not ready.", Href: "#h-res"})
	}
	if b.Letters > 0 {
		more := ""
		if b.MoreLetters {
			more = " or more"
		}
		all = append(all, trouble{Text: plural(b.Letters, "event", "events") + more + " failed for good.", Href: Root + "/events"})
	}
	return all
}

// overviewNow is what changes of the overview.
func (c *Console) overviewNow() figures {
	nodes, t, s := c.nodes(), c.fabric.Totals(), c.spark()
	f := figures{Text: map[string]string{
		"rate": s.Rate, "badrate": s.BadRate, "most": s.Most, "flight": grouped(t.InFlight), "calls": grouped(t.Calls), "bad": grouped(t.bad()),
	}, Attr: map[string]map[string]string{"spark.calls": {"points": s.Calls}, "spark.bad": {"points": s.Bad}}, Shape: shapeOf(nodes)}
	f.nodes(nodes)
	return f
}

// nodes adds what changes of managers.
func (f *figures) nodes(nodes []node) {
	all, places := sum(nodes)
	b := barOf("all", all, places)
	b.attrs(f.Attr)
	f.environments("all", all)
	f.Text["all.places"] = grouped(places)
	for _, n := range nodes {
		n.Bar.attrs(f.Attr)
		f.environments(n.Key, n.environments)
		f.Text[n.Key+".places"], f.Text[n.Key+".room"] = grouped(n.Capacity), grouped(n.Room)
	}
}

func (f *figures) environments(key string, e environments) {
	for name, n := range map[string]int{"idle": e.Idle, "busy": e.Busy, "starting": e.Starting, "reserved": e.Reserved, "surplus": e.Surplus, "all": e.All()} {
		f.Text[key+"."+name] = grouped(n)
	}
}

package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	fe "github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/manager/pace"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// sim is one simulation under way.
type sim struct {
	cfg   Config
	rules rules
	now   time.Duration // since the fabric is up
	began time.Duration // when the first call came
	first time.Duration // Call.At of that one
	queue queue
	input *window
	next  *Call // that comes next; nil: none does
	err   error

	ring      *subjects.Ring
	managers  []*manager // in the order of the ring's
	frontends []*frontend
	turn      int // the frontend that takes the next call
	functions map[string]*function
	arcs      []*arc  // unreserved ones
	orders    [][]int // of each, all managers of the ring from its place on
	byName    map[string]*arc
	reserved  []*reservation // by epoch, from 1 on
	stored    map[subject]int

	flight   int // calls under way
	existing int // environments that have not gone
	beating  bool
	beats    int
	beaten   time.Duration // when it beat last

	knowing  *knowing
	report   Report
	waits    histogram
	messages [messages]int
}

// Run simulates the calls of a source on a fabric and reports what became of them. Calls may be out of order by up to 65,536 of them;
// one that comes later than that is a [LineError], as is whatever a [Trace] refuses. It fails with the cause of ctx when that ends.
func Run(ctx context.Context, cfg Config, src Source) (*Report, error) {
	return run(ctx, cfg, src, rules{route: fe.Route, pick: (*arc).best})
}

// rules are two mechanisms that tests switch off to see what they are for.
type rules struct {
	route func(fe.Load) fe.Decision // the arc of a call
	pick  func(*arc) *generation    // who gets the next call of an arc; nil: nobody
}

func run(ctx context.Context, cfg Config, src Source, rules rules) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := newSim(cfg.withDefaults(), src, rules)
	if err := s.open(); err != nil {
		return nil, err
	}
	for n := 0; s.next != nil || s.flight > 0; n++ {
		if n%8192 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := s.queue.take()
		s.now = e.at
		if e.do(); s.err != nil {
			return nil, s.err
		}
	}
	s.finish()
	return &s.report, nil
}

func newSim(cfg Config, src Source, rules rules) *sim {
	s := &sim{
		cfg: cfg, rules: rules, input: newWindow(src), functions: make(map[string]*function), byName: make(map[string]*arc),
		stored: make(map[subject]int),
	}
	ids := make([]string, cfg.Managers)
	for i := range ids {
		ids[i] = fmt.Sprintf("m%d", i+1)
	}
	s.ring = subjects.NewRing(cfg.Fabric.Vnodes, ids)
	for nn := range cfg.Fabric.Arcs {
		a := &arc{s: s, name: subjects.UnreservedName(nn), number: nn}
		s.arcs = append(s.arcs, a)
		s.byName[a.name] = a
		s.orders = append(s.orders, s.ring.Unreserved(nil, nn, cfg.Managers))
	}
	for i := range cfg.Managers {
		s.managers = append(s.managers, newManager(s, i))
	}
	for i := range cfg.Frontends {
		s.frontends = append(s.frontends, &frontend{
			s: s, at: i, calls: make(map[*function]int), others: make([]map[*function]int, cfg.Frontends),
			members: make([]map[memberKey]member, cfg.Managers), heard: make([]time.Duration, cfg.Managers),
		})
	}
	s.knowing = newKnowing(s)
	return s
}

// open has everything offered, the first reservations ready, and the first call on its way.
func (s *sim) open() error {
	c, ok, err := s.input.pop()
	switch {
	case err != nil:
		return err
	case !ok:
		return schema.Invalid(schema.FieldError{Field: "calls", Allowed: "at least one: there is none to simulate"})
	}
	s.first = c.At
	lead := time.Duration(0)
	places := 0
	for _, r := range s.cfg.Reserve {
		f := s.foresee(r.Function, &c)
		if places += r.Limit * f.places; r.At == 0 && r.Limit > 0 {
			lead = max(lead, 2*f.init+2*time.Second+s.cfg.Lag) // until all know that they are ready
		}
		if r.Limit*f.places > s.cfg.Managers*s.cfg.Capacity {
			return schema.Invalid(schema.FieldError{Field: "reserve " + r.Function, Got: fmt.Sprint(r.Limit), Allowed: fmt.Sprintf(
				"what fits into the %d places of all managers, at %d each", s.cfg.Managers*s.cfg.Capacity, f.places)})
		}
	}
	for _, m := range s.managers {
		for _, a := range s.arcs {
			m.place(a)
		}
	}
	for _, r := range s.cfg.Reserve {
		at := r.At
		if at > 0 {
			at += lead
		}
		s.queue.add(at, func() { s.reserve(s.functions[r.Function], r.Limit) })
	}
	s.wake()
	s.began = lead
	s.next = &c
	s.queue.add(lead, s.begin)
	return nil
}

// foresee is a function of which a reservation speaks before its first call comes, as far as calls are known.
func (s *sim) foresee(name string, first *Call) *function {
	if first.Function == name {
		return s.function(first)
	}
	at := -1
	for i := range s.input.calls {
		if c := &s.input.calls[i]; c.Function == name && (at < 0 || c.number < s.input.calls[at].number) {
			at = i
		}
	}
	if at < 0 {
		return s.function(&Call{Function: name})
	}
	return s.function(&s.input.calls[at].Call)
}

// begin is the moment from which everything is counted.
func (s *sim) begin() {
	s.messages = [messages]int{}
	for _, m := range s.managers {
		m.use.begin(s.now)
	}
	s.arrive()
}

// arrive takes the next call in.
func (s *sim) arrive() {
	if !s.beating {
		s.wake()
	}
	c := &call{Call: *s.next, of: s.function(s.next), came: s.now}
	if c.of.places != schema.Places(c.MemoryMB) {
		s.err = &LineError{c.Line, "memory_mb", fmt.Sprintf("is %d, and the reservation of %s was made for less or more, since its first call "+
			"comes so late; leave the reservation out, or start with a call of it", c.MemoryMB, c.Function)}
		return
	}
	s.knowing.take(s.next, c.of)
	s.report.Calls.Total++
	s.flight++
	c.from = s.frontends[s.turn]
	s.turn = (s.turn + 1) % len(s.frontends)
	c.from.take(c)

	s.next = nil
	next, ok, err := s.input.pop()
	if err != nil {
		s.err = err
	} else if ok {
		s.next = &next
		s.queue.add(s.began+next.At-s.first, s.arrive)
	}
}

// after does something so much later.
func (s *sim) after(d time.Duration, do func()) { s.queue.add(s.now+d, do) }

// epoch is when virtual time begins for who wants a time of day.
var epoch = time.Unix(1_000_000_000, 0)

func (s *sim) time() time.Time { return epoch.Add(s.now) }

// wake has everybody act at his pace again. While there is neither a call nor an environment nobody has anything to decide.
func (s *sim) wake() {
	s.beating = true
	if quiet := s.now - s.beaten; s.beats > 0 && quiet > pace.OffersEvery {
		s.missed(quiet)
	}
	for _, m := range s.managers {
		m.last, _ = m.status()
		for _, other := range s.managers {
			other.hear(m.last)
		}
		for _, f := range s.frontends {
			f.hear(m.last)
		}
		m.look()
	}
	s.after(pace.OffersEvery, s.beat)
}

// missed counts the messages of a time in which nothing was simulated.
func (s *sim) missed(quiet time.Duration) {
	statuses := int(quiet / pace.StatusEvery)
	s.messages[messageStatus] += statuses * len(s.managers)
	s.messages[messageFrontend] += statuses * len(s.frontends)
	for _, m := range s.managers {
		s.messages[messagePull] += m.openSides() * int(quiet/pace.RenewEvery)
	}
}

// beat is what managers and frontends do at their pace.
func (s *sim) beat() {
	s.beats++
	s.beaten = s.now
	if s.flight == 0 && s.existing == 0 {
		s.beating = false
		return
	}
	every := func(d time.Duration) bool { return s.beats%int(d/pace.OffersEvery) == 0 }
	for _, m := range s.managers {
		if every(2 * pace.OffersEvery) {
			m.tick()
		}
		if every(pace.RankEvery) {
			m.rankAll()
		}
		if every(pace.OffersAll) || m.lookAgain() {
			m.look()
		}
		if every(pace.StatusEvery) {
			m.shrink()
			m.tellAll(true)
		}
		if (s.beats+m.at)%int(pace.RenewEvery/pace.OffersEvery) == 0 {
			m.renewAll()
		}
	}
	if every(pace.StatusEvery) {
		for _, r := range s.reserved {
			r.open = r.open || s.ready(r)
		}
		s.messages[messageFrontend] += len(s.frontends)
	}
	s.after(pace.OffersEvery, s.beat)
}

// expire refuses a call that has not started by its start-by: its frontend takes it out of the stream.
func (s *sim) expire(c *call) {
	if c.began || c.over {
		return
	}
	s.count(messageLock)
	if m := c.waits; m != nil {
		m.pool.Abandon(s.time(), c.of.home(c.lies, c.Tenant), c)
		c.waits = nil
		m.kick()
	}
	s.refused(c, refusedStartBy)
}

// refused is the end of a call that does not run.
func (s *sim) refused(c *call, why refusal) {
	s.remove(c)
	s.report.refused(why)
	s.over(c)
}

// started counts a call that runs from now on.
func (s *sim) started(c *call, m *manager, start schema.Start) {
	s.report.started(c.reason, start)
	s.waits.add(s.now - c.came)
	m.use.calls++
	if start == schema.StartCold {
		m.use.cold++
	}
}

// done is the end of a call that ran.
func (s *sim) done(c *call) {
	s.report.Calls.Ran++
	s.over(c)
}

func (s *sim) over(c *call) {
	if c.over {
		panic("a call ends twice")
	}
	c.over = true
	s.flight--
	s.after(2*s.cfg.Hop, func() { c.from.ended(c) })
}

// made and gone count an environment of a manager.
func (s *sim) made(m *manager, e *environment) {
	s.existing++
	s.report.Environments.Made++
	if e.member {
		s.report.Environments.Members++
	}
	s.report.Environments.Most = max(s.report.Environments.Most, s.existing)
	m.use.made++
	m.use.exist(s.now, 1)
	m.use.hold(e.places)
}

func (s *sim) gone(m *manager, _ *environment) {
	s.existing--
	m.use.exist(s.now, -1)
}

// finish completes the report.
func (s *sim) finish() {
	for _, m := range s.managers {
		m.use.advance(s.now)
	}
	s.report.finish(s)
}

// byNumber orders managers as people count.
func byNumber(ids []string) []int {
	order := make([]int, len(ids))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(len(ids[a])-len(ids[b]), cmp.Compare(ids[a], ids[b])) })
	return order
}

package story_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// stage is a fabric whose nodes live on hosts of their own, with clocks that have nothing to do with one another.
type stage struct {
	now   time.Time
	skew  map[string]time.Duration
	books map[string]*story.Book
	calls map[string]story.Call
	order []string // what happened where, as it did
}

func newStage(rng *rand.Rand, nodes ...string) *stage {
	s := &stage{now: time.Unix(1_790_000_000, 0), skew: map[string]time.Duration{}, books: map[string]*story.Book{}, calls: map[string]story.Call{}}
	for _, n := range nodes {
		kind := schema.StoryManager
		if n[0] == 'f' {
			kind = schema.StoryFrontend
		}
		s.books[n] = story.NewBook(kind, n)
		s.skew[n] = time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour
	}
	return s
}

// does has a node record a step a millisecond after the last one.
func (s *stage) does(node string, opens bool, step story.Step, what ...string) {
	s.now = s.now.Add(time.Millisecond)
	step.At = s.now.Add(s.skew[node]).UnixNano()
	if opens {
		s.calls[node] = s.books[node].Open(id(1), resize, step)
	} else {
		s.calls[node].Add(step)
	}
	for _, w := range what {
		s.order = append(s.order, node+" "+w)
	}
}

func (s *stage) tell(rng *rand.Rand, sameClock bool) (*schema.Story, []string) {
	var parts []schema.StoryPart
	for n, b := range s.books {
		p := b.Tell("default", id(1))
		p.Node.Clock = n
		if sameClock {
			p.Node.Clock = "one"
		}
		parts = append(parts, p)
	}
	rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	got, ok := story.Merge(story.Of{Account: "default"}, id(1), parts)
	if !ok {
		return nil, nil
	}
	var order []string
	for _, step := range got.Steps {
		order = append(order, step.Node.ID+" "+step.What)
	}
	return got, order
}

func (s *stage) publish(node string, token uint64, attempt uint32, tries int, reserved string, opens bool) story.Publication {
	p := story.Publication{Token: token, Attempt: attempt}
	if attempt > 1 {
		s.does(node, false, story.Repeated(p), "again")
	} else {
		s.does(node, opens, story.Admitted(p, story.NATS, 3, time.Second, tries), "admitted")
	}
	s.does(node, false, story.Decided(p, schema.ReasonUnreserved, reserved, 1, 0, 0, 0, 1), "decided", "published")
	s.does(node, false, story.Stored(p, "HEARTH_CALLS_U", token), "stored")
	return p
}

// Calls that wander between nodes whose clocks are hours apart are told in the order in which it happened.
func TestStoriesAreToldInTheOrderOfCauses(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		managers := []string{"m1", "m2", "m3"}
		s := newStage(rng, "f1", "f2", "m1", "m2", "m3")
		same := rng.IntN(2) == 0
		if same {
			clear(s.skew)
		}
		token := rng.Uint64()
		tries := 1 + rng.IntN(2) // an event's
		for try := range tries {
			front := "f1"
			if try == tries-1 && try > 0 {
				front = "f2" // its poller had died
			}
			for attempt := uint32(1); ; attempt++ {
				token++
				reserved := rng.IntN(2) == 0
				arc := ""
				if reserved {
					arc = "r.0.default.resize.1.7"
				}
				p := s.publish(front, token, attempt, try, arc, s.calls[front] == (story.Call{}))
				delivery := uint64(1)
				claim := func(m string, handed bool) {
					s.does(m, s.calls[m] == (story.Call{}), story.Claimed(&story.Claim{
						Token: token, Attempt: attempt, Tries: try, Arc: "u.1", Reserved: reserved, Delivery: delivery, Handed: handed,
					}), "claimed")
				}
				for range rng.IntN(2) {
					m := managers[rng.IntN(3)]
					claim(m, false)
					s.does(m, false, story.GivenBack("busy", 0), "given_back")
					delivery++
				}
				m := managers[rng.IntN(3)]
				claim(m, false)
				if reserved {
					s.does(m, false, story.MovedOff(3), "moved")
					s.does(front, false, story.Overflowed(p, 3, "HEARTH_CALLS_U", 8), "overflow")
					reserved, delivery = false, 1
					m = managers[rng.IntN(3)]
					claim(m, false)
				}
				if rng.IntN(2) == 0 {
					to := managers[(slices.Index(managers, m)+1)%3]
					s.does(m, false, story.HandedOn(to), "handed_over")
					m = to
					claim(m, true)
				}
				s.does(m, false, story.Started("e1", schema.StartWarm, 0, 0, delivery > 1), "environment", lineWord(delivery), "started")
				if attempt == 1 && rng.IntN(4) == 0 {
					continue // its manager dies
				}
				s.does(m, false, story.Finished(&schema.Outcome{Reusable: true}), "finished")
				s.does(front, false, story.Answered(p, false), "answered")
				break
			}
		}
		got, order := s.tell(rng, same)
		if got.Left > 0 {
			continue // it wandered for longer than is kept
		}
		if !slices.Equal(order, s.order) {
			t.Fatalf("one clock: %v; told:\n%s\nhappened:\n%s", same, strings.Join(order, "\n"), strings.Join(s.order, "\n"))
		}
		if got.Status != schema.StoryOK || got.Node.ID != "f1" || len(got.Other) != 0 {
			t.Errorf("%s at %s, others %v", got.Status, got.Node.ID, got.Other)
		}
	}
}

func lineWord(delivery uint64) string {
	if delivery > 1 {
		return "locked"
	}
	return "acked"
}

// What ends a story, and what is beside it.
func TestHowAStoryStands(t *testing.T) {
	t.Parallel()
	p := story.Publication{Token: 1, Attempt: 1}
	claim := story.Claimed(&story.Claim{Token: 1, Attempt: 1, Arc: "u.1"})
	begin := []story.Step{story.Admitted(p, story.HTTP, 0, time.Second, 0), story.Decided(p, schema.ReasonUnreserved, "", 1, 0, 0, 0, 1)}
	failed := story.Finished(&schema.Outcome{Error: &schema.FunctionError{Type: "MyError", Message: "hunter2"}})
	late := story.Finished(&schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeTimedOut)}})
	boasts := story.Finished(&schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeTimedOut), Posted: true}})
	posing := story.Finished(&schema.Outcome{Error: &schema.FunctionError{Type: string(schema.CodeExecutionLost), Posted: true}})
	for name, c := range map[string]struct {
		frontend, manager []story.Step
		want              schema.StoryStatus
		ended             bool
	}{
		"running":             {begin, []story.Step{claim, story.Started("e", schema.StartWarm, 0, 0, false)}, schema.StoryRunning, false},
		"answered here":       {append(begin, story.Answered(p, false)), nil, schema.StoryOK, true},
		"failed":              {append(begin, story.Ended(p)), []story.Step{claim, failed}, schema.StoryError, true},
		"timed out":           {append(begin, story.Ended(p)), []story.Step{claim, late}, schema.StoryTimeout, true},
		"timed out, seen":     {append(begin, story.AnsweredLate(p)), []story.Step{claim, late}, schema.StoryTimeout, true},
		"failed, says late":   {append(begin, story.Answered(p, true)), []story.Step{claim, boasts}, schema.StoryError, true},
		"failed, says lost":   {append(begin, story.Ended(p)), []story.Step{claim, posing}, schema.StoryError, true},
		"refused":             {append(begin, story.Refused(p, schema.Errorf(schema.CodeCapacityExceeded, "full"))), nil, schema.StoryRefused, true},
		"lost":                {append(begin, story.Lost(p)), []story.Step{claim}, schema.StoryLost, true},
		"its manager forgot":  {append(begin, story.Ended(p)), nil, schema.StoryIsUnknown, true},
		"its frontend forgot": {nil, []story.Step{claim, failed}, schema.StoryError, true},
		"nobody knows":        {nil, nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m := story.NewBook(schema.StoryFrontend, "f1"), story.NewBook(schema.StoryManager, "m1")
			f.Open(id(1), resize, c.frontend...)
			m.Open(id(1), resize, c.manager...)
			got, ok := story.Merge(story.Of{Account: "default"}, id(1), []schema.StoryPart{m.Tell("default", id(1)), f.Tell("default", id(1))})
			switch {
			case ok != (c.want != ""):
				t.Fatalf("known: %v", ok)
			case ok && (got.Status != c.want || got.Ended.IsZero() == c.ended || got.Function != "resize" || got.Version != "1" || got.Tries != 1):
				t.Errorf("%+v", got)
			case ok && strings.Contains(fmt.Sprint(got), "hunter2"), ok && strings.Contains(fmt.Sprint(got), "MyError"),
				ok && got.Status == schema.StoryError && strings.Contains(fmt.Sprint(got), string(schema.CodeExecutionLost)):
				t.Errorf("text of a function is told: %+v", got)
			}
		})
	}
}

// An id that was used for several calls tells of the last one, or of that of the function and sub-tenant that are asked for, and names
// the others.
func TestAnIdOfTwoFunctions(t *testing.T) {
	t.Parallel()
	b, other := story.NewBook(schema.StoryFrontend, "f1"), resize
	other.Function = "count"
	begin := story.Admitted(story.Publication{Token: 1, Attempt: 1}, story.NATS, 0, time.Second, 0)
	begin.At = time.Now().UnixNano()
	b.Open(id(1), resize, begin)
	begin.At += int64(time.Second)
	b.Open(id(1), other, begin)
	begin.At += int64(time.Second)
	for _, other.Tenant = range []string{"b", "a"} {
		b.Open(id(1), other, begin)
	}
	resizes, a, count := schema.StoryOther{Function: "resize"}, schema.StoryOther{Function: "count", Tenant: "a"}, schema.StoryOther{Function: "count"}
	inB := schema.StoryOther{Function: "count", Tenant: "b"}
	for ask, want := range map[schema.StoryOther]schema.StoryOther{
		{}: a, {Function: "resize"}: resizes, {Function: "count", Tenant: "b"}: inB, {Tenant: "b"}: inB, {Function: "count"}: a,
		{Function: "nobody"}: {}, {Function: "resize", Tenant: "a"}: {},
	} {
		got, ok := story.Merge(story.Of{Account: "default", Function: ask.Function, Tenant: ask.Tenant}, id(1), []schema.StoryPart{b.Tell("default", id(1))})
		others := slices.DeleteFunc([]schema.StoryOther{count, a, inB, resizes}, func(o schema.StoryOther) bool { return o == want })
		if ok != (want.Function != "") || got.Function != want.Function || got.Tenant != want.Tenant || ok && len(got.Steps) != 1 || !slices.Equal(got.Others, others) {
			t.Errorf("%+v: known %v, %+v", ask, ok, got)
		}
		if ok && !slices.Contains(got.Other, "count") {
			t.Errorf("%+v: the others are of %v", ask, got.Other)
		}
	}
}

// TestWords holds how each step is told. Whoever reads it at night should know what happened and why.
func TestWords(t *testing.T) {
	t.Parallel()
	p, r := story.Publication{Token: 1, Attempt: 2}, "r.0.default.resize.1.7"
	claim := story.Claim{Token: 1, Attempt: 1, Arc: "u.17", Sequence: 9, Delivery: 1, Age: 230 * time.Microsecond, Pull: story.PullIdle, Reason: schema.ReasonUnreserved}
	again := claim
	again.Arc, again.Reserved, again.Delivery, again.Rank, again.Pull, again.Doubt, again.Tries = r, true, 3, 2, story.PullCatcher, true, 1
	handed := claim
	handed.Handed, handed.Pull = true, story.PullNone
	roomy, surplus := claim, claim
	roomy.Pull, surplus.Pull = story.PullRoom, story.PullSurplus
	var b strings.Builder
	for _, side := range []struct {
		kind  string
		steps []story.Step
	}{
		{schema.StoryFrontend, []story.Step{
			story.Admitted(p, story.NATS, 1, 10*time.Second, 0), story.Admitted(p, story.HTTP, 70_000, 1500*time.Millisecond, 0),
			story.Admitted(p, story.Event, 0, 4*time.Second, 1),
			story.Decided(p, schema.ReasonUnreserved, "", 17, 0, 0, 0, 1), story.Decided(p, schema.ReasonReserved, r, 0, 4, 4, 1, 2),
			story.Decided(p, schema.ReasonSpillover, r, 0, 4, 6, 4, 5), story.Decided(p, schema.ReasonScale, "", 17, 4, 4, 4, 5),
			story.Stored(p, "HEARTH_CALLS_U", 9), story.Spilled(p, schema.ReasonScale, 17), story.Spilled(p, schema.ReasonUnreserved, 17),
			story.Overflowed(p, 17, "HEARTH_CALLS_U", 9), story.Named(p, "m1"), story.Gone(p, false), story.Gone(p, true),
			story.Refused(p, schema.Errorf(schema.CodeCapacityExceeded, "no environment was free within the start-by of 10s")),
			story.Answered(p, false), story.Answered(p, true), story.AnsweredLate(p), story.Ended(p), story.Untold(p), story.Lost(p), story.Repeated(p),
			story.Joined(p, 1), story.Abandoned(p),
		}},
		{schema.StoryManager, []story.Step{
			story.Claimed(&claim), story.Claimed(&again), story.Claimed(&handed), story.Claimed(&roomy), story.Claimed(&surplus),
			story.Waits(true), story.Waits(false), story.Kept(2 * time.Millisecond), story.GivenBack("there is no room", 0),
			story.GivenBack("there is no room", 10*time.Millisecond), story.Fetched(70_000), story.HandedOn("m2"), story.Unpromised("m2"),
			story.MovedOff(17), story.Dropped(), story.NotOurs(true), story.NotOurs(false),
			story.Started("7c-1", schema.StartCold, 81*time.Millisecond, 90*time.Millisecond, false),
			story.Started("7c-1", schema.StartSpecialised, 0, time.Millisecond, true), story.Started("7c-1", schema.StartWarm, 0, 0, false),
			story.Finished(&schema.Outcome{Duration: 12345 * time.Microsecond, Reusable: true}),
			story.Finished(&schema.Outcome{Duration: time.Second, Reusable: true, Error: &schema.FunctionError{Type: "MyError"}}),
			story.Finished(&schema.Outcome{Duration: 3 * time.Second, Error: &schema.FunctionError{Type: string(schema.CodeTimedOut)}}),
			story.Finished(nil), story.InitFailed(), story.TurnedDown(schema.Errorf(schema.CodeThrottled, "no permit")),
			story.Redirected("f2"),
		}},
	} {
		for _, step := range side.steps { // each alone: a story keeps a few dozen
			book := story.NewBook(side.kind, "n")
			book.Open(id(1), resize, step)
			for _, told := range told(t, book, id(1)) {
				fmt.Fprintf(&b, "%s %s: %s\n", side.kind, told.What, told.Text)
				for _, key := range slices.Sorted(maps.Keys(told.Facts)) {
					fmt.Fprintf(&b, "    %s=%s\n", key, told.Facts[key])
				}
				if told.What == "unknown" || told.Text == "" || strings.ContainsAny(told.Text, "\n\t") {
					t.Errorf("%+v is told as %+v", step, told)
				}
			}
		}
	}
	const file = "testdata/words.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != b.String() {
		t.Errorf("%s differs (-update rewrites it): %v\n%s", file, err, b.String())
	}
}

package story_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/internal/story"
	"github.com/hearth-run/hearth/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var resize = story.Of{Account: "default", Function: "resize", Version: "1"}

// id is the request id of call n.
func id(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func told(t *testing.T, b *story.Book, id string) []schema.StoryStep {
	t.Helper()
	part := b.Tell("default", id)
	if len(part.Calls) > 1 {
		t.Fatalf("%s: %d calls", id, len(part.Calls))
	}
	if len(part.Calls) == 0 {
		return nil
	}
	return part.Calls[0].Steps
}

// The last ones are kept, each with its own steps, and no older one; what comes late for one that has gone is nobody else's.
func TestTheLastCallsAreKept(t *testing.T) {
	t.Parallel()
	b := story.NewBook(schema.StoryManager, "m1")
	const more = 700
	var calls []story.Call
	for n := range schema.StoriesKept + more {
		calls = append(calls, b.Open(id(n), resize, story.Claimed(&story.Claim{Arc: "u.1", Sequence: uint64(n)})))
	}
	for n, c := range calls {
		c.Add(story.Started(fmt.Sprint("e", n), schema.StartWarm, 0, 0, false))
	}
	for n := range calls {
		steps := told(t, b, id(n))
		switch {
		case n < more && steps != nil:
			t.Fatalf("call %d is known after %d others: %v", n, schema.StoriesKept, steps)
		case n >= more && (len(steps) != 4 || steps[0].Facts["sequence"] != fmt.Sprint(n) || steps[3].Facts["environment"] != fmt.Sprint("e", n)):
			t.Fatalf("call %d is told as %v", n, steps)
		}
	}
}

// What comes again under the same id goes on with its story; another function's or sub-tenant's has one of its own, and another
// account hears of none.
func TestOneStoryACall(t *testing.T) {
	t.Parallel()
	b := story.NewBook(schema.StoryManager, "m1")
	claim := story.Claimed(&story.Claim{Arc: "u.1"})
	b.Open(id(1), resize, claim).Add(story.GivenBack("busy", 0))
	b.Open(id(1), resize, claim).Add(story.Dropped())
	if steps := told(t, b, id(1)); len(steps) != 4 || steps[3].What != "dropped" {
		t.Errorf("%v", steps)
	}
	other := resize
	other.Tenant = "acme"
	b.Open(id(1), other, claim)
	other.Tenant, other.Account = "", "theirs"
	b.Open(id(1), other, claim, claim)
	if calls := b.Tell("default", id(1)).Calls; len(calls) != 2 || len(calls[0].Steps)+len(calls[1].Steps) != 5 {
		t.Errorf("%+v", calls)
	}
	if calls := b.Tell("theirs", id(1)).Calls; len(calls) != 1 || len(calls[0].Steps) != 2 {
		t.Errorf("another account: %+v", calls)
	}
	if calls := b.Tell("nobody", id(1)).Calls; len(calls) != 0 {
		t.Errorf("of no account of its own: %+v", calls)
	}
	for _, bad := range []string{"", id(1) + "0", id(2)} {
		if bad != id(2) {
			b.Open(bad, resize, claim).Add(claim)
		}
		if calls := b.Tell("default", bad).Calls; len(calls) != 0 {
			t.Errorf("%q: %+v", bad, calls)
		}
	}
	var none *story.Book
	none.Open(id(1), resize, claim).Add(claim) // records nothing, and breaks nothing
}

// Whoever uses one id for many calls has a few stories, for looking through them takes time that all calls share; and a refusal under
// the id of a call that is known is no part of its story, for its caller may be another.
func TestOneIDForMany(t *testing.T) {
	t.Parallel()
	b := story.NewBook(schema.StoryFrontend, "f1")
	for n := range 10_000 {
		of := resize
		of.Tenant = fmt.Sprint("t", n)
		b.Open(id(1), of, story.Refused(story.Publication{}, schema.Errorf(schema.CodeNotFound, "no")))
		b.Refuse(id(2), of, story.Refused(story.Publication{}, schema.Errorf(schema.CodeNotFound, "no")))
	}
	if n := len(b.Tell("default", id(1)).Calls); n == 0 || n > 10 {
		t.Errorf("%d stories under one id", n)
	}
	if n := len(b.Tell("default", id(2)).Calls); n != 1 {
		t.Errorf("%d stories of refusals under one id", n)
	}
	b.Open(id(3), resize, story.Claimed(&story.Claim{Arc: "u.1"}))
	b.Refuse(id(3), resize, story.Refused(story.Publication{}, schema.Errorf(schema.CodeNotFound, "no")))
	if steps := told(t, b, id(3)); len(steps) != 1 {
		t.Errorf("a refusal went on with the story of a call: %+v", steps)
	}
}

// A call that goes to and fro takes no more than its share, and its end is told all the same.
func TestStepsOfOneCallAreBounded(t *testing.T) {
	t.Parallel()
	b := story.NewBook(schema.StoryManager, "m1")
	var c story.Call
	for n := range 1000 {
		c = b.Open(id(1), resize, story.Claimed(&story.Claim{Arc: "u.1", Delivery: uint64(n + 1)}))
		c.Add(story.GivenBack("busy", time.Millisecond))
	}
	c.Add(story.Started("e1", schema.StartWarm, 0, 0, true), story.Finished(&schema.Outcome{Reusable: true}))
	calls := b.Tell("default", id(1)).Calls
	steps := calls[0].Steps
	if last := steps[len(steps)-1]; last.What != "finished" || len(steps) > 40 || calls[0].Left != 2000-(len(steps)-4) {
		t.Errorf("%d steps, %d left out, the last is %q", len(steps), calls[0].Left, last.What)
	}
}

func warm(b *story.Book, id string, claim *story.Claim, o *schema.Outcome) {
	c := b.Open(id, resize, story.Claimed(claim))
	c.Add(story.Started("e1", schema.StartWarm, 0, time.Millisecond, false))
	c.Add(story.Finished(o))
	p := story.Publication{Token: 7, Attempt: 1}
	c.Add(story.Stored(p, "HEARTH_CALLS_U", 9), story.Answered(p, false))
}

// A warm call records without allocating, however many were before it.
func TestRecordingAllocatesNothing(t *testing.T) {
	b := story.NewBook(schema.StoryFrontend, "f1")
	ids := make([]string, 2*schema.StoriesKept) // each is forgotten before it comes again
	for n := range ids {
		ids[n] = id(n)
		b.Open(ids[n], resize)
	}
	claim, outcome, n := &story.Claim{Arc: "u.1", Reason: schema.ReasonUnreserved}, &schema.Outcome{Reusable: true}, 0
	if allocs := testing.AllocsPerRun(len(ids), func() {
		warm(b, ids[n%len(ids)], claim, outcome)
		n++
	}); allocs != 0 {
		t.Errorf("%v allocations a call", allocs)
	}
}

// Nor do calls of thousands of functions and sub-tenants in turns, once each was called; names without end keep no more than what is
// told of them.
func TestNamesOfManyFunctionsAreKept(t *testing.T) {
	b, refused := story.NewBook(schema.StoryFrontend, "f1"), story.Ended(story.Publication{})
	const functions = 5000
	of, ids := make([]story.Of, functions), make([]string, 2*schema.StoriesKept) // each is forgotten before it comes again
	for n := range of {
		of[n] = story.Of{Account: "default", Function: fmt.Sprint("f", n), Version: "$LATEST", Tenant: fmt.Sprint("t", n%1000)}
	}
	for n := range ids {
		ids[n] = id(n)
	}
	n := 0
	call := func() {
		b.Open(ids[n%len(ids)], of[n%functions], refused)
		n++
	}
	for range ids {
		call()
	}
	if allocs := testing.AllocsPerRun(functions, call); allocs != 0 {
		t.Errorf("%v allocations a call", allocs)
	}
	for n := range 5 * schema.StoriesKept {
		b.Open(id(1_000_000+n), story.Of{Account: "default", Function: fmt.Sprint("more", n)}, refused)
	}
	if kept := b.Names(); kept > 3*schema.StoriesKept {
		t.Errorf("%d names are kept", kept)
	}
	if allocs := testing.AllocsPerRun(functions, call); allocs > 2 {
		t.Errorf("%v allocations a call after names without end", allocs)
	}
}

// Recording, evicting and telling at once, for the race detector.
func TestBookHammer(t *testing.T) {
	t.Parallel()
	b := story.NewBook(schema.StoryFrontend, "f1")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 4000 {
				c := b.Open(id(n), resize, story.Claimed(&story.Claim{Arc: "u.1"}))
				for range n % 9 {
					c.Add(story.GivenBack("busy", 0))
				}
				b.Open(id(100_000*(g+1)+n), resize)
			}
		})
		wg.Go(func() {
			for n := range 1000 {
				for _, call := range b.Tell("default", id(4*n)).Calls {
					if len(call.Steps) > 40 {
						t.Errorf("%d steps", len(call.Steps))
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkWarmCall(b *testing.B) {
	book := story.NewBook(schema.StoryFrontend, "f1")
	ids := make([]string, 3*schema.StoriesKept)
	for n := range ids {
		ids[n] = id(n)
		book.Open(ids[n], resize)
	}
	claim, outcome, n := &story.Claim{Arc: "u.1", Reason: schema.ReasonUnreserved}, &schema.Outcome{Reusable: true}, 0
	b.ReportAllocs()
	for b.Loop() {
		warm(book, ids[n%len(ids)], claim, outcome)
		n++
	}
}

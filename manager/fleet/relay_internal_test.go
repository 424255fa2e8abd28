package fleet

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/hearth-run/hearth/schema"
)

// One function more than are remembered of a worker forgets the one that was not used for longest, and one that is known forgets none.
//
// Broken to see it fail: any one is forgotten; one that is used again stays where it was.
func TestHostedForgetsTheOldest(t *testing.T) {
	f := &Fleet{hosted: make(map[string]*recent[functionName])}
	name := func(i int) functionName { return functionName{"default", strconv.Itoa(i)} }
	for i := range maxHosted {
		f.hosts("w1", name(i))
	}
	for _, i := range []int{0, maxHosted, maxHosted} { // the first is used again
		f.hosts("w1", name(i))
	}
	known := f.hosted["w1"]
	if n := len(known.places); n != maxHosted || known.order.Len() != n {
		t.Errorf("%d functions are remembered, %d in order", n, known.order.Len())
	}
	for i := range maxHosted + 1 {
		if known.uses(name(i)) == (i == 1) {
			t.Errorf("function %d is remembered: %v", i, i == 1)
		}
	}
	if f.hosted["w2"].uses(name(0)) {
		t.Error("another worker has it")
	}
}

// What one worker may pass on: the burst, then one page in ten seconds, whatever another does, and small records count too.
//
// Broken to see it fail: every record is allowed; all workers share one limiter; small ones count as what they have.
func TestUsageIsLimitedByWorker(t *testing.T) {
	f := &Fleet{usage: make(map[string]*rate.Limiter)}
	now := time.Now()
	flood := func(worker string, bytes int) (n int) {
		for f.allows(worker, now, bytes) {
			if n++; n > usageBurst/usageLeast {
				t.Fatalf("%s: %d records of %d bytes pass", worker, n, bytes)
			}
		}
		return n
	}
	if n := flood("w1", schema.MaxUsageBytes); n != 8 {
		t.Errorf("%d pages pass at once", n)
	}
	if n := flood("w2", 1); n != usageBurst/usageLeast {
		t.Errorf("%d small records of another worker pass at once", n)
	}
	now = now.Add(10 * time.Second)
	if n := flood("w1", schema.MaxUsageBytes); n != 1 {
		t.Errorf("%d pages pass ten seconds later", n)
	}
}

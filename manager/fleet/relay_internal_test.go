package fleet

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/hearth-run/hearth/schema"
)

// One function more than are remembered of a worker forgets one, and one that is known forgets none.
//
// Broken to see it fail: all are forgotten.
func TestHostedForgetsOne(t *testing.T) {
	f := &Fleet{hosted: make(map[string]map[functionName]bool)}
	for i := range maxHosted + 1 {
		f.hosts("w1", functionName{"default", strconv.Itoa(i)})
	}
	last := functionName{"default", strconv.Itoa(maxHosted)}
	f.hosts("w1", last)
	if n := len(f.hosted["w1"]); n != maxHosted || !f.hosted["w1"][last] {
		t.Errorf("%d functions are remembered, the last: %v", n, f.hosted["w1"][last])
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

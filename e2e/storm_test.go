package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
)

// TestStorm kills, stops, holds and cuts off processes of a fabric at random, thirty times, under mixed load, and then
// holds what everybody was told against what ran. It runs where HEARTH_LONG is set; HEARTH_STORM_SEED repeats a storm, as
// far as chance is all that decides.
func TestStorm(t *testing.T) {
	if os.Getenv("HEARTH_LONG") == "" {
		t.Skip("takes minutes; HEARTH_LONG=1 runs it")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HEARTH_STORM_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("seed %d", seed)
	f := fabric.StartSpread(t, fabric.SpreadOptions{
		Managers: 3, Frontends: 2, Capacity: 10, Proxied: []string{"m1", "m2", "m3", "f1", "f2"},
	})
	s := &storm{t: t, f: f, random: rand.New(rand.NewPCG(seed, 30)), begun: time.Now(), seen: map[process]bool{}}
	f.DeployFn("fn", "--timeout", "20s")
	s.retriesSoon()
	l := newLedger(t, &f.Door, newRecord(t))
	posts := &posts{ledger: l}

	words := []string{"", "", "nap 2", "nap 20", "nap 300", "error"}
	loads := []*load{
		loaded(4, func(context.Context) { l.call("fn", words[rand.IntN(len(words))], patience) }),
		loaded(2, func(context.Context) { posts.one(f.Frontends[rand.IntN(2)], words[rand.IntN(len(words))]) }),
		loaded(2, func(ctx context.Context) { l.handIn(ctx, "fn", words[1+rand.IntN(4)]) }),
		loaded(1, func(ctx context.Context) {
			l.handIn(ctx, "fn", "error")
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}),
	}
	defer func() {
		for _, w := range loads {
			w.stop()
		}
	}()
	for range 30 {
		s.act()
	}
	for _, w := range loads {
		w.stop()
	}
	drained(t, l)
	quiet(t, f)
	nobodyCalls(t, f)
	l.settle(t)
	posts.settle(t)
	s.excused(l)
	s.buried(l)
	t.Logf("calls over NATS %v, over HTTP %v, events %d", l.tally(), posts.tally(), len(l.events))
	for _, r := range slices.Concat(f.Frontends, f.Managers) {
		r.Stop()
	}
	s.nothingLeft()
}

// storm is what is done to the processes of a fabric.
type storm struct {
	t      *testing.T
	f      *fabric.Spread
	random *rand.Rand
	begun  time.Time
	deaf   []window         // times in which an answer may have got lost on its way to a caller
	seen   map[process]bool // of environments and their keepers
}

type window struct{ from, to time.Time }

// process is one for good: numbers come again.
type process struct {
	pid   int
	start string
}

// upTo is a random length.
func (s *storm) upTo(d time.Duration) time.Duration { return time.Duration(s.random.Int64N(int64(d))) }

func (s *storm) rest(d time.Duration) { <-time.After(d) }

// act does one thing to one process.
func (s *storm) act() {
	s.rest(s.upTo(1500 * time.Millisecond))
	s.look()
	roles := slices.Concat(s.f.Managers, s.f.Frontends)
	r := roles[s.random.IntN(len(roles))]
	// Only with a server, or with the frontend that took the call, may an answer get lost without a word: whatever becomes of
	// a manager, frontends tell of it.
	front := slices.Contains(s.f.Frontends, r)
	from := time.Now()
	var what string
	switch s.random.IntN(7) {
	case 0:
		down := s.upTo(2 * time.Second)
		what, front = fmt.Sprintf("NATS server killed for %v", down), true
		s.f.Server.Kill()
		s.rest(down)
		s.f.Server.Start()
	case 1, 2:
		down := s.upTo(2 * time.Second)
		what = fmt.Sprintf("%s killed for %v", r.ID, down)
		r.Kill()
		s.rest(down)
		r.Start()
	case 3:
		what, front = fmt.Sprintf("%s restarted in order", r.ID), false
		r.Stop()
		r.Start()
	case 4:
		still := s.upTo(6 * time.Second)
		what = fmt.Sprintf("%s stood still for %v", r.ID, still)
		r.Pause()
		s.rest(still)
		r.Resume()
	case 5:
		off := s.upTo(2 * time.Second)
		what = fmt.Sprintf("%s cut off for %v", r.ID, off)
		r.Proxy.Refuse()
		s.rest(off)
		r.Proxy.Release()
	case 6:
		// Shorter than AckWait: an acknowledgement that was written out and is held back for longer is not distinguished from
		// one that was never sent, and the call runs elsewhere too.
		held := s.upTo(2 * time.Second)
		way := natstest.Direction(1 + s.random.IntN(3))
		what = fmt.Sprintf("%s held for %v, direction %d", r.ID, held, way)
		r.Proxy.Hold(way)
		s.rest(held)
		r.Proxy.Release()
	}
	to := time.Now()
	s.t.Logf("%7v to %7v: %s", from.Sub(s.begun).Round(time.Millisecond), to.Sub(s.begun).Round(time.Millisecond), what)
	if front {
		s.deaf = append(s.deaf, window{from, to})
	}
}

// retriesSoon has a failed event tried again after a second.
func (s *storm) retriesSoon() {
	s.t.Helper()
	in := map[string]any{"FunctionName": "fn", "Hearth": map[string]any{"RetryDelaySeconds": 1}}
	if err := s.f.Admin().Do(withDeadline(s.t), "PutFunctionEventInvokeConfig", in, nil); err != nil {
		s.t.Fatal(err)
	}
}

// look notes which processes managers have started.
func (s *storm) look() {
	for _, m := range s.f.Managers {
		for _, pid := range processesOf(m.PID()) {
			if start := startOf(pid); start != "" {
				s.seen[process{pid, start}] = true
			}
		}
	}
}

// startOf is when a process started, in the kernel's ticks; "" if there is none.
func startOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if fields := strings.Fields(rest); len(fields) > 19 && fields[0] != "Z" {
		return fields[19]
	}
	return ""
}

// nothingLeft fails the test if a process of a manager outlived it.
func (s *storm) nothingLeft() {
	eventually(s.t, "no process is left", func() bool {
		for p := range s.seen {
			if startOf(p.pid) == p.start {
				return false
			}
		}
		return true
	})
}

// excused fails the test for every call that got no answer though nothing was done to a frontend or the server meanwhile.
func (s *storm) excused(l *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.calls {
		if len(e.answers) > 0 {
			continue
		}
		overlaps := func(w window) bool { return !w.to.Before(e.sent) && !e.gaveUp.Before(w.from) }
		if !slices.ContainsFunc(s.deaf, overlaps) {
			s.t.Errorf("call %s (%s), sent at %v, got no answer, and nothing was done to a frontend or the server", e.tag, e.words,
				e.sent.Sub(s.begun))
		}
	}
}

// buried holds the dead letters against the events: those alone died that always fail, each once, after all their tries.
func (s *storm) buried(l *ledger) {
	dead := map[string]int{}
	for _, d := range deadLetters(s.t, l) {
		words := strings.Fields(strings.Trim(string(d.Event.Payload), `"`))
		tag := words[2]
		dead[tag]++
		if words[len(words)-1] != "error" || d.Reason != schema.DeadRetriesExhausted || d.Event.Attempts != 3 {
			s.t.Errorf("event %s (%v) is dead: %s after %d tries: %+v", tag, words[3:], d.Reason, d.Event.Attempts, d.Error)
		}
	}
	runs := l.runs(s.t)
	for tag, n := range dead {
		if n != 1 || len(runs[tag]) < 3 {
			s.t.Errorf("event %s has %d dead letters and %d runs", tag, n, len(runs[tag]))
		}
	}
	s.t.Logf("%d events died", len(dead))
}

// posts are calls over HTTP.
type posts struct {
	*ledger
	mine sync.Mutex // guards done
	done map[string]string
}

func (p *posts) one(f *fabric.Role, words string) { p.call(f, "fn", words) }

func (p *posts) call(f *fabric.Role, function, words string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tag := p.tag("h")
	end, _ := p.post(ctx, f, function, tag, words)
	p.mine.Lock()
	if p.done == nil {
		p.done = map[string]string{}
	}
	p.done[tag] = end
	p.mine.Unlock()
	if len(end) > 3 && !strings.HasPrefix(end, "200") { // nobody listens
		<-time.After(10 * time.Millisecond)
	}
}

func (p *posts) tally() map[string]int {
	n := map[string]int{}
	for _, end := range p.done {
		switch {
		case strings.Contains(end, "Fn.Asked"):
			n["error"]++
		case strings.Contains(end, "ExecutionLost"):
			n["lost"]++
		case len(end) > 3:
			n["no answer"]++
		default:
			n[end]++
		}
	}
	return n
}

func (p *posts) settle(t testing.TB) {
	runs := p.runs(t)
	for tag, end := range p.done {
		n := len(runs[tag])
		sure := end == "200" || strings.Contains(end, "Fn.Asked")
		if n > 1 || sure && n != 1 || (end == "503" || end == "429") && n != 0 {
			t.Errorf("call %s over HTTP ran %d times and was answered %q", tag, n, end)
		}
	}
}

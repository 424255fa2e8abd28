package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// TestRetiringRaced is S35: reservations come and go under calls through two frontends, one of which hears late what becomes of
// them; and then while the controller is killed before each step of a retiring. HEARTH_LONG makes it a thousand retirings, and ten
// kills at each step.
//
// Broken to see it fail: a frontend that does not name the marker that it expects, and a sweeper that does not look for what is
// left: calls were refused at their start-by, for nobody took them.
func TestRetiringRaced(t *testing.T) {
	t.Parallel()
	t.Run("S35", func(t *testing.T) {
		functions, retirings, kills := 2, 12, []int{purges, deletes}
		if os.Getenv("HEARTH_LONG") != "" {
			functions, retirings, kills = 6, 1000, nil
			for step := range retiringSteps {
				kills = append(kills, slices.Repeat([]int{step}, 10)...)
			}
		}
		f := fabric.StartSpread(t, fabric.SpreadOptions{
			Frontends: 2, Capacity: 60, Proxied: []string{"f2", "m1", "m2"}, Set: []string{"reclaim=40ms"},
		})
		r := newRetirings(t, f)
		for i := range functions {
			r.functions = append(r.functions, fmt.Sprint("r", i))
		}
		for _, name := range append(r.functions, killed) {
			f.DeployFn(name, "--timeout", "20s", "--publish")
		}
		before := newLedger(t, &f.Door, newRecord(t))
		r.answers = wiretap(t, before, "f1", "f2")
		r.race(before, retirings, func() {})
		before.onlyEnds(t, fine)
		before.settle(t)
		t.Logf("%d arcs retired: %d calls stored on them, %d refused for the marker, %d for the stream, %d for other reasons; ended: %v",
			len(r.epochs), r.answers.stored.Load(), r.answers.wrong.Load(), r.answers.absent.Load(), r.answers.other.Load(), before.tally())
		if r.answers.wrong.Load() == 0 || r.answers.other.Load() > 0 {
			t.Error("no call of a stale frontend came to an arc that was retired, or one was refused for another reason")
		}

		// Who runs at a manager that is killed is lost, and is told so; nobody else is.
		after := newLedger(t, &f.Door, newRecord(t))
		r.race(after, 0, func() { r.killBefore(kills) })
		after.onlyEnds(t, fine, lost)
		after.settle(t)
		ends := after.tally()
		t.Logf("%d kills: %v", len(kills), ends)
		if most := len(kills) * (functions + 1) * r.callers(); ends[lost] > most {
			t.Errorf("%d calls were lost, at most %d ran", ends[lost], most)
		}
		nobodyCalls(t, f)
	})
}

// killed is the function whose reservation is being ended when the controller is killed.
const killed = "k"

// retirings is reservations that come and go.
type retirings struct {
	t         *testing.T
	f         *fabric.Spread
	c         *client.Client
	kv        jetstream.KeyValue // of the records
	members   jetstream.KeyValue // of the leases
	functions []string
	answers   *answers

	mu     sync.Mutex        // guards what follows
	epochs map[uint64]bool   // that were open
	sent   map[string]uint64 // calls that frontends published on reserved arcs, by function
}

func newRetirings(t *testing.T, f *fabric.Spread) *retirings {
	t.Helper()
	r := &retirings{t: t, f: f, c: f.Admin(), epochs: map[uint64]bool{}, sent: map[string]uint64{}}
	nc := f.Server.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, kv := range map[string]*jetstream.KeyValue{"HEARTH_reservations": &r.kv, "HEARTH_members": &r.members} {
		if *kv, err = js.KeyValue(withDeadline(t), name); err != nil {
			t.Fatal(err)
		}
	}
	_, err = nc.Subscribe("hearth.arc.r.>", func(m *nats.Msg) {
		function := strings.Split(m.Subject, ".")[5]
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent[function]++
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// callers is how many call each function at once.
func (r *retirings) callers() int { return 3 }

// race has all functions reserved and let go of, until so many arcs have been retired and meanwhile has returned, under calls, with
// a second frontend whose view is old most of the time. Then it looks that nothing is left.
func (r *retirings) race(l *ledger, retired int, meanwhile func()) {
	r.t.Helper()
	var views, cycles conc.WaitGroup
	old, fresh := context.WithCancel(context.Background())
	defer views.Wait()
	defer fresh()
	views.Go(func() { r.keepOld(old) })
	var work []*load
	for _, name := range append(r.functions, killed) {
		work = append(work, loaded(r.callers(), func(ctx context.Context) {
			l.call(name+":1", "", patience)
			pause(ctx, rand.N(80*time.Millisecond)) // now and again nobody calls for as long as a member has to be idle
		}))
	}
	defer func() {
		for _, w := range work {
			w.stop()
		}
	}()
	ctx, enough := context.WithCancel(context.Background())
	defer cycles.Wait()
	defer enough()
	for _, name := range r.functions {
		cycles.Go(func() {
			for ctx.Err() == nil && !r.t.Failed() {
				r.cycle(name)
			}
		})
	}
	meanwhile()
	eventuallyWithin(r.t, 20*time.Minute, fmt.Sprint(retired, " retirings"), func() bool { return r.retired() >= retired || r.t.Failed() })
	enough()
	cycles.Wait()
	for _, w := range work {
		w.stop()
	}
	for _, name := range r.functions {
		r.unreserve(name)
		r.awaitGone(name)
	}
	fresh()
	views.Wait()
	stranded(r.t, l)
	eventually(r.t, "no stream of reserved arcs is left", func() bool {
		names := l.jetStream(r.t).StreamNames(withDeadline(r.t))
		for name := range names.Name() {
			if strings.HasPrefix(name, "HEARTH_CALLS_R") {
				return false
			}
		}
		return names.Err() == nil
	})
}

// pause rests for a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// keepOld keeps the second frontend's view of reservations and members old, for less than the time after which it would have none,
// until ctx ends.
func (r *retirings) keepOld(ctx context.Context) {
	p := r.f.Frontends[1].Proxy
	defer p.Release()
	for ctx.Err() == nil {
		p.HoldSubjects(func(subject string) bool {
			return strings.HasPrefix(subject, "$KV.HEARTH_reservations.") || strings.HasPrefix(subject, "hearth.status.manager.")
		})
		pause(ctx, rand.N(900*time.Millisecond))
		p.Release()
		pause(ctx, rand.N(100*time.Millisecond))
	}
}

// cycle reserves a function, waits until calls come to its arc, and lets go of it. One of four times it is reserved again somewhere
// on the way.
func (r *retirings) cycle(name string) {
	before := r.calls(name)
	r.reserve(name)
	if !r.waits("calls come to the arc of "+name, func() bool { return r.calls(name) > before }) {
		return
	}
	r.unreserve(name)
	if rand.IntN(4) > 0 {
		r.awaitGone(name)
	} else {
		pause(context.Background(), rand.N(60*time.Millisecond))
	}
}

// waits is eventually for goroutines that are not the test's own, which must not end it.
func (r *retirings) waits(what string, cond func() bool) bool {
	late := time.Now().Add(2 * deadline)
	for !cond() {
		if time.Now().After(late) {
			r.t.Errorf("%s: not within %v", what, 2*deadline)
			return false
		}
		pause(context.Background(), 20*time.Millisecond)
	}
	return true
}

func (r *retirings) reserve(name string) {
	r.changed(name, func(ctx context.Context) error {
		_, err := r.c.Reserve(ctx, name, "1", 1)
		return err
	})
}

func (r *retirings) unreserve(name string) {
	r.changed(name, func(ctx context.Context) error {
		err := r.c.Unreserve(ctx, name, "1")
		if schema.CodeOf(err) == schema.CodeNoProvisioned {
			return nil
		}
		return err
	})
}

// changed changes a reservation. Whoever meets another's change is told so, and comes again; so does who meets a moment in which no
// manager is heard of.
func (r *retirings) changed(name string, change func(ctx context.Context) error) {
	var err error
	r.waits("a change of the reservation of "+name, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		err = change(ctx)
		return err == nil
	})
	if err != nil {
		r.t.Errorf("change the reservation of %s: %v", name, err)
	}
}

// record is the record of a reservation; nil if there is none, or if it is not known now.
func (r *retirings) record(name string) (rec *schema.ReservationRecord, none bool) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	entry, err := r.kv.Get(ctx, subjects.ReservationKey(subjects.DefaultAccount, name, "1"))
	if err != nil {
		return nil, errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted)
	}
	rec = new(schema.ReservationRecord)
	if err := schema.Unmarshal(entry.Value(), rec); err != nil {
		r.t.Errorf("the reservation of %s: %v", name, err)
		return nil, false
	}
	if rec.State == schema.ReservationActive {
		r.mu.Lock()
		r.epochs[rec.Epoch] = true
		r.mu.Unlock()
	}
	return rec, false
}

func (r *retirings) awaitGone(name string) bool {
	return r.waits("the reservation of "+name+" is gone", func() bool {
		_, none := r.record(name)
		return none
	})
}

// calls is how many calls frontends sent to reserved arcs of a function.
func (r *retirings) calls(name string) uint64 {
	r.record(name) // which notes the epoch
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[name]
}

func (r *retirings) retired() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.epochs)
}

// retiringSteps are what the controller publishes when it retires an arc, in their order: each is matched from the first on.
var retiringSteps = []struct{ name, prefix string }{
	{"says that it drains", "$KV.HEARTH_reservations."},
	{"says that it is shut", "$KV.HEARTH_reservations."},
	{"purges the marker", "$JS.API.STREAM.PURGE.HEARTH_CALLS_R"},
	{"looks whether it is empty", "$JS.API.STREAM.MSG.GET.HEARTH_CALLS_R"},
	{"deletes the consumer", "$JS.API.CONSUMER.DELETE.HEARTH_CALLS_R"},
	{"purges the key", "$KV.HEARTH_reservations."},
}

// Two of them by their places.
const purges, deletes = 2, 4

// killBefore kills the controller before these steps of the retiring of a reservation, one after the other, and waits each time until
// another controller has ended it.
func (r *retirings) killBefore(steps []int) {
	const name = killed
	r.t.Helper()
	key := "$KV.HEARTH_reservations." + subjects.ReservationKey(subjects.DefaultAccount, name, "1")
	for _, step := range steps {
		r.reserve(name)
		r.waits("the arc is open", func() bool {
			rec, _ := r.record(name)
			return rec != nil && rec.State == schema.ReservationActive && rec.Marker != 0
		})
		victim := r.controller()
		at := 0
		swallowed := victim.Proxy.Swallow(func(subject string) bool {
			s := retiringSteps[at]
			if !strings.HasPrefix(subject, s.prefix) || strings.HasPrefix(subject, "$KV.") && subject != key {
				return false
			}
			at++
			return at > step
		})
		r.unreserve(name)
		select {
		case <-swallowed:
		case <-withDeadline(r.t).Done():
			r.t.Fatalf("controller %s did not come to where it %s", victim.ID, retiringSteps[step].name)
		}
		victim.Kill()
		if !r.awaitGone(name) {
			r.t.Fatalf("killed before it %s, it left a reservation that nobody ends", retiringSteps[step].name)
		}
		victim.Start()
	}
}

// controller is the manager that is the controller now.
func (r *retirings) controller() (m *fabric.Role) {
	r.t.Helper()
	eventually(r.t, "there is a controller", func() bool {
		entry, err := r.members.Get(withDeadline(r.t), schema.ControllerKey)
		var lease schema.LeaseRecord
		if err != nil || schema.Unmarshal(entry.Value(), &lease) != nil {
			return false
		}
		m = r.f.Manager(lease.Holder)
		return true
	})
	return m
}

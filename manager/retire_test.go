package manager_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// pull takes what an arc holds now and acknowledges it, and gives how many that were.
func (c *crowd) pull(shard int, epoch uint64, took ...func(*nats.Msg)) int {
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Error(err)
		return 0
	}
	defer func() { _ = sub.Unsubscribe() }()
	next := "$JS.API.CONSUMER.MSG.NEXT." + c.names.CallsR(shard) + "." + c.names.ReservedDurable(epoch)
	body := fmt.Sprintf(`{"batch":64,"no_wait":true,"group":%q,"priority":0}`, topology.PriorityGroup)
	if err := c.nc.PublishRequest(next, sub.Subject, []byte(body)); err != nil {
		return 0
	}
	for n := 0; ; n++ {
		msg, err := sub.NextMsg(time.Second)
		if err != nil || msg.Header.Get("Status") != "" || msg.Reply == "" {
			return n
		}
		for _, f := range took {
			f(msg)
		}
		if _, err := c.nc.Request(msg.Reply, []byte("+ACK"), patience); err != nil {
			c.t.Error(err)
		}
	}
}

// race is publishers with stale views, and managers that take what is there, against the retiring of one arc.
type race struct {
	*crowd
	function string
	acked    atomic.Int64
	refused  atomic.Int64
	unknown  atomic.Int64 // their stream was deleted before it looked at them, and answers no more

	mu    sync.Mutex
	taken map[string]int
}

// publishers publish until ctx ends, each with a view that it holds for a while.
func (r *race) publish(ctx context.Context, who int) {
	key := subjects.ReservationKey(subjects.DefaultAccount, r.function, "1")
	for n := 0; ctx.Err() == nil; {
		rec, _, ok := r.cache.Get(key)
		hold := time.Now().Add(rand.N(25 * time.Millisecond))
		if !ok || rec.Marker == 0 || rec.State == schema.ReservationProvisioning {
			r.pause(ctx)
			continue
		}
		for time.Now().Before(hold) && ctx.Err() == nil {
			if r.waiting() > 100 { // who takes is slower here: an arc that is full, and never empty, is not what is tested
				r.pause(ctx)
				continue
			}
			n++
			msg := nats.NewMsg(r.names.ReservedCall(rec.Shard, rec.Account, rec.Function, rec.Version, rec.Epoch))
			msg.Data = fmt.Appendf(nil, "%d.%d", who, n)
			msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(rec.Marker))
			msg.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, r.names.ReservedMarker(rec.Shard, rec.Account, rec.Function, rec.Version, rec.Epoch))
			// The answer is waited for also when the test ends meanwhile: a call whose answer is not known could not be judged.
			once, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := r.js.PublishMsg(once, msg, jetstream.WithRetryAttempts(0))
			cancel()
			switch {
			case err == nil:
				r.acked.Add(1)
			case refusal(err):
				r.refused.Add(1)
			case errors.Is(err, context.DeadlineExceeded):
				r.unknown.Add(1)
			default:
				r.t.Errorf("publish: %v", err)
			}
		}
	}
}

// refusal reports whether an error says that a call was certainly not stored.
func refusal(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// waiting are the calls that were accepted and not taken yet.
func (r *race) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.acked.Load()) - len(r.taken)
}

func (r *race) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}

// take takes calls of all openings that the bucket names, until ctx ends.
func (r *race) take(ctx context.Context) {
	key := subjects.ReservationKey(subjects.DefaultAccount, r.function, "1")
	for ctx.Err() == nil {
		n := 0
		if rec, _, ok := r.cache.Get(key); ok {
			for _, c := range append(rec.Closing, schema.ClosingArc{Epoch: rec.Epoch, Shard: rec.Shard}) {
				if c.Epoch != 0 {
					n += r.pull(c.Shard, c.Epoch, r.count)
				}
			}
		}
		if n == 0 {
			r.pause(ctx)
		}
	}
}

func (r *race) count(msg *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken[string(msg.Data)]++
}

// settle has an arc opened and retired so many times while everybody races, and then looks at what became of the calls.
func (r *race) settle(rounds int, round func(i int)) {
	r.taken = make(map[string]int)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var publishers, takers sync.WaitGroup
	defer takers.Wait()
	defer publishers.Wait()
	defer cancel()
	for i := range 4 {
		publishers.Go(func() { r.publish(ctx, i) })
	}
	taking, enough := context.WithCancel(context.Background())
	defer enough()
	takers.Go(func() { r.take(taking) })
	for i := 0; i < rounds || r.refused.Load() == 0 && i < 20*rounds; i++ {
		r.limit(r.function, 1)
		seen := r.acked.Load()
		natstest.Eventually(r.t, patience, func() bool { return r.acked.Load() > seen }, "calls are taken")
		round(i)
		r.limit(r.function, 0)
		if rand.IntN(4) > 0 {
			natstest.Eventually(r.t, patience, func() bool { return r.record(r.function) == nil }, "it is gone")
		} // else it is reserved again somewhere on the way
	}
	cancel()
	publishers.Wait()
	r.clean()
	enough()
	takers.Wait()
	twice := 0
	for _, n := range r.taken {
		if n > 1 {
			twice++
		}
	}
	acked, unknown := int(r.acked.Load()), int(r.unknown.Load())
	if len(r.taken) < acked || len(r.taken) > acked+unknown || twice > 0 {
		r.t.Errorf("%d calls were accepted, %d unknown, %d taken, %d of them twice", acked, unknown, len(r.taken), twice)
	}
	if r.refused.Load() == 0 {
		r.t.Error("no stale publisher was ever refused")
	}
	r.t.Logf("%d rounds: %d calls accepted and taken, %d refused, %d unknown", rounds, acked, r.refused.Load(), unknown)
}

// Stale publishers race the retiring of an arc: every call that was accepted is taken, once; what is late is refused (S35).
func TestPublishersRaceTheRetiring(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2")
	r := &race{crowd: c, function: "resize"}
	rounds := natstest.Fewer(15, 5)
	if os.Getenv("HEARTH_LONG") != "" {
		rounds = 1000
	}
	r.settle(rounds, func(int) {})
}

// The same while a second controller that holds no lease does every step too, and is killed and begun again all the time.
func TestTwoControllersRace(t *testing.T) {
	t.Parallel()
	f, _, c := setReserved(t, "m1", "m2")
	second := aside(t, f, "c2")
	ctx, cancel := context.WithCancel(context.Background())
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer cancel()
	for range 2 {
		keepers.Go(func() {
			for ctx.Err() == nil {
				once, kill := context.WithTimeout(ctx, 20*time.Millisecond+rand.N(200*time.Millisecond))
				second.Keep(once)
				kill()
			}
		})
	}
	r := &race{crowd: c, function: "resize"}
	r.settle(natstest.Fewer(16, 5), func(int) {})
}

// Two hundred reservations open together: more than three shards hold.
func TestManyReservationsOpen(t *testing.T) {
	t.Parallel()
	_, _, c := setReserved(t, "m1", "m2", "m3")
	n := natstest.Fewer(200, topology.ReservedArcs+6)
	for i := range n {
		c.limit(fmt.Sprint("f", i), 2)
	}
	var shards [subjects.MaxShards]int
	for i := range n {
		shards[c.open(fmt.Sprint("f", i)).Shard]++
	}
	for shard, arcs := range shards {
		if want := min(topology.ReservedArcs, max(0, n-shard*topology.ReservedArcs)); arcs != want {
			t.Errorf("shard %d holds %d arcs, want %d", shard, arcs, want)
		}
	}
	for i := range n {
		c.limit(fmt.Sprint("f", i), 0)
	}
	c.clean()
}

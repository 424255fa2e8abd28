package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const (
	diskEvery = 200 * time.Millisecond
	// diskRoom is what has to be free before streams are written to again, or a part of the disk where that is less.
	diskRoom     = 64 << 20
	diskRoomPart = 16
	// Pauses between restarts of the server grow from the first to the last: a disk that fails for another reason than being
	// full is not hammered, and fabric and callers have some peace.
	firstRestart = time.Second
	lastRestart  = time.Minute
	sweepTime    = 10 * time.Second // what is left then is swept at the next look
)

// disk watches over the embedded server's disk. When it is full, the server gives each stream that it could not write to up,
// until it starts again, and whoever publishes to it hears nothing. So events, packages and what the API writes are refused here
// meanwhile, and as soon as there is room the server is started again. Sync calls, whose streams are in memory, go on while the disk is full; at the restart they
// meet what S58 says. Everything that was accepted is on the disk and runs then.
//
//	served ── a write failed ──► broken: events are answered "full" ── room again ──► restart ──► served
//
// DESIGN 12.
type disk struct {
	server *embedded
	nats   *natsServer
	names  subjects.Names
	login  login
	log    *slog.Logger

	nc   *nats.Conn
	end  context.CancelFunc
	loop conc.WaitGroup

	// Below: of the loop alone.
	refusing map[string][]*nats.Subscription // by stream, those that are answered for here
	broken   bool                            // said to be so
	swept    bool                            // nothing that is done is left on the streams since this server began
	began    time.Time                       // of the last restart
	pause    time.Duration                   // before the next one
}

var _ lifecycle.Component = (*disk)(nil)

// diskInbox is where the watch hears answers.
const diskInbox = "_HD"

// refusable are the subjects of each stream that is answered for while it takes nothing: those on which somebody waits. Not those
// that managers write time and again, which log what they hear, nor secrets and keys, which are for nobody else to read.
func refusable(names subjects.Names) map[string][]string {
	all := map[string][]string{
		names.Events(subjects.DefaultAccount): {names.EventsOf(subjects.DefaultAccount)},
		topology.CodeStream(names):            topology.CodeStore(names).Subjects,
	}
	for _, kind := range []string{topology.Functions, topology.Reservations} {
		bucket := topology.Bucket(names, kind)
		all[bucket.Name] = bucket.Subjects
	}
	return all
}

// diskRights let what is published be refused in the place of its stream, and events that are done be removed from theirs.
func diskRights(names subjects.Names) *rights {
	r := &rights{names: names}
	r.inboxes()
	r.subscribe = append(r.subscribe, diskInbox+".>")
	for _, own := range refusable(names) {
		r.subscribe = append(r.subscribe, own...)
	}
	slices.Sort(r.subscribe)
	for _, queue := range eventQueues(names) {
		r.stream(queue, "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "CONSUMER.LIST")
	}
	return r
}

func newDisk(n *natsServer, names subjects.Names, l login, log *slog.Logger) *disk {
	return &disk{server: n.embedded, nats: n, names: names, login: l, log: log, refusing: make(map[string][]*nats.Subscription)}
}

// Start begins to watch.
func (d *disk) Start(ctx context.Context) (err error) {
	if d.nc, err = d.nats.connect(ctx, d.login, diskInbox); err != nil {
		return err
	}
	life, end := context.WithCancel(context.Background())
	d.end = end
	d.loop.Go(func() { d.watch(life) })
	return nil
}

// Stop ends the watch and waits for it.
func (d *disk) Stop(ctx context.Context) error {
	d.end()
	d.loop.Wait()
	disconnect(ctx, d.nc)
	return nil
}

func (d *disk) watch(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := d.look(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("watch over the disk of the NATS server", "error", err)
		}
	}
}

// look acts on how the disk is now.
func (d *disk) look(ctx context.Context) error {
	_, said := d.server.now()
	if !said.breaking() {
		return d.sweep(ctx)
	}
	free, room := diskSpace(d.server.store)
	if !d.broken {
		d.broken = true
		d.log.Error("the NATS server cannot write to its disk: events are refused, and what was accepted waits, until there is room; sync calls go on",
			"folder", d.server.store, "free", free, "needed", room)
	}
	for stream, own := range refusable(d.names) {
		if d.refusing[stream] == nil && said.broke(stream) { // else the stream still answers by itself
			if err := d.refuse(stream, own); err != nil {
				return err
			}
		}
	}
	if free < room || time.Since(d.began) < d.pause {
		return nil
	}
	if time.Since(d.began) > 10*lastRestart {
		d.pause = 0
	}
	d.pause = min(max(2*d.pause, firstRestart), lastRestart)
	d.began = time.Now()
	return d.restart(ctx)
}

// refuse answers what is published to a stream as a stream does that is full.
func (d *disk) refuse(stream string, own []string) error {
	answer, err := json.Marshal(map[string]any{
		"stream": stream, "seq": 0,
		"error": map[string]any{"code": 503, "err_code": schema.JSStoreFailed, "description": "the disk of the NATS server is full: " +
			"free some of it, all is taken again within seconds then"},
	})
	if err != nil {
		return err
	}
	for _, subject := range own {
		sub, err := d.nc.Subscribe(subject, func(m *nats.Msg) {
			if m.Reply != "" {
				_ = m.Respond(answer) // a connection that is lost has no callers either
			}
		})
		if err != nil {
			return fmt.Errorf("refuse what is for stream %s: %w", stream, err)
		}
		d.refusing[stream] = append(d.refusing[stream], sub)
	}
	return nil
}

// restart has the server begin again. A new one refuses for itself, so nobody does it here from before it begins.
func (d *disk) restart(ctx context.Context) error {
	for stream, subs := range d.refusing {
		for _, sub := range subs {
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrBadSubscription) {
				return fmt.Errorf("refuse what is for stream %s no more: %w", stream, err)
			}
		}
		delete(d.refusing, stream)
	}
	d.log.Warn("there is room on the disk again: the NATS server starts anew")
	if err := d.server.restart(ctx); err != nil {
		return err // its line about streams stands, so it is tried again
	}
	d.broken, d.swept = false, false
	return nil
}

// sweep removes, once after each start of the server, what a full disk kept on the streams.
func (d *disk) sweep(ctx context.Context) error {
	if d.swept || !d.nc.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	n, err := sweepGhosts(ctx, d.nc, d.names)
	if n > 0 {
		d.log.Info("events that were done and could not be removed while the disk was full", "removed", n)
	}
	d.swept = err == nil
	return err
}

// DiskSpace is how many bytes are free where a folder is, and how many have to be before streams are written to: room is 0 where
// neither can be told.
func DiskSpace(folder string) (free, room uint64) {
	if diskSize(folder) == 0 {
		return 0, 0
	}
	return diskSpace(folder)
}

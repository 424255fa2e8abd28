package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// All managers of a fabric hold the key to which variables are sealed (SECURITY 6). Bucket keys says which it is; whoever
// writes it there first wins. A manager whose folder has none asks the others:
//
//	new manager                                                 manager of the ring
//	hearth.m.<id>.key: {asker, public half of a one-time key} ──►  only managers may publish there
//	_HM.<asker>.key.<random>: the key, sealed to that half    ◄──  to no other inbox
const (
	keyPatience = 10 * time.Second       // for a manager that has the key: the first one may be on its way to the ring still
	keyAgain    = 500 * time.Millisecond // all of the ring are asked again
)

// KeyRequest says for whom [AgreeKey] gets the key.
type KeyRequest struct {
	Names   subjects.Names
	Manager string // id of the manager; it need not be started
	Dir     string // its data folder

	Patience time.Duration // how long the ring's managers are asked; 0 means 10 s
	Logger   *slog.Logger  // nil discards
}

// AgreeKey gives the key that all managers of the fabric hold to one whose data folder has none, and keeps it there: the
// folder's own proposal, if the fabric has no key yet, else the fabric's, of which it asks the managers of the ring. nc is a
// connection with the rights of this manager. If nobody gives it in time, or variables are sealed to a key that the fabric does
// not name any more, the error is a [schema.CodeConflict] that says what to do: never is another key made in its place.
func AgreeKey(ctx context.Context, nc *nats.Conn, r KeyRequest) (*seal.Key, error) {
	r.Patience = cmp.Or(r.Patience, keyPatience)
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("make a JetStream context: %w", err)
	}
	if err := topology.EnsureStores(ctx, js, r.Names); err != nil {
		return nil, fmt.Errorf("set up the stores: %w", err)
	}
	keys, err := js.KeyValue(ctx, r.Names.Bucket(topology.Keys))
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.Keys, err)
	}
	own, err := seal.Draft(r.Dir)
	if err != nil {
		return nil, err
	}
	if err := proposable(ctx, js, keys, r.Names, own.ID()); err != nil {
		return nil, err
	}
	has, err := proposeKey(ctx, keys, own)
	if err != nil {
		return nil, err
	}
	key := own
	if has.KeyID != own.ID() {
		if key, err = r.ask(ctx, nc, js, has.KeyID); err != nil {
			return nil, err
		}
	}
	return key, key.Keep(r.Dir)
}

// proposable refuses to publish key id in a fabric that names none where variables are sealed to another one: as if nothing
// were lost, every function that has some would fail one by one.
func proposable(ctx context.Context, js jetstream.JetStream, keys jetstream.KeyValue, names subjects.Names, id string) error {
	_, err := keys.Get(ctx, schema.SealKeyName)
	if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err // nil: the fabric has its key, which counts
	}
	secrets, err := js.KeyValue(ctx, names.Bucket(topology.Secrets))
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.Secrets, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	all, err := secrets.WatchAll(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("look at the sealed variables: %w", err)
	}
	defer watch.End(js.Conn(), all, cancel)
	for {
		select {
		case entry := <-all.Updates():
			if entry == nil {
				return nil // that was all
			}
			record, err := decode[schema.SecretRecord](entry.Value())
			if entry.Operation() != jetstream.KeyValuePut || err != nil || record.KeyID == id {
				continue // what is damaged nobody opens
			}
			return schema.Errorf(schema.CodeConflict, "variables of this fabric are sealed to key %s, and bucket %s names no key any more, so "+
				"none is made: start a manager first whose data folder has it in file %s; %s", record.KeyID, keys.Bucket(), seal.FileName, keyLost)
		case <-ctx.Done():
			return fmt.Errorf("look at the sealed variables: %w", context.Cause(ctx))
		}
	}
}

// keyLost is what is left to do where no copy of the key is.
const keyLost = "if every copy is lost, nobody can open them again: make a new fabric (another data folder, or another --prefix) and deploy " +
	"the functions there"

// proposeKey publishes the public half of own if the fabric has none, and gives what it has then.
func proposeKey(ctx context.Context, keys jetstream.KeyValue, own *seal.Key) (schema.SealKeyRecord, error) {
	record := schema.SealKeyRecord{V: schema.Version, KeyID: own.ID(), Public: own.Public()}
	value, err := schema.Marshal(record)
	if err != nil {
		return record, err
	}
	_, err = keys.Create(ctx, schema.SealKeyName, value)
	if err == nil {
		return record, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return record, fmt.Errorf("publish the seal's key: %w", err)
	}
	entry, err := keys.Get(ctx, schema.SealKeyName)
	if err != nil {
		return record, fmt.Errorf("read the seal's key: %w", err)
	}
	if record, err = decode[schema.SealKeyRecord](entry.Value()); err != nil {
		return record, fmt.Errorf("read the seal's key: %w", err)
	}
	return record, nil
}

// ask asks every manager of the ring, again and again, until one gives the key with this id.
func (r *KeyRequest) ask(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, id string) (*seal.Key, error) {
	wish, err := seal.NewWish()
	if err != nil {
		return nil, err
	}
	body, err := schema.Marshal(schema.KeyAsk{V: schema.Version, Manager: r.Manager, Public: wish.Public()})
	if err != nil {
		return nil, err
	}
	ring, err := js.KeyValue(ctx, r.Names.Bucket(topology.Ring))
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.Ring, err)
	}
	members, err := js.KeyValue(ctx, r.Names.Bucket(topology.Members))
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.Members, err)
	}
	inbox := subjects.ManagerInbox(r.Manager, "key."+random())
	answers := make(chan *nats.Msg, 64) // nats.go drops what comes beyond; all are asked again
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("listen for the managers' key: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails on a closed connection only
	patience := time.NewTimer(r.Patience)
	defer patience.Stop()
	tick := time.NewTicker(keyAgain)
	defer tick.Stop()
	var asked []string
	var seen uint64
	for {
		if seen, err = r.unheld(ctx, members, seen); err != nil {
			return nil, err
		}
		if asked, err = r.askRing(ctx, nc, ring, inbox, body); err != nil {
			return nil, err
		}
		for waiting := true; waiting; {
			select {
			case m := <-answers:
				if len(m.Data) == 0 {
					continue // the ring names one that has gone
				}
				key, err := r.given(m, wish, id)
				if err == nil {
					return key, nil
				}
				r.Logger.Warn("the managers' key was not given", "error", err)
			case <-tick.C:
				waiting = false
			case <-patience.C:
				return nil, r.notGiven(id, asked)
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for the managers' key: %w", context.Cause(ctx))
			}
		}
	}
}

// unheld refuses an id whose lease somebody renews, as [Manager.Start] would later: whoever asks in the name of a manager that is on the
// ring asks all but that one, which may be the only one that has the key. seen is the lease as it was before, 0 if there was none.
func (r *KeyRequest) unheld(ctx context.Context, members jetstream.KeyValue, seen uint64) (uint64, error) {
	lease, err := members.Get(ctx, memberKey(r.Manager))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read lease %s: %w", memberKey(r.Manager), err)
	case seen != 0 && lease.Revision() != seen:
		return 0, heldBy(r.Manager, lease)
	}
	return lease.Revision(), nil
}

// askRing asks the managers that are on the ring now, and names them.
func (r *KeyRequest) askRing(ctx context.Context, nc *nats.Conn, ring jetstream.KeyValue, inbox string, body []byte) ([]string, error) {
	entry, err := ring.Get(ctx, schema.RingKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the ring: %w", err)
	}
	record, err := decode[schema.RingRecord](entry.Value())
	if err != nil {
		return nil, fmt.Errorf("read the ring: %w", err)
	}
	others := slices.DeleteFunc(slices.Concat(record.Members, record.Leaving), func(id string) bool { return id == r.Manager })
	for _, id := range others {
		if err := nc.PublishRequest(r.Names.ManagerKey(id), inbox, body); err != nil {
			return nil, fmt.Errorf("ask manager %s for the managers' key: %w", id, err)
		}
	}
	return others, nil
}

func (r *KeyRequest) given(m *nats.Msg, wish *seal.Wish, id string) (*seal.Key, error) {
	var answer schema.KeyAnswer
	if err := schema.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return wish.Open(answer.Sealed, id)
}

func (r *KeyRequest) notGiven(id string, asked []string) error {
	who := "nobody else is on the ring"
	if len(asked) > 0 {
		who = "of the ring's managers (" + strings.Join(asked, ", ") + ") none gave it"
	}
	return schema.Errorf(schema.CodeConflict, "variables of this fabric are sealed to key %s, which this manager's folder does not have, and "+
		"%s within %v: start a manager that has it, or copy the file %s of its data folder, or of a backup, into %s; %s", id, who, r.Patience,
		seal.FileName, r.Dir, keyLost)
}

// handOver answers a manager that asks for the key. Only managers may publish to this subject; the answer is sealed to the
// key of whoever asked and goes to an inbox of the manager that it names, to which that one alone may subscribe.
func (m *Manager) handOver(msg *nats.Msg) {
	var ask schema.KeyAsk
	if m.cfg.HandOver == nil {
		return
	}
	if err := schema.Unmarshal(msg.Data, &ask); err != nil || ask.Manager == "" || !subjects.FabricReplyAllowed(msg.Reply) ||
		!strings.HasPrefix(msg.Reply, subjects.ManagerInbox(ask.Manager, "")) {
		m.count.garbage.Add(1)
		m.log.Warn("a question for the managers' key is left aside", "reply", msg.Reply, "error", err)
		return
	}
	sealed, err := m.cfg.HandOver(ask.Public)
	var body []byte
	if err == nil {
		body, err = schema.Marshal(schema.KeyAnswer{V: schema.Version, Sealed: sealed})
	}
	if err == nil {
		err = m.nc.Publish(msg.Reply, body)
	}
	if err != nil {
		m.log.Warn("hand the managers' key over", "to", ask.Manager, "error", err)
		return
	}
	m.log.Info("handed the managers' key over", "to", ask.Manager)
}

package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// stores are the buckets that the operations read and write. A handle is a name, so it outlives reconnects.
type stores struct {
	js                             jetstream.JetStream
	functions, secrets, keys, ring jetstream.KeyValue
	reservations                   jetstream.KeyValue
	code                           jetstream.ObjectStore
}

func openStores(ctx context.Context, js jetstream.JetStream, names subjects.Names) (stores, error) {
	st := stores{js: js}
	for kind, to := range map[string]*jetstream.KeyValue{
		topology.Functions: &st.functions, topology.Secrets: &st.secrets, topology.Keys: &st.keys, topology.Ring: &st.ring,
		topology.Reservations: &st.reservations,
	} {
		kv, err := js.KeyValue(ctx, names.Bucket(kind))
		if err != nil {
			return stores{}, fmt.Errorf("open bucket %s: %w", names.Bucket(kind), err)
		}
		*to = kv
	}
	var err error
	if st.code, err = js.ObjectStore(ctx, names.Bucket(topology.Code)); err != nil {
		return stores{}, fmt.Errorf("open object store %s: %w", names.Bucket(topology.Code), err)
	}
	return st, nil
}

// attempts is how often a change is tried against others that change the same function.
const attempts = 16

// errUnchanged, returned by an edit, says that the record is as it should be and need not be written.
var errUnchanged = errors.New("nothing to change")

func functionKey(account, name string) string {
	return subjects.Escape(account) + "." + subjects.Escape(name)
}

// Why a function's record cannot be decoded: this build does not read it, or none does.
var (
	errUnreadable = errors.New("the record cannot be read")
	errDamaged    = fmt.Errorf("%w: it is damaged", errUnreadable)
)

// unreadable is what callers hear of a function whose record cannot be decoded: which one it is, and what to do.
func (s *Service) unreadable(account, name string, err error) error {
	if version := new(schema.Error); errors.As(err, &version) { // of another version, not damaged
		return &schema.Error{Code: version.Code, Cause: errors.Join(errUnreadable, err), Message: fmt.Sprintf("function %s cannot be read: %s", name, version.Message)}
	}
	return &schema.Error{Code: schema.CodeInternal, Cause: errors.Join(errDamaged, err), Message: fmt.Sprintf(
		"the record of function %s is damaged (%v): delete the function and deploy it again, or restore key %s of bucket %s from a backup",
		name, err, functionKey(account, name), s.store.functions.Bucket())}
}

// load reads the record of a function from its bucket. A function that is not there is a [schema.CodeNotFound]; of one whose
// record cannot be decoded the revision is right all the same.
func (s *Service) load(ctx context.Context, account, name string) (*schema.FunctionRecord, uint64, error) {
	entry, err := s.store.functions.Get(ctx, functionKey(account, name))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, notFound(account, name, "")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read function %s: %w", name, err)
	}
	rec := new(schema.FunctionRecord)
	if err := schema.Unmarshal(entry.Value(), rec); err != nil {
		return nil, entry.Revision(), s.unreadable(account, name, err)
	}
	return rec, entry.Revision(), nil
}

// read is [Service.load] for answers: a replica of the bucket may lag behind what this frontend has seen.
func (s *Service) read(ctx context.Context, account, name string) (*schema.FunctionRecord, error) {
	rec, revision, err := s.load(ctx, account, name)
	if seen, at, ok := s.view.Function(account, name); ok && at > revision && (err == nil || schema.CodeOf(err) == schema.CodeNotFound) {
		return seen, nil
	}
	return rec, err
}

// create writes the first record of a function. When one is there already, it says which.
func (s *Service) create(ctx context.Context, rec *schema.FunctionRecord) (uint64, error) {
	value, err := s.encode(rec)
	if err != nil {
		return 0, err
	}
	revision, err := s.store.functions.Create(ctx, functionKey(rec.Account, rec.Name), value)
	if !clashed(err) {
		if err != nil {
			err = fmt.Errorf("write function %s: %w", rec.Name, err)
		}
		return revision, err
	}
	other, _, err := s.load(ctx, rec.Account, rec.Name)
	if err != nil {
		return 0, err
	}
	return 0, alreadyExists(other)
}

// change applies edit to a function's record by compare-and-set and returns what was written, with its revision. When
// somebody else's change came between, clash decides, from the record before and after it, whether edit may be applied
// to the new one (nil) or is refused by the error; first is what was read before the operation's work began, nil if it
// needs none. The edit may run several times, each time on a record of its own.
func (s *Service) change(ctx context.Context, account, name string, first *schema.FunctionRecord,
	clash func(was, now *schema.FunctionRecord) error, edit func(*schema.FunctionRecord) error,
) (*schema.FunctionRecord, uint64, error) {
	for try := range attempts {
		rec, revision, err := s.load(ctx, account, name)
		if err != nil {
			return nil, 0, err
		}
		if first == nil {
			first, err = clone(rec)
			if err != nil {
				return nil, 0, err
			}
		}
		if rec.ID != first.ID {
			return nil, 0, schema.Errorf(schema.CodeConflict, "function %s was deleted and created again meanwhile, at %s", name,
				stamp(rec.Created))
		}
		if err := clash(first, rec); err != nil {
			return nil, 0, err
		}
		if err := edit(rec); errors.Is(err, errUnchanged) {
			return rec, revision, nil
		} else if err != nil {
			return nil, 0, err
		}
		value, err := s.encode(rec)
		if err != nil {
			return nil, 0, err
		}
		revision, err = s.store.functions.Update(ctx, functionKey(account, name), value, revision)
		if err == nil {
			return rec, revision, nil
		}
		if !clashed(err) {
			return nil, 0, fmt.Errorf("write function %s: %w", name, err)
		}
		if err := pause(ctx, try); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, schema.Errorf(schema.CodeConflict, "function %s is being changed by others: %d attempts met %d changes", name,
		attempts, attempts)
}

// commutes is the clash of an operation that may follow any other.
func commutes(_, _ *schema.FunctionRecord) error { return nil }

// remove deletes a function's record if it is still at revision, and returns the revision of the deletion, which
// jetstream's own Delete does not tell.
func (s *Service) remove(ctx context.Context, account, name string, revision uint64) (uint64, error) {
	m := nats.NewMsg("$KV." + s.store.functions.Bucket() + "." + functionKey(account, name))
	m.Header.Set("KV-Operation", "DEL")
	ack, err := s.store.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// encode writes a record, and refuses one that the server would not carry.
func (s *Service) encode(rec *schema.FunctionRecord) ([]byte, error) {
	value, err := schema.Marshal(rec)
	if err != nil {
		return nil, err
	}
	if limit := s.nc.MaxPayload() - 4<<10; int64(len(value)) > limit {
		return nil, schema.Errorf(schema.CodeStorageExceeded, "function %s: its record would have %d bytes, the NATS server carries %d",
			rec.Name, len(value), limit)
	}
	return value, nil
}

func clone(rec *schema.FunctionRecord) (*schema.FunctionRecord, error) {
	value, err := schema.Marshal(rec)
	if err != nil {
		return nil, err
	}
	c := new(schema.FunctionRecord)
	return c, schema.Unmarshal(value, c)
}

// clashed reports whether a compare-and-set lost, on a single server or on a replicated stream.
func clashed(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// pause waits a little, longer with each try and never equally long, so that rivals do not meet again.
func pause(ctx context.Context, try int) error {
	timer := time.NewTimer(rand.N(time.Duration(1+try) * 5 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// notFound is Lambda's refusal of an unknown function, version or alias.
func notFound(account, name, qualifier string) *schema.Error {
	arn := schema.ARN(account, name, qualifier)
	if qualifier != "" && schema.ValidateAlias(qualifier) == nil {
		return schema.Errorf(schema.CodeNotFound, "Cannot find alias arn: %s", arn)
	}
	return schema.Errorf(schema.CodeNotFound, "Function not found: %s", arn)
}

func alreadyExists(rec *schema.FunctionRecord) *schema.Error {
	return schema.Errorf(schema.CodeConflict, "Function already exist: %s (created %s, last deploy %s)", rec.Name, stamp(rec.Created),
		deployOf(rec))
}

// deployOf names the deploy that a record holds, so that who lost against it knows what won.
func deployOf(rec *schema.FunctionRecord) string {
	return fmt.Sprintf("at %s, revision %s, code %s", stamp(rec.Latest.Modified), rec.Latest.RevisionID, shortSHA(rec.Latest.CodeSHA256))
}

func shortSHA(hex string) string { return hex[:min(12, len(hex))] }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

package control

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/scrypt"

	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/schema"
)

// sealedSet is a set of variables as a record refers to it.
type sealedSet struct {
	names  []string
	key    string // in bucket secrets
	digest string
}

// sealVariables writes a function's variables, sealed, before the record that refers to them. The key is new each time
// (of two deploys at once each has its own), begins with what its readers know, `<function id>.<revision>.`, and is
// sealed with the values. None need no seal: an empty set has no key.
func (s *Service) sealVariables(ctx context.Context, id string, revision uint64, vars schema.Variables, digest string) (sealedSet, error) {
	if len(vars) == 0 {
		return sealedSet{}, nil
	}
	public, err := s.sealKey(ctx)
	if err != nil {
		return sealedSet{}, err
	}
	set := sealedSet{
		names: slices.Sorted(maps.Keys(vars)), digest: digest, key: fmt.Sprintf("%s.%d.%s", id, revision, randomHex(8)),
	}
	record, err := seal.Seal(public, set.key, vars)
	if err != nil {
		return sealedSet{}, err
	}
	value, err := schema.Marshal(record)
	if err != nil {
		return sealedSet{}, err
	}
	if _, err := s.store.secrets.Create(ctx, set.key, value); err != nil {
		return sealedSet{}, fmt.Errorf("write sealed variables %s: %w", set.key, err)
	}
	return set, nil
}

// sealKey is the managers' public key.
func (s *Service) sealKey(ctx context.Context) ([]byte, error) {
	entry, err := s.store.keys.Get(ctx, schema.SealKeyName)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, schema.Errorf(schema.CodeUnavailable, "variables cannot be sealed: no manager has published its key yet; start one "+
			"(`hearth up` or `hearth manager`), then deploy again")
	}
	if err != nil {
		return nil, fmt.Errorf("read the sealing key: %w", err)
	}
	var record schema.SealKeyRecord
	if err := schema.Unmarshal(entry.Value(), &record); err != nil {
		return nil, fmt.Errorf("read the sealing key: %w", err)
	}
	if len(record.Public) != 32 || record.KeyID != seal.KeyID(record.Public) {
		return nil, fmt.Errorf("read the sealing key: %d bytes under id %q are no key of ours", len(record.Public), record.KeyID)
	}
	return record.Public, nil
}

// digestOf tells an unchanged set of variables, so that deploying the same again keeps environments warm and versions
// few, although nobody here can open what was sealed. It is scrypt (16 MiB, some 40 ms) salted with the function's id: a
// plain hash beside the sealed values would let whoever copies the store try short passwords by the million.
func (s *Service) digestOf(ctx context.Context, id string, vars schema.Variables) (string, error) {
	if len(vars) == 0 {
		return "", nil
	}
	free, err := s.oneReader(ctx) // bounds the memory of both
	if err != nil {
		return "", err
	}
	defer free()
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		for _, part := range [...]string{name, vars[name]} {
			text = binary.BigEndian.AppendUint32(text, uint32(len(part)))
			text = append(text, part...)
		}
	}
	sum, err := scrypt.Key(text, []byte("hearth variables "+id), 1<<14, 8, 1, 32)
	if err != nil {
		return "", fmt.Errorf("digest variables: %w", err)
	}
	return hex.EncodeToString(sum), nil
}

// dropSecrets removes sealed sets to which no version of rec refers any more. What cannot be removed now is logged: it
// stays sealed, and goes with its function.
func (s *Service) dropSecrets(ctx context.Context, rec *schema.FunctionRecord, keys ...string) {
	for _, key := range keys {
		if key == "" || refers(rec, key) {
			continue
		}
		if err := s.store.secrets.Purge(ctx, key); err != nil {
			s.log.Warn("sealed variables left behind", "key", key, "error", err)
		}
	}
}

// retireSecrets has a sealed set removed to which no version of rec refers any more, a while from now: calls that were
// accepted before may still need an environment with it.
func (s *Service) retireSecrets(ctx context.Context, rec *schema.FunctionRecord, key string) {
	if key == "" || refers(rec, key) || s.retired.add(key, time.Now().Add(s.cfg.Keep)) {
		return
	}
	s.dropSecrets(ctx, nil, key)
}

// refers reports whether a version of rec, if there is one, has this sealed set.
func refers(rec *schema.FunctionRecord, key string) bool {
	return rec != nil && (rec.Latest.SecretKey == key ||
		slices.ContainsFunc(rec.Versions, func(v schema.VersionRecord) bool { return v.SecretKey == key }))
}

// dropAllSecrets removes what was sealed for a function that is gone. Its id never comes again.
func (s *Service) dropAllSecrets(ctx context.Context, id string) {
	lister, err := s.store.secrets.ListKeysFiltered(ctx, id+".>")
	if err != nil {
		s.log.Warn("sealed variables left behind", "function_id", id, "error", err)
		return
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	s.dropSecrets(ctx, nil, keys...)
}

// randomHex is n bytes of crypto/rand, which never fails, in hex.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

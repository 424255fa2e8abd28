package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/box"

	"github.com/hearth-run/hearth/schema"
)

// Why a record does not open. Neither says anything of what is in it.
var (
	// ErrOtherKey: the record was sealed to another key than this manager's.
	ErrOtherKey = errors.New("sealed to another key")
	// ErrMoved: the record lies under another key of the bucket than it was sealed for.
	ErrMoved = errors.New("sealed for another place")
	// ErrDamaged: the record is not what [Seal] made.
	ErrDamaged = errors.New("not a sealed set of variables")
)

// content is what the box holds.
type content struct {
	V         int              `msgpack:"v"`
	At        string           `msgpack:"at"`
	Variables schema.Variables `msgpack:"vars"`
}

// KeyID names a public key: the first 16 hex digits of its SHA-256.
func KeyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// Seal seals variables to a public key of 32 bytes. at is the key of bucket secrets under which the record will lie:
// it opens nowhere else.
func Seal(public []byte, at string, variables schema.Variables) (schema.SecretRecord, error) {
	if len(public) != 32 {
		return schema.SecretRecord{}, fmt.Errorf("seal variables: a public key of %d bytes, X25519 has 32", len(public))
	}
	if at == "" {
		return schema.SecretRecord{}, errors.New("seal variables: for no place")
	}
	clear, err := schema.Marshal(content{schema.Version, at, variables})
	if err != nil {
		return schema.SecretRecord{}, fmt.Errorf("seal variables: %w", err)
	}
	sealed, err := box.SealAnonymous(nil, clear, (*[32]byte)(public), rand.Reader)
	if err != nil {
		return schema.SecretRecord{}, fmt.Errorf("seal variables: %w", err)
	}
	return schema.SecretRecord{V: schema.Version, KeyID: KeyID(public), Sealed: sealed, At: at}, nil
}

// Open reads the variables of a record. Its At must be the key of bucket secrets from which it was read, set by whoever
// read it, never by what it says itself. Errors are [ErrOtherKey], [ErrMoved] and [ErrDamaged], wrapped with what to do.
func (k *Key) Open(record schema.SecretRecord) (schema.Variables, error) {
	if record.KeyID != k.ID() {
		return nil, fmt.Errorf("open variables at %q: %w (%s, this manager has %s); give all managers the same %s, or deploy "+
			"the function again", record.At, ErrOtherKey, record.KeyID, k.ID(), FileName)
	}
	clear, ok := box.OpenAnonymous(nil, record.Sealed, &k.public, &k.private)
	if !ok {
		return nil, fmt.Errorf("open variables at %q: %w; deploy the function again", record.At, ErrDamaged)
	}
	var c content
	if err := schema.Unmarshal(clear, &c); err != nil { // its text could repeat what is inside
		return nil, fmt.Errorf("open variables at %q: %w; deploy the function again", record.At, ErrDamaged)
	}
	if record.At == "" || c.At != record.At {
		return nil, fmt.Errorf("open variables at %q: %w; deploy the function again", record.At, ErrMoved)
	}
	return c.Variables, nil
}

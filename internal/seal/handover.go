package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/nacl/box"
)

// Wish is a manager's wish for the key that the others hold: a key pair for this one answer. It prints as "***".
type Wish struct{ once Key }

// NewWish makes the key pair.
func NewWish() (*Wish, error) {
	public, private, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key to ask with: %w", err)
	}
	return &Wish{once: Key{public: *public, private: *private}}, nil
}

// Public is what the others seal their answer to: 32 bytes, a copy.
func (w *Wish) Public() []byte { return bytes.Clone(w.once.public[:]) }

// String hides the wish from logs.
func (w *Wish) String() string { return "***" }

// LogValue hides the wish from logs that encode what they are given.
func (w *Wish) LogValue() slog.Value { return slog.StringValue("***") }

// GoString hides the wish from %#v too.
func (w *Wish) GoString() string { return "***" }

// HandOver seals the private key to the public half of a [Wish].
func (k *Key) HandOver(public []byte) ([]byte, error) {
	if len(public) != 32 {
		return nil, fmt.Errorf("hand the key over: to a public key of %d bytes, X25519 has 32", len(public))
	}
	sealed, err := box.SealAnonymous(nil, k.private[:], (*[32]byte)(public), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("hand the key over: %w", err)
	}
	return sealed, nil
}

// Open reads what another manager has handed over. It must be the key with this id, as bucket keys names it: who sealed the
// answer is not known.
func (w *Wish) Open(sealed []byte, id string) (*Key, error) {
	private, ok := box.OpenAnonymous(nil, sealed, &w.once.public, &w.once.private)
	if !ok || len(private) != 32 {
		return nil, errors.New("open the key that was handed over: not sealed to who asked")
	}
	key, err := newKey([32]byte(private))
	if err != nil {
		return nil, fmt.Errorf("open the key that was handed over: %w", err)
	}
	if key.ID() != id {
		return nil, fmt.Errorf("open the key that was handed over: it is %s, the fabric's is %s", key.ID(), id)
	}
	return key, nil
}

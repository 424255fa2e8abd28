package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"

	"github.com/hearth-run/hearth/internal/wholefile"
)

// FileName is the file of the private key in a manager's data folder, and DraftName that of one which the fabric has not
// taken yet.
const (
	FileName  = "seal.key"
	DraftName = "seal.key.draft"
)

// fileHead is the first word of the file: what it is and in which form.
const fileHead = "hearth-seal-x25519 "

// Key is the managers' private key. It is immutable, safe for concurrent use, and prints as "***".
type Key struct {
	public, private [32]byte
}

// Load reads the key of the data folder dir; its error is [fs.ErrNotExist] where there is none. A file that others than its
// owner may read is refused, with what to do about it, for what was sealed to it must count as read.
func Load(dir string) (*Key, error) { return read(filepath.Join(dir, FileName)) }

// Draft reads the key that the data folder dir proposes to a fabric without one, or makes it. It lies in a file of its own
// before anybody hears of it, so that a fabric never takes a key which a crash could lose. Of several that make it at once
// one wins and all get its key.
func Draft(dir string) (*Key, error) {
	path := filepath.Join(dir, DraftName)
	key, err := read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, private, err := box.GenerateKey(rand.Reader)
	if err == nil {
		err = write(path, private)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the sealing key %s: %w", path, err)
	}
	return read(path)
}

// Keep makes k the key of the data folder dir, which has no other, and removes what the folder proposed.
func (k *Key) Keep(dir string) error {
	path := filepath.Join(dir, FileName)
	if err := write(path, &k.private); errors.Is(err, fs.ErrExist) {
		has, err := read(path)
		if err != nil {
			return err
		}
		if has.ID() != k.ID() {
			return fmt.Errorf("keep the sealing key %s: the folder has another one (%s, not %s)", path, has.ID(), k.ID())
		}
	} else if err != nil {
		return fmt.Errorf("keep the sealing key %s: %w", path, err)
	}
	if err := os.Remove(filepath.Join(dir, DraftName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the sealing key %s: %w", path, err)
	}
	return nil
}

// Public is the half that others seal to: 32 bytes, a copy.
func (k *Key) Public() []byte { return bytes.Clone(k.public[:]) }

// ID names the key in records: [KeyID] of its public half.
func (k *Key) ID() string { return KeyID(k.public[:]) }

// String hides the key from logs.
func (k *Key) String() string { return "***" }

// LogValue hides the key from logs that encode what they are given.
func (k *Key) LogValue() slog.Value { return slog.StringValue("***") }

// GoString hides the key from %#v too.
func (k *Key) GoString() string { return "***" }

func read(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the sealing key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the sealing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("sealing key %s: is no regular file", path)
	}
	if wide := info.Mode().Perm() & 0o077; wide != 0 {
		return nil, fmt.Errorf("sealing key %s: has mode %04o, others can read it; run `chmod 600 %s`, and if they may have, "+
			"change the values of all variables", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("read the sealing key %s: %w", path, err)
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(text)), fileHead)
	private, err := hex.DecodeString(digits)
	if !ok || err != nil || len(private) != 32 {
		return nil, fmt.Errorf("sealing key %s: is damaged; restore it from a backup or the data folder of another manager, or remove "+
			"it where another manager of the ring has the key and gives it", path)
	}
	k, err := newKey([32]byte(private))
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	return k, nil
}

func newKey(private [32]byte) (*Key, error) {
	public, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		return nil, err
	}
	return &Key{private: private, public: [32]byte(public)}, nil
}

// write makes the file of a key. The first of several wins: the others are told [fs.ErrExist].
func write(path string, private *[32]byte) error {
	return wholefile.Create(path, []byte(fileHead+hex.EncodeToString(private[:])+"\n"))
}

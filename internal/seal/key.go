package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"
)

// FileName is the file of the private key in a manager's data folder.
const FileName = "seal.key"

// fileHead is the first word of the file: what it is and in which form.
const fileHead = "hearth-seal-x25519 "

// Key is the managers' private key. It is immutable, safe for concurrent use, and prints as "***".
type Key struct {
	public, private [32]byte
}

// Load reads the key of the data folder dir, or makes one if there is none. Of several that make it at once one wins
// and all get its key. A file that others than its owner may read is refused, with what to do about it, for what was
// sealed to it must count as read.
func Load(dir string) (*Key, error) {
	path := filepath.Join(dir, FileName)
	key, err := read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := create(dir, path); err != nil {
		return nil, fmt.Errorf("make the sealing key %s: %w", path, err)
	}
	return read(path)
}

// Public is the half that others seal to: 32 bytes, a copy.
func (k *Key) Public() []byte { return bytes.Clone(k.public[:]) }

// ID names the key in records: [KeyID] of its public half.
func (k *Key) ID() string { return KeyID(k.public[:]) }

// String hides the key from logs.
func (k *Key) String() string { return "***" }

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
		return nil, fmt.Errorf("sealing key %s: has mode %04o, others can read it; run `chmod 600 %s`, or, if they may have, "+
			"remove it and deploy every function with variables again", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("read the sealing key %s: %w", path, err)
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(text)), fileHead)
	private, err := hex.DecodeString(digits)
	if !ok || err != nil || len(private) != 32 {
		return nil, fmt.Errorf("sealing key %s: is damaged; restore it from a backup, or remove it and deploy every function "+
			"with variables again", path)
	}
	k := &Key{private: [32]byte(private)}
	public, err := curve25519.X25519(private, curve25519.Basepoint)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	k.public = [32]byte(public)
	return k, nil
}

// create writes a new key beside path and links it there, so that nobody ever reads half a key and the first of
// several wins.
func create(dir, path string) error {
	_, private, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+FileName+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(fileHead + hex.EncodeToString(private[:]) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

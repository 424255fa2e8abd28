package tokens

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/internal/wholefile"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// FileName is the file of a manager's keys in its data folder: the managers of one process share the folder, not their keys.
func FileName(manager string) string { return "tokens-" + subjects.Escape(manager) + ".keys" }

// maxFile bounds what is read of it.
const maxFile = 64 << 10

type keyFile struct {
	V       int         `json:"v"`
	Manager string      `json:"manager"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	Seed  []byte    `json:"seed"`
	State state     `json:"state"`
	Made  time.Time `json:"made"`
}

// load reads the keys of a manager, none where there is no file. A file that others than its owner may read is refused, for
// what was signed by its keys may be theirs.
func load(dir, manager string, mono time.Duration) (ring, error) {
	path := filepath.Join(dir, FileName(manager))
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ring{}, nil
	}
	if err != nil {
		return ring{}, fmt.Errorf("open the keys for tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ring{}, fmt.Errorf("look at the keys for tokens: %w", err)
	}
	if !info.Mode().IsRegular() {
		return ring{}, fmt.Errorf("keys for tokens %s: is no regular file", path)
	}
	if wide := info.Mode().Perm() & 0o077; wide != 0 {
		return ring{}, fmt.Errorf("keys for tokens %s: has mode %04o, others can read it; if they may have, remove it, and another key "+
			"signs at once; else run `chmod 600 %s`", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ring{}, fmt.Errorf("read the keys for tokens %s: %w", path, err)
	}
	r, why := parse(text, manager, mono)
	if why != "" {
		return ring{}, fmt.Errorf("keys for tokens %s: %s; restore it from a backup, or remove it: another key then signs at once, and "+
			"tokens of the last 15 minutes are good no more", path, why)
	}
	return r, nil
}

// parse reads the file's text, or says what is wrong with it.
func parse(text []byte, manager string, mono time.Duration) (r ring, why string) {
	var file keyFile
	if err := json.Unmarshal(text, &file); err != nil {
		return r, "is damaged"
	}
	switch {
	case file.V > schema.Version:
		return r, fmt.Sprintf("is of version %d, this build reads %d", file.V, schema.Version)
	case file.Manager != manager:
		return r, fmt.Sprintf("is of manager %q, not of %q", file.Manager, manager)
	case len(file.Keys) > schema.MaxTokenKeys:
		return r, fmt.Sprintf("has %d keys, %d at most", len(file.Keys), schema.MaxTokenKeys)
	}
	signs := 0
	for _, s := range file.Keys {
		if len(s.Seed) != ed25519.SeedSize || s.State != waiting && s.State != signing && s.State != retired {
			return ring{}, "is damaged"
		}
		if s.State == signing {
			signs++
		}
		private := ed25519.NewKeyFromSeed(s.Seed)
		r.keys = append(r.keys, key{
			id: token.KeyID(private.Public().(ed25519.PublicKey)), private: private, state: s.State, made: s.Made, entered: mono,
			known: s.State != waiting, // what waits does so anew: nobody knows how long ago it was published
		})
	}
	if signs != 1 {
		return ring{}, "is damaged: not one of its keys signs"
	}
	return r, ""
}

// save writes the file.
func (r *ring) save(dir, manager string) error {
	file := keyFile{V: schema.Version, Manager: manager}
	for _, k := range r.keys {
		file.Keys = append(file.Keys, storedKey{Seed: k.private.Seed(), State: k.state, Made: k.made})
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("write the keys for tokens: %w", err)
	}
	path := filepath.Join(dir, FileName(manager))
	if err := wholefile.Write(path, append(text, '\n')); err != nil {
		return fmt.Errorf("keep the keys for tokens %s: %w", path, err)
	}
	return nil
}

// Package wholefile writes small files whole or not at all, readable by their owner alone: beside their place, synced, and then put there.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces path, or makes it. What it says on success outlasts a crash of the host.
func Write(path string, content []byte) error { return put(path, content, os.Rename) }

// Create makes path. Of several at once the first wins, and the others are told [fs.ErrExist].
func Create(path string, content []byte) error { return put(path, content, os.Link) }

func put(path string, content []byte, place func(from, to string) error) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already where it was renamed
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

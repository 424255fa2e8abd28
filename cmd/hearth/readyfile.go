package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readyFile is the file by which programs learn that this process serves, where and as whom: it is there while that is so.
// "" is none.
type readyFile string

// clear removes at the start what a process left that was killed. The file of one that lives is left alone until this one
// serves: who replaces a process may have both tell it at one place.
func (f readyFile) clear() error {
	if f == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(string(f))); err != nil || !info.IsDir() {
		return usagef("--ready-file: %s is no folder that is there; make it, or name a file in another", filepath.Dir(string(f)))
	}
	if info, err := os.Lstat(string(f)); err != nil || !info.Mode().IsRegular() {
		return nil // write says what cannot be
	}
	content, err := os.ReadFile(string(f))
	if err != nil {
		return usagef("--ready-file: %v", err)
	}
	var left struct {
		PID int `json:"pid"`
	}
	// In a container a restarted process has the number of the one before.
	if json.Unmarshal(content, &left) != nil || left.PID <= 0 || left.PID != os.Getpid() && alive(left.PID) {
		return nil
	}
	return f.remove()
}

// write tells v; withdraw, at the beginning of the end, takes it back, unless another process has told its own meanwhile.
func (f readyFile) write(v any) (withdraw func() error, err error) {
	if f == "" {
		return func() error { return nil }, nil
	}
	if err := writeAtomically(string(f), v); err != nil {
		return nil, fmt.Errorf("write the ready file: %w", err)
	}
	mine, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("read the ready file: %w", err)
	}
	return func() error {
		now, err := os.ReadFile(string(f))
		if err != nil || !bytes.Equal(now, mine) {
			return nil // somebody else's by now, or nobody's
		}
		return f.remove()
	}, nil
}

func (f readyFile) remove() error {
	if err := os.Remove(string(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the ready file: %w", err)
	}
	return nil
}

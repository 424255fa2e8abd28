//go:build !linux

package unpack

import (
	"io/fs"
	"os"
	"path/filepath"
)

// syncAll syncs every file and folder below path: there is no call for a whole file system that waits.
func syncAll(path string) error {
	return filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// folderMode is the mode of unpacked folders. Root's functions run as users of their own and find them closed. Without root
// they run as this user, whom no mode stops, and whose `rm -r` of a data folder a closed folder would only break.
func folderMode() fs.FileMode {
	if os.Geteuid() != 0 {
		return 0o755
	}
	return 0o555
}

// errStrange is what a child left that no package can hold: it was taken over, or is not ours.
var errStrange = errors.New("what was unpacked is not what may be")

// settle looks at everything that was unpacked into the folder at a path, which nobody else changes any more, makes it the
// worker's own and read-only, and writes it to the disk. It trusts nobody who filled it. It returns how many bytes the files have.
// The folder itself stays writable for the caller, who moves it.
func settle(at string) (written int64, err error) {
	var folders, files []string
	err = filepath.WalkDir(at, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode()
		switch {
		case mode.IsDir():
			folders = append(folders, path)
		case mode.IsRegular() && (mode == fileMode || mode == executableMode):
			files = append(files, path)
			written += info.Size()
		case mode.Type() == fs.ModeSymlink:
			files = append(files, path)
		default:
			return fmt.Errorf("%w: %s is %s", errStrange, strings.TrimPrefix(path, at), mode)
		}
		if len(files) > MaxFiles || len(folders) > MaxFiles+1 || written > MaxUnpacked {
			return fmt.Errorf("%w: too much of it", errStrange)
		}
		if mode.Type() != fs.ModeSymlink && !single(info) {
			return fmt.Errorf("%w: %s has two names", errStrange, strings.TrimPrefix(path, at))
		}
		return own(path, info)
	})
	if err != nil {
		return 0, err
	}
	if err := inside(at, files); err != nil {
		return 0, err
	}
	each := len(files)+len(folders) <= syncEach
	if each {
		for _, path := range files {
			if err := syncFile(path); err != nil {
				return 0, err
			}
		}
	}
	for _, path := range slices.Backward(folders) { // those inside a folder come behind it
		mode := folderMode()
		if path == at {
			mode = 0o755
		}
		if each {
			if err := syncFolder(path); err != nil {
				return 0, err
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			return 0, err
		}
	}
	if each {
		return written, syncFolder(at)
	}
	return written, syncAll(at)
}

// inside refuses links that lead out.
func inside(at string, files []string) error {
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, path := range files {
		name, err := filepath.Rel(at, path)
		if err != nil {
			return err
		}
		// What lies outside, or goes in circles, is an error of the root; a target that is not there leads nowhere.
		if _, err := root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s: %w", errStrange, name, err)
		}
	}
	return nil
}

func syncFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return syncFolder(path)
}

package unpack

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// Modes of what is unpacked: nobody writes, everybody may read.
const (
	fileMode       = 0o444
	executableMode = 0o555
	makingMode     = 0o700 // of folders while they are filled
)

// extractHere unpacks a zip into the new folder at a path, in this process.
func extractHere(ctx context.Context, zip, at string) error {
	file, err := os.Open(zip)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := os.Mkdir(at, makingMode); err != nil {
		return err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	return extract(ctx, file, info.Size(), root)
}

// extract unpacks a zip into an empty folder: its files have their last modes, its folders are still open.
func extract(ctx context.Context, file io.ReaderAt, size int64, root *os.Root) error {
	entries, err := readEntries(file, size)
	if err != nil {
		return err
	}
	t := &tree{root: root, folders: map[string]bool{}}
	var links []*zip.File
	for _, entry := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case entry.Mode()&fs.ModeSymlink != 0:
			links = append(links, entry)
			continue
		case entry.Mode().IsDir():
			err = t.folder(strings.TrimSuffix(entry.Name, "/"))
		default:
			err = t.file(ctx, entry)
		}
		if err != nil {
			return err
		}
	}
	return t.links(links)
}

// tree is a folder that is being filled, through a root that nothing leaves.
type tree struct {
	root    *os.Root
	folders map[string]bool // made so far
}

// folder makes a folder and those above it.
func (t *tree) folder(name string) error {
	if name == "." || t.folders[name] {
		return nil
	}
	if err := t.folder(path.Dir(name)); err != nil {
		return err
	}
	// Not MkdirAll: a folder that is there and that we did not make is another name that this file system takes for the
	// same (case, Unicode form), or a file.
	if err := t.root.Mkdir(name, makingMode); err != nil {
		return clash(name, err)
	}
	t.folders[name] = true
	return nil
}

// file unpacks one file; archive/zip checks its length and CRC-32.
func (t *tree) file(ctx context.Context, entry *zip.File) error {
	if err := t.folder(path.Dir(entry.Name)); err != nil {
		return err
	}
	packed, err := entry.Open()
	if err != nil {
		return refuse("entry %q: %w", entry.Name, err)
	}
	defer packed.Close()
	out, err := t.root.OpenFile(entry.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return clash(entry.Name, err)
	}
	defer out.Close()
	source := &source{reader: newReader(ctx, packed)}
	_, err = io.Copy(out, source)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case source.err != nil:
		return refuse("entry %q: %w", entry.Name, source.err)
	case err != nil:
		return fmt.Errorf("write %q: %w", entry.Name, err)
	}
	mode := fs.FileMode(fileMode)
	if entry.Mode()&0o111 != 0 {
		mode = executableMode
	}
	if err := out.Chmod(mode); err != nil {
		return fmt.Errorf("write %q: %w", entry.Name, err)
	}
	return nil
}

// links makes the links when everything else is there, so that nothing is ever written through one, and then follows each.
func (t *tree) links(entries []*zip.File) error {
	for _, entry := range entries {
		target, err := readTarget(entry)
		if err != nil {
			return err
		}
		if err := t.folder(path.Dir(entry.Name)); err != nil {
			return err
		}
		if err := t.root.Symlink(target, entry.Name); err != nil {
			return clash(entry.Name, err)
		}
	}
	for _, entry := range entries {
		// What lies outside, or goes in circles, is an error of the root; a target that is not there leads nowhere.
		if _, err := t.root.Stat(entry.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refuse("link %q: %w", entry.Name, err)
		}
	}
	return nil
}

// readTarget reads where a link leads and refuses what leaves the package already by its text.
func readTarget(entry *zip.File) (string, error) {
	packed, err := entry.Open()
	if err != nil {
		return "", refuse("link %q: %w", entry.Name, err)
	}
	defer packed.Close()
	b, err := io.ReadAll(io.LimitReader(packed, maxTarget+1))
	if err != nil || len(b) > maxTarget {
		return "", refuse("link %q: its target cannot be read: %v", entry.Name, err)
	}
	target := string(b)
	inside := path.Join(path.Dir(entry.Name), target)
	switch {
	case target == "" || strings.ContainsAny(target, "\x00\\"):
		return "", refuse("link %q leads to %q, which is no path", entry.Name, target)
	case strings.HasPrefix(target, "/"):
		return "", refuse("link %q leads to %q, which is not relative", entry.Name, target)
	case inside == ".." || strings.HasPrefix(inside, "../"):
		return "", refuse("link %q leads to %q, outside the package", entry.Name, target)
	}
	return target, nil
}

// source remembers its own error: io.Copy does not say whose it was.
type source struct {
	reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// clash is the error of making something at a name that is taken, or any other one.
func clash(name string, err error) error {
	if errors.Is(err, fs.ErrExist) || isNotFolder(err) {
		return refuse("the name %q stands for two entries, or is a file and a folder", name)
	}
	return &schema.Error{Code: schema.CodeInternal, Message: fmt.Sprintf("cannot make %q", name), Cause: err}
}

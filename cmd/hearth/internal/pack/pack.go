// Package pack makes the zip that is deployed from what a person points at: a folder, a zip, or an executable.
//
// The same input gives the same bytes, so that an unchanged deploy is the same SHA-256 and changes nothing: entries in
// the order of a sorted walk, one fixed time, mode bits reduced to "may be executed or not", nothing of users and
// groups. What could lead outside the folder (absolute links, links that leave it, sockets, devices, pipes) is refused by
// name before anything is sent; `.git` is left out. The worker checks all of it again (SECURITY 3): this package spares
// people a round trip, it guards nothing.
package pack

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hearth-run/hearth/schema"
)

// Limits of a package, those of the worker that unpacks it (SECURITY 3).
const (
	MaxFiles = 50_000
	MaxBytes = 250 << 20 // unpacked
	maxPath  = 1024
	maxDepth = 64
)

// Package is one zip, ready to be stored.
type Package struct {
	Zip    []byte
	SHA256 string // of Zip, hex in lower case: its name in the object store
	Files  int    // regular files and links
	Bytes  int64  // unpacked
}

// epoch is the time of every entry: the first that a zip can write.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Read packs what lies at name: a folder as its contents, a zip as it is, an executable as `bootstrap`. Bad input is a
// [schema.CodeInvalidParameter] that names the entry.
func Read(name string) (*Package, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, refuse(name, "a folder, a zip or an executable that can be read", err)
	}
	switch {
	case info.IsDir():
		return readFolder(name)
	case info.Mode().IsRegular():
		return readFile(name, info)
	}
	return nil, refuse(name, "a folder, a zip or an executable, not a "+kind(info.Mode()), nil)
}

func readFolder(name string) (*Package, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, refuse(name, "a folder that can be read", err)
	}
	defer root.Close()
	p, err := FS(root.FS())
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	return p, nil
}

func readFile(name string, info fs.FileInfo) (*Package, error) {
	if info.Size() > MaxBytes {
		return nil, refuse(name, fmt.Sprintf("at most %d MB", MaxBytes>>20), nil)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, refuse(name, "a file that can be read", err)
	}
	if bytes.HasPrefix(content, []byte("PK\x03\x04")) || bytes.HasPrefix(content, []byte("PK\x05\x06")) {
		return asItIs(name, content)
	}
	if info.Mode()&0o111 == 0 {
		return nil, refuse(name, "a folder, a zip or an executable (`chmod +x` makes a file one)", nil)
	}
	w := newWriter()
	if err := w.file("bootstrap", 0o755, bytes.NewReader(content)); err != nil {
		return nil, err
	}
	return w.finish()
}

// asItIs takes a zip that somebody else made.
func asItIs(name string, content []byte) (*Package, error) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, refuse(name, "a zip that is whole", err)
	}
	p := &Package{Zip: content}
	for _, f := range z.File {
		if !f.FileInfo().IsDir() {
			p.Files++
			p.Bytes += int64(f.UncompressedSize64)
		}
		if p.Files > MaxFiles || p.Bytes > MaxBytes || p.Bytes < 0 {
			return nil, refuse(name, fmt.Sprintf("at most %d files of %d MB in all", MaxFiles, MaxBytes>>20), nil)
		}
	}
	if p.Files == 0 {
		return nil, refuse(name, "a zip with a file in it", nil)
	}
	return p.sum(), nil
}

// FS packs a file system's contents; links need one that can read them ([fs.ReadLinkFS]) and that does not follow them
// outside, such as that of an [os.Root].
func FS(fsys fs.FS) (*Package, error) {
	w := newWriter()
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return refuse(name, "an entry that can be read", err)
		case path.Base(name) == ".git":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // the file that a submodule or a second work tree has
		case name == ".":
			return nil
		}
		if err := checkName(name); err != nil {
			return err
		}
		switch mode := entry.Type(); {
		case mode.IsDir():
			return w.folder(name)
		case mode&fs.ModeSymlink != 0:
			return w.link(fsys, name)
		case mode.IsRegular():
			return w.open(fsys, name)
		default:
			return refuse(name, "a file, a folder or a link, not a "+kind(mode), nil)
		}
	})
	if err != nil {
		return nil, err
	}
	return w.finish()
}

func checkName(name string) error {
	switch {
	case len(name) > maxPath:
		return refuse(name, fmt.Sprintf("a path of at most %d bytes", maxPath), nil)
	case strings.Count(name, "/") >= maxDepth:
		return refuse(name, fmt.Sprintf("at most %d folders deep", maxDepth), nil)
	case !utf8.ValidString(name) || strings.ContainsAny(name, "\\\x00\r\n"):
		return refuse(name, "a name in UTF-8, without backslash and line end", nil)
	}
	return nil
}

// writer fills a zip and counts.
type writer struct {
	buf bytes.Buffer
	zip *zip.Writer
	p   Package
}

func newWriter() *writer {
	w := &writer{}
	w.zip = zip.NewWriter(&w.buf)
	return w
}

func (w *writer) header(name string, mode fs.FileMode, method uint16) (io.Writer, error) {
	h := &zip.FileHeader{Name: name, Method: method, Modified: epoch}
	h.SetMode(mode)
	out, err := w.zip.CreateHeader(h)
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	return out, nil
}

// folder keeps empty folders, too.
func (w *writer) folder(name string) error {
	_, err := w.header(name+"/", fs.ModeDir|0o755, zip.Store)
	return err
}

func (w *writer) open(fsys fs.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return refuse(name, "a file that can be read", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return refuse(name, "a file that stays one while it is read", err)
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return w.file(name, mode, f)
}

func (w *writer) file(name string, mode fs.FileMode, content io.Reader) error {
	out, err := w.header(name, mode, zip.Deflate)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(content, MaxBytes-w.p.Bytes+1))
	if err != nil {
		return refuse(name, "a file that can be read", err)
	}
	return w.count(name, n)
}

// link keeps a link that leads, by itself and over other links, to something inside.
func (w *writer) link(fsys fs.FS, name string) error {
	const allowed = "a relative link to something inside the folder"
	target, err := fs.ReadLink(fsys, name)
	if err != nil {
		return refuse(name, allowed, err)
	}
	// The lexical check keeps links out that would leave the folder and come back; Stat follows what is really there.
	inside := path.Join(path.Dir(name), target)
	if path.IsAbs(target) || inside == ".." || strings.HasPrefix(inside, "../") || len(target) > maxPath {
		return refuse(name+" -> "+target, allowed, nil)
	}
	if _, err := fs.Stat(fsys, name); err != nil {
		return refuse(name+" -> "+target, allowed, err)
	}
	out, err := w.header(name, fs.ModeSymlink|0o777, zip.Store)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, target); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return w.count(name, int64(len(target)))
}

func (w *writer) count(name string, bytes int64) error {
	w.p.Files++
	w.p.Bytes += bytes
	if w.p.Files > MaxFiles || w.p.Bytes > MaxBytes {
		return refuse(name, fmt.Sprintf("at most %d files of %d MB in all", MaxFiles, MaxBytes>>20), nil)
	}
	return nil
}

func (w *writer) finish() (*Package, error) {
	if w.p.Files == 0 {
		return nil, refuse("", "a folder with a file in it", nil)
	}
	if err := w.zip.Close(); err != nil {
		return nil, fmt.Errorf("finish the zip: %w", err)
	}
	p := w.p
	p.Zip = w.buf.Bytes()
	return p.sum(), nil
}

func (p *Package) sum() *Package {
	sum := sha256.Sum256(p.Zip)
	p.SHA256 = hex.EncodeToString(sum[:])
	return p
}

// refuse is the error for bad input: the field, what it was, what is allowed, and why it could not be read.
func refuse(got, allowed string, cause error) error {
	if cause != nil {
		var pe *fs.PathError // names the file, which the field does already
		if errors.As(cause, &pe) {
			cause = pe.Err
		}
		allowed = fmt.Sprintf("%s: %v", allowed, cause)
	}
	err := schema.Invalid(schema.FieldError{Field: "PATH", Got: got, Allowed: allowed})
	var e *schema.Error
	if errors.As(err, &e) {
		e.Cause = cause
	}
	return err
}

func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

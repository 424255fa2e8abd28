package pack_test

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/schema"
)

// folder makes a folder: a value of "-> x" is a link, a name ending in / an empty folder, one that starts with ! executable.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := fs.FileMode(0o600)
		if rest, ok := strings.CutPrefix(name, "!"); ok {
			name, mode = rest, 0o700
		}
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, at)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(at, 0o755)
		} else {
			err = os.WriteFile(at, []byte(content), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents lists a zip's entries as mode, name and content.
func contents(t *testing.T, p *pack.Package) []string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(p.Zip), int64(len(p.Zip)))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Mode().String()+" "+f.Name+" "+string(b))
	}
	return out
}

func TestFolder(t *testing.T) {
	t.Parallel()
	p, err := pack.Read(folder(t, map[string]string{
		"index.js": "a", "!bin/run": "b", "lib/x/y": "c", "lib/z": "-> x/y", "empty/": "", ".git/HEAD": "no", "sub/.git": "gitdir: no",
		".env": "kept", "up": "-> lib/../index.js",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"-rw-r--r-- .env kept", "drwxr-xr-x bin/ ", "-rwxr-xr-x bin/run b", "drwxr-xr-x empty/ ", "-rw-r--r-- index.js a",
		"drwxr-xr-x lib/ ", "drwxr-xr-x lib/x/ ", "-rw-r--r-- lib/x/y c", "Lrwxrwxrwx lib/z x/y", "drwxr-xr-x sub/ ",
		"Lrwxrwxrwx up lib/../index.js",
	}
	if got := contents(t, p); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p.Files != 6 {
		t.Errorf("%d files, want 6", p.Files)
	}
}

// Two folders with the same contents are the same package, whenever and in whatever order they were written.
func TestUnchangedIsTheSameSum(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a": "1", "b/c": "2", "b/d": "-> c", "!e": "3"}
	first, err := pack.Read(folder(t, files))
	if err != nil {
		t.Fatal(err)
	}
	again := folder(t, files)
	long := time.Date(2001, 2, 3, 4, 5, 6, 0, time.Local)
	for _, name := range []string{"a", "b/c", "e", "b"} {
		if err := os.Chtimes(filepath.Join(again, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(again, "a"), 0o444); err != nil {
		t.Fatal(err)
	}
	second, err := pack.Read(again)
	if err != nil {
		t.Fatal(err)
	}
	if first.SHA256 != second.SHA256 || !bytes.Equal(first.Zip, second.Zip) {
		t.Errorf("the same contents are %s and %s", first.SHA256, second.SHA256)
	}
	for change, alter := range map[string]func(dir string) error{
		"content":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("2"), 0o600) },
		"mode":     func(dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o700) },
		"new file": func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), nil, 0o600) },
		"name":     func(dir string) error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "g")) },
	} {
		dir := folder(t, files)
		if err := alter(dir); err != nil {
			t.Fatal(err)
		}
		changed, err := pack.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if changed.SHA256 == first.SHA256 {
			t.Errorf("another %s is the same package", change)
		}
	}
}

func TestExecutableBecomesBootstrap(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"!tool": "#!/bin/sh\n"})
	p, err := pack.Read(filepath.Join(dir, "tool"))
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, p); len(got) != 1 || got[0] != "-rwxr-xr-x bootstrap #!/bin/sh\n" {
		t.Errorf("%q", got)
	}
}

func TestZipIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	made, err := pack.FS(fstest.MapFS{"x": {Data: []byte("y")}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f.zip")
	if err := os.WriteFile(file, made.Zip, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := pack.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.SHA256 != made.SHA256 || p.Files != 1 || p.Bytes != 1 {
		t.Errorf("%+v, want %+v", p, made)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	special := folder(t, map[string]string{"a": "1"})
	l, err := net.Listen("unix", filepath.Join(special, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pipe := folder(t, map[string]string{"a": "1"})
	if err := syscall.Mkfifo(filepath.Join(pipe, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := folder(t, map[string]string{"plain": "text", "cut.zip": "PK\x03\x04 not a zip", "none.zip": "PK\x05\x06" + strings.Repeat("\x00", 18)})
	cases := map[string]struct{ path, says string }{
		"nothing there":       {filepath.Join(plain, "nope"), "no such file"},
		"no executable":       {filepath.Join(plain, "plain"), "chmod +x"},
		"broken zip":          {filepath.Join(plain, "cut.zip"), "whole"},
		"empty zip":           {filepath.Join(plain, "none.zip"), "file in it"},
		"empty folder":        {t.TempDir(), "file in it"},
		"only .git":           {folder(t, map[string]string{".git/HEAD": "x"}), "file in it"},
		"socket":              {special, "not a socket"},
		"pipe":                {pipe, "not a pipe"},
		"device":              {os.DevNull, "not a device"},
		"link out":            {folder(t, map[string]string{"a": "-> ../x"}), `"a -> ../x"`},
		"absolute link":       {folder(t, map[string]string{"a": "-> /etc/passwd"}), "/etc/passwd"},
		"link out and back":   {folder(t, map[string]string{"d/f": "", "a": "-> ../../d/f"}), "inside"},
		"link over a link":    {folder(t, map[string]string{"d/e/f": "", "l": "-> d/e", "a": "-> l/../../../x"}), "inside"},
		"dangling":            {folder(t, map[string]string{"a": "-> b"}), "no such file"},
		"loop":                {folder(t, map[string]string{"a": "-> b", "b": "-> a"}), "inside"},
		"backslash in a name": {folder(t, map[string]string{"a\\b": ""}), "backslash"},
		"too deep":            {folder(t, map[string]string{strings.Repeat("d/", 64) + "f": ""}), "deep"},
	}
	if runtime.GOOS == "linux" { // other file systems take no such name
		cases["no UTF-8"] = struct{ path, says string }{folder(t, map[string]string{"a\xff": ""}), "UTF-8"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := pack.Read(c.path)
			if err == nil {
				t.Fatalf("packed %v", contents(t, p))
			}
			if schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: want an invalid parameter that says %q", err, c.says)
			}
		})
	}
}

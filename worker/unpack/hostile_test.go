package unpack_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/unpack"
)

// packRaw makes a zip whose entries say what the headers say, true or not.
func packRaw(t testing.TB, data string, headers ...zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, h := range headers {
		part, err := w.CreateRaw(&h)
		if err == nil {
			_, err = io.WriteString(part, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// overlapping is a zip of two entries, of which the second one's header is the first one's data.
func overlapping(t testing.TB) []byte {
	t.Helper()
	b := pack(t, entry{"a", 0o644, strings.Repeat("a", 100)}, entry{"b", 0o644, strings.Repeat("b", 100)})
	// The directory's offset of b becomes that of a: both are the same bytes.
	second := bytes.LastIndex(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b[second+42:], 0)
	return b
}

// bad is a package that must be refused, and a part of what is said about it.
type bad struct {
	zip  []byte
	says string
}

// hostile are small packages that must be refused.
func hostile(t testing.TB) map[string]bad {
	t.Helper()
	good := pack(t, entry{"bootstrap", 0o755, strings.Repeat("content ", 100)})
	corrupt := bytes.Clone(good)
	corrupt[len("bootstrap")+40] ^= 0xff
	one := func(name string, mode fs.FileMode, body, says string) bad {
		return bad{pack(t, entry{name, mode, body}), says}
	}
	return map[string]bad{
		"NoZip":            {[]byte("#!/bin/sh\n"), "it is not a zip"},
		"Empty":            {nil, "it is not a zip"},
		"CutOff":           {good[:len(good)-30], "damaged or cut off"},
		"Corrupt":          {corrupt, `entry "bootstrap": `},
		"Large":            {packRaw(t, "x", zip.FileHeader{Name: "x", Method: zip.Deflate, CompressedSize64: 1, UncompressedSize64: 251 << 20}), "allowed"},
		"LargeTogether":    {packRaw(t, "x", raw("x", 200<<20), raw("y", 200<<20)), "unpacks to more than"},
		"SumWraps":         {packRaw(t, "x", raw("x", 1<<63), raw("y", 1<<63)), "allowed"},
		"Overlapping":      {overlapping(t), "overlap"},
		"Absolute":         one("/etc/cron.d/x", 0o644, "x", "not relative"),
		"Outside":          one("../x", 0o644, "x", "not a clean path"),
		"OutsideBelow":     one("a/../../x", 0o644, "x", "not a clean path"),
		"Unclean":          one("a/./b", 0o644, "x", "not a clean path"),
		"DoubleSlash":      one("a//b", 0o644, "x", "not a clean path"),
		"FolderOutside":    one("../x/", 0o755|fs.ModeDir, "", "not a clean path"),
		"Dot":              one("./", 0o755|fs.ModeDir, "", "not a clean path"),
		"NoName":           one("", 0o644, "x", "not relative"),
		"Backslash":        one(`a\..\..\b`, 0o644, "x", "backslash"),
		"NUL":              one("a\x00b", 0o644, "x", "NUL"),
		"LongName":         one(strings.Repeat("a/", 520)+"b", 0o644, "x", "1041 bytes; 1024 are allowed"),
		"LongPart":         one(strings.Repeat("a", 256), 0o644, "x", "256 bytes; 255 are allowed"),
		"Deep":             one(strings.Repeat("a/", 64)+"b", 0o644, "x", "65 folders deep; 64 are allowed"),
		"Twice":            {pack(t, entry{"a", 0o644, "1"}, entry{"a", 0o644, "2"}), `two entries are named "a"`},
		"FolderTwice":      {pack(t, entry{"a/", 0o755 | fs.ModeDir, ""}, entry{"a/", 0o755 | fs.ModeDir, ""}), `two entries are named "a"`},
		"FileAndFolder":    {pack(t, entry{"a", 0o644, "1"}, entry{"a/b", 0o644, "2"}), `"a" stands for two entries`},
		"FolderAndFile":    {pack(t, entry{"a/b", 0o644, "1"}, entry{"a", 0o644, "2"}), `"a" stands for two entries`},
		"FileThroughLink":  {pack(t, entry{"a", 0o777 | fs.ModeSymlink, "b"}, entry{"a/c", 0o644, "x"}), `"a" stands for two entries`},
		"Setuid":           one("su", 0o755|fs.ModeSetuid, "x", "run as another user"),
		"Setgid":           one("sg", 0o755|fs.ModeSetgid, "x", "run as another user"),
		"Device":           one("sda", 0o660|fs.ModeDevice, "", "device, pipe or socket"),
		"CharacterDevice":  one("null", 0o666|fs.ModeDevice|fs.ModeCharDevice, "", "device, pipe or socket"),
		"Pipe":             one("pipe", 0o644|fs.ModeNamedPipe, "", "device, pipe or socket"),
		"Socket":           one("socket", 0o644|fs.ModeSocket, "", "device, pipe or socket"),
		"LinkAbsolute":     one("l", 0o777|fs.ModeSymlink, "/etc/passwd", "not relative"),
		"LinkOutside":      one("l", 0o777|fs.ModeSymlink, "../outside", "outside the package"),
		"LinkOutsideLater": one("a/l", 0o777|fs.ModeSymlink, "x/../../../y", "outside the package"),
		"LinkNowhere":      one("l", 0o777|fs.ModeSymlink, "", "no path"),
		"LinkLong":         one("l", 0o777|fs.ModeSymlink, strings.Repeat("a", 2000), "2000 bytes; 1024 are allowed"),
		"LinkCircle":       {pack(t, entry{"a", 0o777 | fs.ModeSymlink, "b"}, entry{"b", 0o777 | fs.ModeSymlink, "a"}), `link "`},
		// a/b leads to x/y, so a/b/../.. is not the package: what each link says alone lies inside.
		"LinkThroughLink": {pack(t, entry{"d", 0o777 | fs.ModeSymlink, "."}, entry{"x", 0o777 | fs.ModeSymlink, "d/d/.."}, entry{"y/z", 0o777 | fs.ModeSymlink, "../x/../../q"}), `link "`},
		"Encrypted":       {packRaw(t, "x", zip.FileHeader{Name: "x", Flags: 1, Method: zip.Store, CompressedSize64: 1, UncompressedSize64: 1}), "encrypted"},
		"Method":          {packRaw(t, "x", zip.FileHeader{Name: "x", Method: 14, CompressedSize64: 1, UncompressedSize64: 1}), "method 14"},
		"TwoSizes":        {packRaw(t, "x", zip.FileHeader{Name: "x", Method: zip.Store, CompressedSize64: 1, UncompressedSize64: 2}), "two sizes"},
		"LyingSize":       {lyingSize(t), `entry "x": `},
		"FolderWithData":  {bytes.ReplaceAll(packRaw(t, "x", zip.FileHeader{Name: "x!", Method: zip.Store, CompressedSize64: 1, UncompressedSize64: 1}), []byte("x!"), []byte("x/")), "has content"},
	}
}

// hostileLarge are large ones.
func hostileLarge(t testing.TB) map[string]bad {
	t.Helper()
	// One more than allowed, and as many as are allowed with a bad one at the end: that is what is wrong with them.
	many := make([]entry, unpack.MaxFiles+1)
	for i := range many {
		many[i].name = fmt.Sprint(i)
	}
	most := append(slices.Clone(many[:unpack.MaxFiles-1]), entry{"../x", 0o644, ""})
	return map[string]bad{
		"TooMany":        {pack(t, many...), "50001 entries; 50000 are allowed"},
		"Most":           {pack(t, most...), "not a clean path"},
		"LargeDirectory": {pack(t, longNames(14_000)...), "its directory has more than"},
		"Bomb":           {pack(t, entry{"zeros", 0o644, strings.Repeat("\x00", 20<<20)}), "more than 100 times"},
	}
}

func raw(name string, size uint64) zip.FileHeader {
	return zip.FileHeader{Name: name, Method: zip.Deflate, CompressedSize64: 1, UncompressedSize64: size}
}

// longNames are entries whose directory is large though they are not too many.
func longNames(n int) []entry {
	entries := make([]entry, n)
	for i := range entries {
		entries[i].name = fmt.Sprintf("%s/%s/%s/%s/%d", strings.Repeat("a", 250), strings.Repeat("b", 250), strings.Repeat("c", 250), strings.Repeat("d", 200), i)
	}
	return entries
}

// lyingSize is a zip with an entry that unpacks to more than it says.
func lyingSize(t testing.TB) []byte {
	t.Helper()
	b := pack(t, entry{"x", 0o644, strings.Repeat("x", 5000)})
	at := bytes.LastIndex(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b[at+24:], 10)
	return b
}

// TestHostile: each is refused, says why, leaves nothing behind, and is refused again without being fetched.
func TestHostile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "code")
	c := newCache(t, unpack.Config{Dir: dir})
	packages := hostile(t)
	maps.Copy(packages, hostileLarge(t))
	for name, bad := range packages {
		t.Run(name, func(t *testing.T) {
			var opened atomic.Int64
			for range 2 {
				folder, err := c.Get(t.Context(), sum(bad.zip), opener(bad.zip, &opened))
				if schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), bad.says) {
					t.Errorf("%s: %v; want %q", folder, err, bad.says)
				}
			}
			if opened.Load() != 1 {
				t.Errorf("fetched %d times", opened.Load())
			}
			if found := names(t, dir); len(found) != 0 {
				t.Errorf("left behind: %q", found)
			}
		})
	}
	get(t, c, pack(t, entry{"bootstrap", 0o755, "still works"}))
}

// TestLargeZip: a zip over its limit is not even written whole.
func TestLargeZip(t *testing.T) {
	t.Parallel()
	c := newCache(t, unpack.Config{MaxZip: 100})
	b := pack(t, entry{"bootstrap", 0o755, strings.Repeat("x", 20)})
	if _, err := c.Get(t.Context(), sum(b), opener(b, nil)); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), "more than 100 bytes") {
		t.Errorf("%v", err)
	}
}

// FuzzGet: whatever the bytes, nothing is written outside the folder, nothing stays that is not a package, and what is
// unpacked has only the modes that are allowed.
func FuzzGet(f *testing.F) {
	for _, bad := range hostile(f) {
		f.Add(bad.zip)
	}
	f.Add(pack(f, entry{"bootstrap", 0o755, "x"}, entry{"l", 0o777 | fs.ModeSymlink, "bootstrap"}))
	f.Add(pack(f, entry{"caf\xe9/bootstrap", 0o755, "x"}, entry{"caf\xe9/l\xff", 0o777 | fs.ModeSymlink, "bootstrap"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		parent := t.TempDir()
		c := newCache(t, unpack.Config{Dir: filepath.Join(parent, "code")})
		c.Alone() // the fuzzer sees into this process only
		folder, err := c.Get(t.Context(), sum(b), opener(b, nil))
		if found := names(t, parent); len(found) != 1 {
			t.Fatalf("written outside: %q", found)
		}
		if err != nil {
			if code := schema.CodeOf(err); code != schema.CodeInvalidParameter && code != schema.CodeInternal {
				t.Errorf("%v", err)
			}
			if found := names(t, filepath.Join(parent, "code")); len(found) != 0 {
				t.Errorf("left behind: %q", found)
			}
			return
		}
		root, err := os.OpenRoot(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		// Not over root.FS: it knows no name that is not UTF-8, and zips may have such.
		err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if path, err = filepath.Rel(folder, path); err != nil {
				return err
			}
			switch mode := info.Mode(); {
			case mode == 0o444, mode == 0o555, mode == closedFolder():
			case mode.Type() == fs.ModeSymlink:
				if _, err := root.Stat(path); err != nil && !os.IsNotExist(err) {
					t.Errorf("%s: %v", path, err)
				}
			default:
				t.Errorf("%s has mode %v", path, mode)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

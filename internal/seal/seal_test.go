package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/seal"
	"github.com/hearth-run/hearth/schema"
)

const (
	hush  = "hush-8f14e45fceea167a"
	place = "f1.1.aa"
)

// load gives the key of a folder, as a manager that the fabric made the first has it.
func load(t *testing.T, dir string) *seal.Key {
	t.Helper()
	key, err := seal.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = seal.Draft(dir); err == nil {
			err = key.Keep(dir)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sealed(t *testing.T, key *seal.Key) schema.SecretRecord {
	t.Helper()
	record, err := seal.Seal(key.Public(), place, schema.Variables{"TOKEN": hush, "EMPTY": ""})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := sealed(t, load(t, dir))
	stored, err := schema.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(stored, []byte("TOKEN")) || bytes.Contains(stored, []byte(hush)) {
		t.Error("the record shows what is in it")
	}
	var read schema.SecretRecord
	if err := schema.Unmarshal(stored, &read); err != nil {
		t.Fatal(err)
	}
	read.At = place
	vars, err := load(t, dir).Open(read) // as the same manager after a restart
	if err != nil || len(vars) != 2 || vars["TOKEN"] != hush || vars["EMPTY"] != "" {
		t.Errorf("opened %d variables, %v", len(vars), err)
	}
}

func TestTwoSealsDiffer(t *testing.T) {
	t.Parallel()
	key := load(t, t.TempDir())
	if bytes.Equal(sealed(t, key).Sealed, sealed(t, key).Sealed) {
		t.Error("the same variables are sealed to the same bytes")
	}
}

func TestWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	key, other := load(t, t.TempDir()), load(t, t.TempDir())
	for name, c := range map[string]struct {
		change func(*schema.SecretRecord)
		err    error
	}{
		"moved to another function": {func(r *schema.SecretRecord) { r.At = "f2.1.aa" }, seal.ErrMoved},
		"read by nobody's key":      {func(r *schema.SecretRecord) { r.At = "" }, seal.ErrMoved},
		"of another key":            {func(r *schema.SecretRecord) { *r = sealed(t, other) }, seal.ErrOtherKey},
		"under a false key id":      {func(r *schema.SecretRecord) { *r = sealed(t, other); r.KeyID = key.ID() }, seal.ErrDamaged},
		"one bit changed":           {func(r *schema.SecretRecord) { r.Sealed[len(r.Sealed)-1] ^= 1 }, seal.ErrDamaged},
		"cut off":                   {func(r *schema.SecretRecord) { r.Sealed = r.Sealed[:20] }, seal.ErrDamaged},
		"empty":                     {func(r *schema.SecretRecord) { r.Sealed = nil }, seal.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			record := sealed(t, key)
			c.change(&record)
			vars, err := key.Open(record)
			if !errors.Is(err, c.err) || vars != nil {
				t.Errorf("%d variables, %v; want %v", len(vars), err, c.err)
			}
			if strings.Contains(fmt.Sprint(err), hush) {
				t.Error("the error shows a value")
			}
		})
	}
}

func TestSealRefusesWhatNobodyOpens(t *testing.T) {
	t.Parallel()
	for _, public := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if _, err := seal.Seal(public, place, schema.Variables{"TOKEN": hush}); err == nil || strings.Contains(err.Error(), hush) {
			t.Errorf("a public key of %d bytes: %v", len(public), err)
		}
	}
	if _, err := seal.Seal(make([]byte, 32), "", nil); err == nil {
		t.Error("sealed for no place")
	}
}

func TestKeyHidesItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := load(t, dir)
	file, err := os.ReadFile(filepath.Join(dir, seal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Fields(string(file))[1]
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, key); s != "***" || strings.Contains(s, secret) {
			t.Errorf("%s prints %q", format, s)
		}
	}
	key.Public()[0] ^= 0xff
	if _, err := key.Open(sealed(t, key)); err != nil {
		t.Errorf("whoever has Public changed the key: %v", err)
	}
}

// TestDraftAtOnce: of many processes that find no key all propose the same.
func TestDraftAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := make([]string, 16)
	var all conc.WaitGroup
	for i := range ids {
		all.Go(func() {
			if key, err := seal.Draft(dir); err != nil {
				t.Error(err)
			} else {
				ids[i] = key.ID()
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("keys %v", ids)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left in the folder: %v, %v", files, err)
	}
	if info, err := os.Stat(filepath.Join(dir, seal.DraftName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(path string) error
		says  string
	}{
		"readable by others": {func(p string) error { return os.Chmod(p, 0o644) }, "chmod 600"},
		"readable by group":  {func(p string) error { return os.Chmod(p, 0o640) }, "chmod 600"},
		"cut off":            {func(p string) error { return os.Truncate(p, 30) }, "damaged"},
		"empty":              {func(p string) error { return os.Truncate(p, 0) }, "damaged"},
		"something else":     {func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) }, "damaged"},
		"a folder":           {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			load(t, dir)
			if err := c.spoil(filepath.Join(dir, seal.FileName)); err != nil {
				t.Fatal(err)
			}
			if _, err := seal.Load(dir); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	if _, err := seal.Draft(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("made a key in a folder that is not there")
	}
}

// A folder keeps one key for ever, and none that was only proposed beside it.
func TestKeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := seal.Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an empty folder: %v", err)
	}
	proposed, err := seal.Draft(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := seal.Draft(dir); err != nil || again.ID() != proposed.ID() {
		t.Errorf("the folder proposes %v, %v after %v", again.ID(), err, proposed.ID())
	}
	taken := load(t, t.TempDir())
	for range 2 {
		if err := taken.Keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	if key := load(t, dir); key.ID() != taken.ID() {
		t.Errorf("the folder has %s, not %s", key.ID(), taken.ID())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left in the folder: %v, %v", files, err)
	}
	if err := proposed.Keep(dir); err == nil || load(t, dir).ID() != taken.ID() {
		t.Errorf("another key took its place: %v", err)
	}
}

// What a manager hands over opens for who asked, as the key that was asked for, and for nobody else.
func TestHandOver(t *testing.T) {
	t.Parallel()
	key := load(t, t.TempDir())
	wish, err := seal.NewWish()
	if err != nil {
		t.Fatal(err)
	}
	box, err := key.HandOver(wish.Public())
	if err != nil {
		t.Fatal(err)
	}
	got, err := wish.Open(box, key.ID())
	if err != nil {
		t.Fatal(err)
	}
	if vars, err := got.Open(sealed(t, key)); err != nil || vars["TOKEN"] != hush {
		t.Errorf("the key that was handed over opens %d variables, %v", len(vars), err)
	}
	other, err := seal.NewWish()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(box, key.ID()); err == nil {
		t.Error("it opens for another who asked")
	}
	if _, err := wish.Open(box, load(t, t.TempDir()).ID()); err == nil {
		t.Error("another key was taken for it")
	}
	for at := range box {
		spoilt := bytes.Clone(box)
		spoilt[at] ^= 1
		if _, err := wish.Open(spoilt, key.ID()); err == nil {
			t.Fatalf("byte %d changed, and it opens", at)
		}
	}
	for _, public := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if _, err := key.HandOver(public); err == nil {
			t.Errorf("handed over to a public key of %d bytes", len(public))
		}
	}
	// A foreign one handed over on purpose is told by its id.
	foreign, err := load(t, t.TempDir()).HandOver(wish.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wish.Open(foreign, key.ID()); err == nil {
		t.Error("a foreign key was taken")
	}
}

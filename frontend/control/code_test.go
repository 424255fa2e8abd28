package control_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func TestCodeIsCheckedBeforeItIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cut := zipOf(t, strings.Repeat("x", 4096))
	cut = cut[:len(cut)-30]
	var empty, many, bomb bytes.Buffer
	if err := zip.NewWriter(&empty).Close(); err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(&many)
	for i := range control.MaxFiles + 1 {
		if _, err := z.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	z = zip.NewWriter(&bomb)
	for i := range 2 { // 300 MB in all, each less than the limit
		if _, err := z.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Deflate, UncompressedSize64: 150 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	headers := bytes.Repeat([]byte("PK\x01\x02"), 4*control.MaxFiles+1)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"no zip":         {[]byte("#!/bin/sh\n"), "Could not unzip uploaded file. Please check your file, then try to upload again."},
		"cut off":        {cut, "Could not unzip uploaded file"},
		"empty":          {empty.Bytes(), "non-empty zip"},
		"many files":     {many.Bytes(), "at most 50000 files"},
		"many headers":   {headers, "at most 50000 files"},
		"grows too much": {bomb.Bytes(), "Unzipped size must be smaller than 262144000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			b.putObject(t, sha(c.data), c.data)
			body := b.refused(t, schema.CodeInvalidParameter, "CreateFunction", function("f", sha(c.data), nil))
			if !strings.Contains(body.Message, c.says) {
				t.Errorf("%q, want %q", body.Message, c.says)
			}
		})
	}
	t.Run("bytes of another hash", func(t *testing.T) {
		wanted := sha(zipOf(t, "what was reviewed"))
		b.putObject(t, wanted, zipOf(t, "what was put there"))
		body := b.refused(t, schema.CodeInvalidParameter, "CreateFunction", function("f", wanted, nil))
		if !strings.Contains(body.Message, "another SHA-256") {
			t.Errorf("%q", body.Message)
		}
	})
	b.refused(t, schema.CodeNotFound, "GetFunction", object{"FunctionName": "f"})
}

// TestZipWithTheRequest is the way of doors that bring the package along.
func TestZipWithTheRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	do := func(operation string, request any) (schema.FunctionConfiguration, error) {
		t.Helper()
		var out schema.FunctionConfiguration
		answer, err := b.service.Do(t.Context(), subjects.DefaultAccount, operation, []byte(text(t, request)))
		if err == nil {
			err = json.Unmarshal(answer, &out)
		}
		return out, err
	}
	large := zipOf(t, strings.Repeat("large ", control.MaxRequest/4)) // more than a request over NATS may have
	created, err := do("CreateFunction", object{"FunctionName": "f", "Runtime": "provided", "Code": object{"ZipFile": large}})
	if err != nil || created.CodeSize != int64(len(large)) {
		t.Fatalf("%+v, %v", created, err)
	}
	small := zipOf(t, "small")
	for range 2 { // the second time it is there
		if _, err := do("UpdateFunctionCode", object{"FunctionName": "f", "Code": object{"ZipFile": small}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.record(t, "f").Latest.CodeSHA256; got != sha(small) {
		t.Errorf("runs %s, want %s", got, sha(small))
	}
	store, err := b.js.ObjectStore(t.Context(), b.Names.Bucket(topology.Code))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{large, small} {
		if got, err := store.GetBytes(t.Context(), sha(data)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("store has %d bytes under %s, %v", len(got), sha(data), err)
		}
	}
	// A request that is refused for another reason stores nothing.
	if _, err := do("CreateFunction", object{"FunctionName": "g", "Runtime": "cobol", "Code": object{"ZipFile": zipOf(t, "never")}}); err == nil {
		t.Fatal("runtime cobol was taken")
	}
	if _, err := store.GetInfo(t.Context(), sha(zipOf(t, "never"))); err == nil {
		t.Error("the package of a refused request was stored")
	}
}

package examples_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/hearth-run/hearth/examples"
)

// interpreter finds a program or skips the test by name; with CI=true its absence fails.
func interpreter(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed, and CI must run this example", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// call runs a handler in its interpreter: the script gets the event as its argument and prints the answer.
func call(t *testing.T, event, program string, args ...string) (answer, errors string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), interpreter(t, program), append(args, event)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func callNode(t *testing.T, event string) (string, string, error) {
	return call(t, event, "node", "--input-type=module", "-e",
		`import { handler } from "./nodejs/index.mjs"; console.log(JSON.stringify(await handler(JSON.parse(process.argv[1]))));`)
}

func callPython(t *testing.T, event string) (string, string, error) {
	return call(t, event, "python3", "-B", "-c",
		`import json, sys; sys.path.insert(0, "python"); import index; print(json.dumps(index.handler(json.loads(sys.argv[1]), None)))`)
}

func TestHandlers(t *testing.T) {
	t.Parallel()
	handlers := map[string]func(*testing.T, string) (string, string, error){"nodejs": callNode, "python": callPython}
	for _, c := range []struct{ function, event, want string }{
		{"nodejs", `{"text":""}`, `{"lines":0,"words":0,"characters":0,"common":[]}`},
		{"nodejs", `{"text":"so much depends\nupon a red wheel\n\nso much, So"}`,
			`{"lines":4,"words":10,"characters":45,"common":[{"word":"so","times":3},{"word":"much","times":2},{"word":"a","times":1}]}`},
		{"nodejs", `{"text":"🎡 ü\n"}`, `{"lines":1,"words":2,"characters":4,"common":[{"word":"ü","times":1}]}`},
		{"python", `{"csv":"item,price,count\ntea,0.1,2\nbun,0.2,3\n"}`,
			`{"rows":2,"sums":{"price":"0.3","count":"5"},"not_numeric":["item"]}`},
		{"python", `{"csv":"a,b\n\"1\", 2\n-1,\n"}`, `{"rows":2,"sums":{"a":"0","b":"2"},"not_numeric":[]}`},
		{"python", `{"csv":"a\nNaN\n"}`, `{"rows":1,"sums":{},"not_numeric":["a"]}`},
	} {
		t.Run(c.function, func(t *testing.T) {
			t.Parallel()
			got, errs, err := handlers[c.function](t, c.event)
			if err != nil {
				t.Fatalf("%s: %v\n%s", c.event, err, errs)
			}
			sameJSON(t, got, c.want)
		})
	}
}

func TestHandlersRefuseBadInput(t *testing.T) {
	t.Parallel()
	handlers := map[string]func(*testing.T, string) (string, string, error){"nodejs": callNode, "python": callPython}
	for _, c := range []struct{ function, event, says string }{
		{"nodejs", `{}`, "TypeError"},
		{"nodejs", `null`, "TypeError"},
		{"nodejs", `{"text":7}`, "TypeError"},
		{"python", `[]`, "ValueError"},
		{"python", `{"csv":null}`, "ValueError"},
		{"python", `{"csv":""}`, "ValueError"},
		{"python", `{"csv":"a,a\n1,2\n"}`, "ValueError"},
		{"python", `{"csv":"a,b\n1\n"}`, "ValueError"},
	} {
		t.Run(c.function, func(t *testing.T) {
			t.Parallel()
			got, errs, err := handlers[c.function](t, c.event)
			if err == nil || !bytes.Contains([]byte(errs), []byte(c.says)) {
				t.Errorf("%s: answered %q, %v, want a %s\n%s", c.event, got, err, c.says, errs)
			}
		})
	}
}

func TestEmbeddedFilesAreTheFolders(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"nodejs/index.mjs", "python/index.py", "tenant/nodejs/index.mjs"} {
		embedded, err := fs.ReadFile(examples.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(embedded, file) {
			t.Errorf("%s differs from what is embedded", name)
		}
	}
}

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		t.Errorf("got  %s\nwant %s", x, y)
	}
}

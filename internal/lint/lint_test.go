package lint_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/internal/lint"
)

// module is the tree of this module, found by its go.mod from here upwards.
func module(t *testing.T) *lint.Tree {
	t.Helper()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if up := filepath.Dir(root); up != root {
			root = up
			continue
		}
		t.Fatal("no go.mod above this package")
	}
	tree, err := lint.Load(root, "github.com/hearth-run/hearth")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Files) < 20 {
		t.Fatalf("found only %d Go files below %s", len(tree.Files), root)
	}
	return tree
}

var rules = map[string]func(*lint.Tree) []lint.Finding{
	"imports": lint.Imports, "binary": lint.Binary, "calls": lint.Calls, "statements": lint.Statements, "codes": lint.Codes, "docs": lint.Docs,
	"lengths": func(t *lint.Tree) []lint.Finding { return lint.Lengths(t, lint.TooLongFile) },
}

// TestOtherSystems: what is built here alone would be noticed by whoever builds it elsewhere first.
func TestOtherSystems(t *testing.T) {
	t.Parallel()
	found, err := lint.Platform(t.Context(), filepath.Join("..", ".."), "darwin", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range found {
		t.Error(err)
	}
}

func TestHouseRules(t *testing.T) {
	t.Parallel()
	tree := module(t)
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range rule(tree) {
				t.Error(f)
			}
		})
	}
	for _, f := range lint.Lengths(tree, lint.LongFile) {
		t.Log(f)
	}
}

// TestRulesFind shows each rule what it must find, and beside it what it must let pass.
func TestRulesFind(t *testing.T) {
	t.Parallel()
	const header = "// Package p is one.\npackage p\n\n"
	for _, c := range []struct {
		rule   string
		files  map[string]string
		expect []string // parts of the findings, in order of their text
	}{
		{"imports", map[string]string{
			"schema/a.go":          header + `import _ "m/frontend"`,
			"frontend/a.go":        header + `import ( _ "m/manager"; _ "m/schema"; _ "m/frontend/control" )`,
			"worker/a.go":          header + `import ( _ "m/internal/seal"; _ "m/deploy" )`,
			"worker/a_test.go":     header + `import _ "m/manager"`,
			"deploy/up.go":         header + `import ( _ "m/manager"; _ "m/worker" )`,
			"deploy/topology/a.go": header + `import _ "m/internal/watch"`,
			"internal/watch/a.go":  header + `import _ "m/internal/telemetry"`,
			"subjects/a.go":        header + `import ( _ "example.org/x"; _ "time" )`,
			"client/a.go":          header + `import _ "m/internal/seal"`,
			"manager/pool/a.go":    header + `import _ "github.com/nats-io/nats.go/jetstream"`,
			"manager/a.go":         header + `import _ "github.com/nats-io/nats.go"`,
			"examples/x/main.go":   "package main\nimport _ \"m/schema\"",
		}, []string{
			"client imports m/internal/seal", "deploy/topology imports internal/watch", "examples/x imports m/schema", "frontend imports manager",
			"imports example.org/x", "manager/pool imports github.com", "schema imports frontend", "subjects imports time", "worker imports deploy",
		}},
		{"binary", map[string]string{
			"cmd/hearth/main.go":      "package main\nimport _ \"m/deploy\"",
			"cmd/hearth/main_test.go": "package main\nimport _ \"testing\"",
			"deploy/a.go":             header + `import ( _ "m/internal/natstest"; _ "net/http" )`,
			"client/clienttest/a.go":  header + `import _ "testing"`,
		}, []string{"deploy imports m/internal/natstest"}},
		{"calls", map[string]string{
			"manager/a_test.go":        header + "import \"time\"\nfunc f() { time.Sleep(1) }",
			"manager/b_bubble_test.go": header + "import (\"time\"; \"testing/synctest\")\nfunc f() { time.Sleep(1); synctest.Wait() }",
			"manager/c_test.go":        header + "import clock \"time\"\nvar f = clock.Sleep",
			"worker/a.go":              header + "import \"os\"\nfunc f() { os.Create(\"x\"); os.Getenv(\"X\") }",
			"cmd/hearth/a.go":          "package main\nimport \"os\"\nfunc f() { os.Getenv(\"X\"); os.Exit(1) }",
			"deploy/a.go":              header + "import \"log\"\nfunc f() { log.Fatal(1) }",
			"worker/drivertest/a.go":   header + "import (\"testing\"; \"os\")\nfunc f(*testing.T) { os.Getenv(\"X\"); os.Exit(1) }",
		}, []string{"log.Fatal", "os.Create", "os.Getenv", "time.Sleep", "time.Sleep"}},
		{"statements", map[string]string{
			"manager/a.go":      header + "func init() {}\nfunc f() {\n\tgo f()\n\n\tgo f() // f waits for itself\n\n\t// Above is fine too.\n\tgo f()\n}",
			"manager/a_test.go": header + "func f() {\n\tgo f()\n}",
		}, []string{"a bare go", "an init function"}},
		{"codes", map[string]string{
			"worker/a.go": header + "import \"m/schema\"\nvar a, b = schema.Code(\"Made.Up\"), schema.Code(\"Unavailable\")",
		}, []string{`"Made.Up" has no row`}},
		{"docs", map[string]string{
			"a/a.go": "package a\n\nfunc F() {}\n\n// G is.\nfunc G() {}\n\ntype T struct{}\n\nfunc (*T) M() {}\n\ntype u struct{}\n\nfunc (u) N() {}\n\n" +
				"// All are.\nconst (\n\tA = 1\n\tB = 2\n)\n\nvar C, d int\n\n// More are.\ntype (\n\tV int\n\n\tW int // is\n)\n",
			"cmd/x/main.go": "// Command x is.\npackage main\n\nfunc F() {}\n",
		}, []string{"C has no comment", "F has no comment", "M has no comment", "T has no comment", "V has no comment", "package a has none"}},
		{"lengths", map[string]string{
			"a/a.go": header + strings.Repeat("//\n", lint.TooLongFile),
			"a/b.go": header + strings.Repeat("//\n", lint.TooLongFile-3),
		}, []string{"453 lines"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			tree, err := lint.Load(t.TempDir(), "m")
			if err != nil {
				t.Fatal(err)
			}
			for name, source := range c.files {
				if err := tree.Add(name, []byte(source)); err != nil {
					t.Fatal(err)
				}
			}
			found := rules[c.rule](tree)
			slices.SortFunc(found, func(a, b lint.Finding) int { return strings.Compare(a.Text, b.Text) })
			for i := range max(len(found), len(c.expect)) {
				switch {
				case i >= len(found):
					t.Errorf("did not find %q", c.expect[i])
				case i >= len(c.expect):
					t.Errorf("found %s", found[i])
				case !strings.Contains(found[i].Text, c.expect[i]) || found[i].Reason == "" || found[i].At == "":
					t.Errorf("found %s, want %q", found[i], c.expect[i])
				}
			}
		})
	}
}

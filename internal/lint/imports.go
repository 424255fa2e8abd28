package lint

import (
	"slices"
	"strings"
)

// layers are the folders of the module from the left to the right of STYLE 2: code may import what stands to its left, and
// of its own layer only its own folder, unless the layer is shared.
//
//	subjects <- schema <- deploy/topology <- internal <- frontend | manager | worker | client <- deploy <- cmd, e2e
var layers = []struct {
	folders []string
	shared  bool
}{
	{folders: []string{"subjects"}},
	{folders: []string{"schema"}},
	{folders: []string{"deploy/topology"}},
	{folders: []string{"internal"}, shared: true},
	{folders: []string{"frontend", "manager", "worker", "client"}},
	{folders: []string{"deploy"}},
	{folders: []string{"cmd", "e2e"}},
}

// place is the layer of a folder, and which of the layer's folders holds it; -1 if none does.
func place(folder string) (layer int, root string) {
	layer = -1
	for i, l := range layers {
		for _, f := range l.folders {
			if under(folder, f) && len(f) > len(root) { // deploy/topology before deploy
				layer, root = i, f
			}
		}
	}
	return layer, root
}

// denial is one import that is refused beside the layers, in code that is no test.
type denial struct {
	from   []string // folders
	what   []string // import paths, own ones without the module; with "/..." what lies below too
	reason string
}

var denials = []denial{
	{[]string{"client"}, []string{"deploy/...", "internal/..."}, "users import the client: it needs schema and subjects alone"},
	{[]string{"subjects", "schema", "manager/pool", "manager/reservation"}, []string{"os/...", "net/http", "github.com/nats-io/..."},
		"it is pure: the same result on every node, and no connection to wait for"},
	{[]string{"subjects"}, []string{"time", "context", "log/...", "math/rand/..."}, "names and rings know no clock and no chance"},
	{[]string{"manager"}, []string{"net/http", "os/exec"}, "a manager speaks NATS; processes are its worker's"},
	{[]string{"examples"}, []string{"subjects", "schema", "client", "frontend/...", "manager/...", "worker/...", "deploy/...", "internal/..."},
		"an example is what a user would write"},
}

// testOnly are imports of tests: none of them may reach a program.
var testOnly = []string{
	"testing/...", "net/http/httptest", "go.uber.org/goleak", "internal/natstest", "internal/lint", "worker/driver/drivertest", "worker/driver/native/hostile", "e2e/...",
}

// Imports finds imports against the direction of the layers, and the denied ones. Tests may import everything but what
// would close a circle, which the compiler finds.
func Imports(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if f.Test() {
			continue
		}
		from, root := place(f.Folder())
		for p, pos := range f.imports {
			own, ours := t.own(p)
			if to, target := place(own); ours && from >= 0 && to >= 0 {
				switch {
				case to > from:
					found = append(found, t.finding(pos, "imports run from left to right, what everything imports stays smallest",
						"%s imports %s", f.Folder(), own))
				case to == from && root != target && !layers[to].shared:
					found = append(found, t.finding(pos, "roles meet in schema and over NATS; deploy alone knows them all",
						"%s imports %s", f.Folder(), own))
				}
			}
			if root == "subjects" && strings.Contains(strings.Split(p, "/")[0], ".") {
				found = append(found, t.finding(pos, "subjects imports the standard library only", "imports %s", p))
			}
			for _, d := range denials {
				if under(f.Folder(), d.from...) && !t.helper(f) && t.matches(p, d.what) {
					found = append(found, t.finding(pos, d.reason, "%s imports %s", f.Folder(), p))
				}
			}
		}
	}
	return found
}

// matches reports whether an import path is one of the patterns.
func (t *Tree) matches(importPath string, patterns []string) bool {
	if own, ok := t.own(importPath); ok {
		importPath = own
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		if root, below := strings.CutSuffix(p, "/..."); below {
			return under(importPath, root)
		}
		return importPath == p
	})
}

// Binary finds test helpers among what the programs of cmd import, directly or through our own packages.
func Binary(t *Tree) []Finding {
	var found []Finding
	seen := make(map[string]bool)
	var visit func(folder string)
	visit = func(folder string) {
		if seen[folder] {
			return
		}
		seen[folder] = true
		for _, f := range t.Files {
			if f.Folder() != folder || f.Test() {
				continue
			}
			for p, pos := range f.imports {
				if t.matches(p, testOnly) {
					found = append(found, t.finding(pos, "helpers of tests stay out of the binary", "%s imports %s", folder, p))
				} else if own, ok := t.own(p); ok {
					visit(own)
				}
			}
		}
	}
	for _, f := range t.Files {
		if under(f.Folder(), "cmd") && f.Command() {
			visit(f.Folder())
		}
	}
	return found
}

package runtimes

import (
	"fmt"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// language is what differs between the runtimes that have an interpreter.
type language struct {
	name    string  // prefix of the runtimes' names, and of the folder of the loop
	loop    string  // file of it that is run
	program string  // name of the interpreter for people
	install string  // the packages that have it
	least   version // that the loop runs on
	names   func(want version) []string
	ask     []string // arguments with which an interpreter prints its own path and version, on two lines
	flags   func(b *schema.Binding) []string
	exec    func(v version) string // the runtime's name at Lambda for a version, AWS_EXECUTION_ENV
	module  string                 // variable that lists folders of modules
	modules string                 // below the folder of the loop
}

var languages = []*language{
	{
		name: "nodejs", loop: "loop.cjs", program: "node", install: "nodejs", least: version{18},
		names: func(want version) []string {
			return []string{fmt.Sprintf("node%d", max(want[0], 18)), "node", "nodejs"}
		},
		ask:  []string{"-p", `process.execPath + "\n" + process.versions.node`},
		exec: func(v version) string { return fmt.Sprintf("nodejs%d.x", v[0]) },
		flags: func(b *schema.Binding) []string {
			// As Lambda: V8 collects garbage before the environment's memory is full, instead of being killed.
			if b.MemoryMB <= 0 || strings.Contains(b.Variables["NODE_OPTIONS"], "max-old-space-size") {
				return nil
			}
			return []string{fmt.Sprintf("--max-old-space-size=%d", b.MemoryMB*9/10)}
		},
		module: "NODE_PATH", modules: "node_modules",
	},
	{
		name: "python", loop: "loop.py", program: "python3", install: "python3", least: version{3, 8},
		names: func(want version) []string {
			names := []string{"python3"}
			if want[1] > 0 {
				names = []string{fmt.Sprintf("python3.%d", want[1]), "python3"}
			}
			for minor := max(want[1]+1, 8); minor <= 20; minor++ {
				names = append(names, fmt.Sprintf("python3.%d", minor))
			}
			return names
		},
		ask:  []string{"-c", `import sys; print(sys.executable); print("%d.%d.%d" % sys.version_info[:3])`},
		exec: func(v version) string { return fmt.Sprintf("python%d.%d", v[0], v[1]) },
		// Packages are read-only: there is no place to keep compiled modules.
		flags:  func(*schema.Binding) []string { return []string{"-B"} },
		module: "PYTHONPATH",
	},
}

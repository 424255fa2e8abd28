// Package examples carries the functions of this folder that need no compiler, so that an installed `hearth` can deploy them
// without the source tree. The Go ones (provided-go, echo) are built from source by whoever has it.
//
// Each folder is one function: copy it, deploy it with `hearth deploy NAME FOLDER`.
package examples

import "embed"

// Files holds the folders nodejs and python, as they are deployed. Read-only, safe for concurrent use.
//
//go:embed nodejs/index.mjs python/index.py
var Files embed.FS

// Module is the import path under which the Go examples are built.
const Module = "github.com/hearth-run/hearth"

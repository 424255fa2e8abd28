// Package examples carries the functions of this folder that need no compiler, so that an installed `hearth` can deploy them
// without the source tree. The Go ones (provided-go, echo, tenant/provided-go) are built from source by whoever has it.
//
// Each folder is one function: copy it, deploy it with `hearth deploy NAME FOLDER`. tenant/ has one for the customers of a provider,
// in two languages, and the service behind it.
package examples

import "embed"

// Files holds the folders nodejs, python and tenant/nodejs, as they are deployed. Read-only, safe for concurrent use.
//
//go:embed nodejs/index.mjs python/index.py tenant/nodejs/index.mjs
var Files embed.FS

// Module is the import path under which the Go examples are built.
const Module = "github.com/hearth-run/hearth"

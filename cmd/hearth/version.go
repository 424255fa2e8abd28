package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// build is what this binary was made from.
type build struct {
	Version  string `json:"version"`            // of the module: a tag, a pseudo-version, or (devel)
	Revision string `json:"revision,omitempty"` // commit
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339 UTC
	Modified bool   `json:"modified"`           // the tree differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// String is the build as a semantic version without the "v" (semver.org), which is how services of NATS and members of a
// fabric tell theirs. A build that no tag or commit names is 0.0.0-devel.
func (b build) String() string {
	if b.Version != "(devel)" && b.Version != "" {
		return strings.TrimPrefix(b.Version, "v") // a pseudo-version names the commit already
	}
	if b.Revision == "" {
		return "0.0.0-devel"
	}
	return "0.0.0-devel+" + b.Revision[:min(12, len(b.Revision))]
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = cmp.Or(info.Main.Version, b.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show what this binary was built from",
		Example: "  hearth version\n  hearth version --json",
		GroupID: groupSee,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if asJSON(cmd) {
				return a.printJSON(b)
			}
			_, err := fmt.Fprintf(a.stdout, "hearth %s (%s, %s)\n", b, b.Go, b.Platform)
			return err
		},
	}
	jsonFlag(cmd)
	return cmd
}

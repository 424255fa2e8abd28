package main

import (
	"regexp"
	"testing"
)

// semver is the expression of semver.org, without its groups.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func TestBuildIsASemanticVersion(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]build{
		"0.0.0-devel":                         {Version: "(devel)"},
		"0.0.0-devel+0123456789ab":            {Version: "(devel)", Revision: "0123456789abcdef"},
		"1.2.3":                               {Version: "v1.2.3"},
		"0.0.0-20261123223000-0123456789ab":   {Version: "v0.0.0-20261123223000-0123456789ab", Revision: "0123456789abcdef"},
		"1.2.4-0.20261123223000-0123+dirty.1": {Version: "v1.2.4-0.20261123223000-0123+dirty.1"},
	} {
		if got := b.String(); got != want || !semver.MatchString(got) {
			t.Errorf("%+v is %q, want %q", b, got, want)
		}
	}
	if r := alone(t, "version"); r.code != exitOK || !regexp.MustCompile(`^hearth \S+ \(go\S+, \w+/\w+\)\n$`).MatchString(r.stdout) {
		t.Errorf("exit %d: %q", r.code, r.stdout)
	}
	got := decode[build](t, alone(t, "version", "--json").stdout)
	if !semver.MatchString(got.String()) || got.Go == "" || got.Platform == "" {
		t.Errorf("%+v", got)
	}
}

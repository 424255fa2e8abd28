package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shown are the lines of `hearth config --json`, by command and flag.
func shown(t *testing.T, s surroundings, args ...string) map[string]setting {
	t.Helper()
	r := s.run(t, append([]string{"config", "--json"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	out := map[string]setting{}
	for line := range strings.Lines(r.stdout) {
		var row setting
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out[strings.TrimSpace(row.Command+" "+row.Flag)] = row
	}
	return out
}

func configFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hearth.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// CLI, Habits: flag, environment, config file, default.
func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	file := configFile(t, "prefix: from-file\nmanagers: 5\nserver: nats://file:1\nno-anonymous: true\n")
	env := map[string]string{"HEARTH_PREFIX": "from-env", "HEARTH_MANAGERS": "7", "HEARTH_CONFIG": file}
	got := shown(t, surroundings{env: env}, "--prefix", "from-flag")
	for key, want := range map[string][2]string{
		"prefix":          {"from-flag", "flag"},
		"up managers":     {"7", "environment HEARTH_MANAGERS"},
		"server":          {"nats://file:1", "file " + file},
		"up no-anonymous": {"true", "file " + file},
		"up capacity":     {"0", "default"},
		"config":          {file, "environment HEARTH_CONFIG"},
	} {
		if row := got[key]; row.Value != want[0] || row.Source != want[1] {
			t.Errorf("%s is %q from %q, want %q from %q", key, row.Value, row.Source, want[0], want[1])
		}
	}
	got = shown(t, surroundings{}, "--config", file)
	if row := got["prefix"]; row.Value != "from-file" {
		t.Errorf("without flag and environment the prefix is %q from %q", row.Value, row.Source)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	file := configFile(t, "set: {theta: 0.9, t: 5}\negress: [a:1, b:2]\nenv: {A1: x}\n")
	got := shown(t, surroundings{}, "--config", file)
	for key, want := range map[string]string{"up set": "[t=5,theta=0.9]", "deploy egress": "[a:1,b:2]", "deploy env": "***"} {
		if got[key].Value != want {
			t.Errorf("%s is %q, want %q", key, got[key].Value, want)
		}
	}
	got = shown(t, surroundings{env: map[string]string{
		"HEARTH_SET": "t=5\ntheta=0.9", "HEARTH_EGRESS": "a:1,b:2", "HEARTH_ENV": "A1=1,2\nB2=3",
	}})
	for key, want := range map[string]string{"up set": "[t=5,theta=0.9]", "deploy egress": "[a:1,b:2]", "deploy env": "***"} {
		if got[key].Value != want {
			t.Errorf("from the environment %s is %q, want %q", key, got[key].Value, want)
		}
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  map[string]string
		file string
		says string
	}{
		"number in the environment": {map[string]string{"HEARTH_MANAGERS": "many"}, "", `environment HEARTH_MANAGERS: is "many"`},
		"switch in the environment": {map[string]string{"HEARTH_NO_ANONYMOUS": "maybe"}, "", "true or false"},
		"number in the file":        {nil, "managers: many\n", `managers: is "many"`},
		"unknown key":               {nil, "mangers: 3\n", "did you mean managers?"},
		"no YAML":                   {nil, "a: b: c\n", "one `flag: value` a line"},
		"a list of lists":           {nil, "set: [[a, b]]\n", "a list of plain values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"up"}
			if c.file != "" {
				args = append(args, "--config", configFile(t, c.file))
			}
			r := surroundings{env: c.env}.run(t, args...)
			if r.code != exitUsage || !strings.Contains(r.stderr, c.says) {
				t.Errorf("exit %d: %s", r.code, r.stderr)
			}
		})
	}
	if r := alone(t, "ls", "--config", "/nowhere/at/all"); r.code != exitUsage || !strings.Contains(r.stderr, "/nowhere/at/all: no such file") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func TestConfigGolden(t *testing.T) {
	t.Parallel()
	golden(t, "config.txt", alone(t, "config").stdout)
}

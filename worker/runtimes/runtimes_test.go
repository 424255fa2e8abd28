package runtimes_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/runtimes"
)

func binding(runtime string) *schema.Binding {
	return &schema.Binding{Key: schema.Key{Version: "$LATEST"}, Function: "resize", Runtime: runtime, Handler: "index.handler", MemoryMB: 128}
}

// TestProvided: the package's bootstrap, with Lambda's variables and none of ours.
func TestProvided(t *testing.T) {
	t.Parallel()
	r := newRuntimes(t)
	code := writePackage(t, map[string]string{"bootstrap": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(code, "bootstrap"), 0o555); err != nil {
		t.Fatal(err)
	}
	for _, runtime := range []string{"provided", "provided.al2", "provided.al2023"} {
		b := binding(runtime)
		b.Variables = schema.Variables{
			"MINE": "1", "TZ": "Europe/Berlin", "EMPTY": "",
			"AWS_LAMBDA_FUNCTION_NAME": "forged", "_HANDLER": "forged", "AWS_LAMBDA_RUNTIME_API": "forged",
			"AWS_LAMBDA_MAX_CONCURRENCY": "4", "AWS_EXECUTION_ENV": "forged", "_X_AMZN_TRACE_ID": "forged",
			"AWS_LAMBDA_LOG_FORMAT": "forged", "AWS_LAMBDA_LOG_LEVEL": "forged",
			"NUL": "a\x00b", "A=B": "c", "": "x",
		}
		cmd, err := r.Command(b, runtimes.Place{Code: code, API: "127.0.0.1:9001"})
		if err != nil {
			t.Fatal(err)
		}
		if cmd.Path != filepath.Join(code, "bootstrap") || len(cmd.Args) != 0 || cmd.Dir != code {
			t.Errorf("command %+v", cmd)
		}
		stream := regexp.MustCompile(`^AWS_LAMBDA_LOG_STREAM_NAME=\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`)
		got := slices.DeleteFunc(cmd.Env, stream.MatchString)
		want := []string{
			"AWS_DEFAULT_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", "AWS_LAMBDA_FUNCTION_NAME=resize",
			"AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/resize",
			"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "AWS_REGION=us-east-1", "EMPTY=", "LAMBDA_RUNTIME_DIR=",
			"LAMBDA_TASK_ROOT=" + code, "LANG=en_US.UTF-8", "LD_LIBRARY_PATH=" + code + ":" + code + "/lib", "MINE=1",
			"PATH=/usr/local/bin:/usr/bin:/bin", "TZ=Europe/Berlin", "_HANDLER=index.handler",
		}
		for i := range got {
			if strings.HasPrefix(got[i], "LAMBDA_RUNTIME_DIR=") {
				got[i] = "LAMBDA_RUNTIME_DIR="
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("variables\n%q\nwant\n%q", got, want)
		}
	}
}

// TestInitializationType: a function is told whether its environment is a reservation's, as by provisioned concurrency.
func TestInitializationType(t *testing.T) {
	t.Parallel()
	r := newRuntimes(t)
	code := writePackage(t, map[string]string{"bootstrap": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(code, "bootstrap"), 0o555); err != nil {
		t.Fatal(err)
	}
	b := binding("provided")
	b.Reserved = true
	cmd, err := r.Command(b, runtimes.Place{Code: code, API: "127.0.0.1:9001"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(cmd.Env, "AWS_LAMBDA_INITIALIZATION_TYPE=provisioned-concurrency") {
		t.Errorf("variables %q", cmd.Env)
	}
}

// TestLoggingVariables: what a function is told of how its lines should look.
func TestLoggingVariables(t *testing.T) {
	t.Parallel()
	r := newRuntimes(t)
	code := writePackage(t, map[string]string{"bootstrap": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(code, "bootstrap"), 0o555); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		logging schema.Logging
		want    []string
	}{
		{schema.Logging{Format: "Text", Group: "/mine"}, []string{"AWS_LAMBDA_LOG_FORMAT=Text", "AWS_LAMBDA_LOG_GROUP_NAME=/mine"}},
		{schema.Logging{Format: "JSON"}, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/resize", "AWS_LAMBDA_LOG_LEVEL=INFO"}},
		{schema.Logging{Format: "JSON", Level: "WARN"}, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/resize", "AWS_LAMBDA_LOG_LEVEL=WARN"}},
	} {
		b := binding("provided")
		b.Logging = test.logging
		cmd, err := r.Command(b, runtimes.Place{Code: code, API: "127.0.0.1:9001"})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(cmd.Env, func(v string) bool {
			return !strings.HasPrefix(v, "AWS_LAMBDA_LOG_") || strings.HasPrefix(v, "AWS_LAMBDA_LOG_STREAM")
		})
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.logging, got, test.want)
		}
	}
}

// TestProvidedRefusals: a package without a bootstrap that can be executed is refused in Lambda's words.
func TestProvidedRefusals(t *testing.T) {
	t.Parallel()
	r := newRuntimes(t)
	for _, test := range []struct {
		name  string
		files map[string]string
		text  string
	}{
		{"Missing", nil, "fork/exec /var/task/bootstrap: no such file or directory"},
		{"NotExecutable", map[string]string{"bootstrap": "x"}, "fork/exec /var/task/bootstrap: permission denied"},
		{"Folder", map[string]string{"bootstrap/x": "x"}, "fork/exec /var/task/bootstrap: permission denied"},
	} {
		_, err := r.Command(binding("provided"), runtimes.Place{Code: writePackage(t, test.files)})
		var refused *schema.Error
		if !errors.As(err, &refused) || refused.Code != schema.CodeInvalidEntrypoint || refused.Message != test.text {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestUnknownRuntime: a runtime that no worker has, or no version that can be read, is named.
func TestUnknownRuntime(t *testing.T) {
	t.Parallel()
	r := newRuntimes(t)
	for _, runtime := range []string{"", "java21", "providedx", "nodejsX.x", "python3.x.y", "python-3", "nodejs20.1.2.3"} {
		_, err := r.Command(binding(runtime), runtimes.Place{})
		if schema.CodeOf(err) != schema.CodeRuntimeUnavailable || !strings.Contains(err.Error(), runtime) {
			t.Errorf("%q: %v", runtime, err)
		}
	}
}

// fake writes a program that answers as an interpreter does that says it is path, of a version.
func fake(t *testing.T, file, says, version string) {
	t.Helper()
	script := "#!/bin/sh\necho '" + says + "'\necho " + version + "\n"
	if version == "" {
		script = "#!/bin/sh\necho 'no version is set' >&2\nexit 127\n"
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// reachable makes a folder that every user may pass, unlike those of t.TempDir.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "runtimes-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestInterpreterIsTheRealOne: shims are followed to what they stand for, and passed over where they lead nowhere.
func TestInterpreterIsTheRealOne(t *testing.T) {
	t.Parallel()
	dir := reachable(t)
	real := filepath.Join(dir, "versions/31.2.3/node")
	fake(t, real, real, "31.2.3")
	fake(t, filepath.Join(dir, "broken/node"), "", "")
	fake(t, filepath.Join(dir, "lost/node"), filepath.Join(dir, "gone/node"), "40.0.0")
	fake(t, filepath.Join(dir, "mute/node"), "node", "50.0.0")
	fake(t, filepath.Join(dir, "shims/node"), real, "31.2.3")
	path := strings.Join([]string{"relative", filepath.Join(dir, "broken"), filepath.Join(dir, "lost"), filepath.Join(dir, "mute"), filepath.Join(dir, "shims")}, ":")
	r, err := runtimes.New(runtimes.Config{Dir: t.TempDir(), Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		found, err := r.Interpreter("nodejs30.x")
		if err != nil || found != (runtimes.Interpreter{Path: real, Version: "31.2.3"}) {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	cmd, err := r.Command(binding("nodejs30.x"), runtimes.Place{Code: "/code", API: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Path != real || cmd.Dir != "/code" || len(cmd.Args) != 2 || cmd.Args[0] != "--max-old-space-size=115" {
		t.Errorf("command %+v", cmd)
	}
	for _, v := range []string{"AWS_EXECUTION_ENV=AWS_Lambda_nodejs30.x", "PATH=" + filepath.Dir(real) + ":/usr/local/bin:/usr/bin:/bin",
		"NODE_PATH=" + filepath.Dir(cmd.Args[1]) + "/node_modules", "LAMBDA_RUNTIME_DIR=" + filepath.Dir(cmd.Args[1])} {
		if !slices.Contains(cmd.Env, v) {
			t.Errorf("no %s in %q", v, cmd.Env)
		}
	}
	// An interpreter that was there is looked for again when it is gone.
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	if found, err := r.Interpreter("nodejs30.x"); err == nil {
		t.Errorf("%+v is gone", found)
	}
}

// TestInterpreterVersions: the first that is new enough is taken, and a refusal names what there is.
func TestInterpreterVersions(t *testing.T) {
	t.Parallel()
	dir := reachable(t)
	add := func(name, version string) { path := filepath.Join(dir, name); fake(t, path, path, version) }
	add("python3", "3.41.0")
	add("python3.42", "3.42.1")
	r, err := runtimes.New(runtimes.Config{Dir: t.TempDir(), Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for runtime, want := range map[string]string{"python": "3.41.0", "python3": "3.41.0", "python3.9": "3.41.0", "python3.41": "3.41.0", "python3.42": "3.42.1"} {
		found, err := r.Interpreter(runtime)
		if runtime == "python3.9" && err == nil && found.Path == "/usr/bin/python3.9" {
			continue // this host has the very one
		}
		if err != nil || found.Version != want {
			t.Errorf("%s: %+v, %v; want %s", runtime, found, err, want)
		}
	}
	_, err = r.Interpreter("python3.99")
	if schema.CodeOf(err) != schema.CodeRuntimeUnavailable || !strings.Contains(err.Error(), "python3 3.99 or newer") ||
		!strings.Contains(err.Error(), filepath.Join(dir, "python3")+" is 3.41.0") || !strings.Contains(err.Error(), "install package python3") {
		t.Errorf("%v", err)
	}
}

// TestInterpreterOfAnotherUser: as root, one that only root can reach is passed over.
func TestInterpreterOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := reachable(t)
	closed, open := filepath.Join(dir, "closed/node"), filepath.Join(dir, "open/node")
	fake(t, closed, closed, "60.0.0")
	fake(t, open, open, "61.0.0")
	if err := os.Chmod(filepath.Dir(closed), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := runtimes.New(runtimes.Config{Dir: t.TempDir(), Path: filepath.Dir(closed) + ":" + filepath.Dir(open)})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := r.Interpreter("nodejs"); err != nil || found.Path != open {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestLoopsAreReadable: every user can read the loops, and several workers can write them to one folder.
func TestLoopsAreReadable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "loops")
	for range 2 {
		if _, err := runtimes.New(runtimes.Config{Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := os.FileMode(0o444)
		if entry.IsDir() {
			want = 0o755
		} else if found++; strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s is left", path)
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil || found < 2 {
		t.Errorf("%d files, %v", found, err)
	}
	if _, err := runtimes.New(runtimes.Config{}); err == nil {
		t.Error("made without a folder")
	}
}

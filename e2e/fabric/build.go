package fabric

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Binaries are the command and the scenarios' function, built once a test run.
type Binaries struct {
	Hearth string
	Fn     string
}

// built is the folder of everything that was built in this run.
var built = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "hearth-e2e-") })

var build = sync.OnceValues(func() (*Binaries, error) {
	dir, err := built()
	if err != nil {
		return nil, err
	}
	b := &Binaries{Hearth: filepath.Join(dir, "hearth"), Fn: filepath.Join(dir, "fn", "bootstrap")}
	if err := goBuild(b.Hearth, "github.com/hearth-run/hearth/cmd/hearth", os.Environ()); err != nil {
		return nil, err
	}
	return b, goBuild(b.Fn, "github.com/hearth-run/hearth/e2e/fn", append(os.Environ(), "CGO_ENABLED=0"))
})

// buildServer builds the NATS server of the version that the fabric embeds, as a program of its own.
var buildServer = sync.OnceValues(func() (string, error) {
	dir, err := built()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "nats-server")
	return path, goBuild(path, "github.com/nats-io/nats-server/v2", os.Environ())
})

func goBuild(out, pkg string, env []string) error {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = env
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// Build gives the binaries, building them the first time.
func Build(t testing.TB) *Binaries {
	t.Helper()
	b, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Cleanup removes what was built; TestMain calls it last.
func Cleanup() {
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

// Bootstrap builds a function of e2e by its folder's name, and gives the folder to deploy.
func Bootstrap(t testing.TB, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, name)
	out := filepath.Join(dir, "bootstrap")
	if err := goBuild(out, "github.com/hearth-run/hearth/e2e/"+name, append(os.Environ(), "CGO_ENABLED=0")); err != nil {
		t.Fatal(err)
	}
	return dir
}

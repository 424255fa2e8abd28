package doctor

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/worker/driver/native"
	"github.com/hearth-run/hearth/worker/runtimes"
)

// HostConfig says what of a host is looked at.
type HostConfig struct {
	Folder string // where data would go; it is not made
	Path   string // where interpreters are looked for, as in the variable PATH
}

// LookAtHost looks at this host. It builds a sandbox and runs interpreters, each of which takes a moment; ctx ends that. An error
// is that it could not look, not what it saw.
func LookAtHost(ctx context.Context, cfg HostConfig) (*Host, error) {
	h := &Host{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernelRelease(), UID: os.Geteuid(), Cores: runtime.NumCPU(), Memory: deploy.FreeMemory(),
		Files: descriptors(), Native: native.Look(),
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		h.Distro = distro(string(text))
	}
	if err := h.lookAtFolder(cfg.Folder); err != nil {
		return nil, err
	}
	temporary, err := os.MkdirTemp("", "hearth-doctor-")
	if err != nil {
		return nil, err
	}
	if h.Native.Supported && h.Native.Root {
		h.Proven = true
		h.Sandbox = deploy.ProbeSandbox(ctx, filepath.Join(temporary, "sandbox"))
	}
	found, err := runtimes.New(runtimes.Config{Dir: filepath.Join(temporary, "runtimes"), Path: cfg.Path})
	if err == nil {
		for _, name := range []string{"nodejs", "python"} {
			i := Interpreter{Runtime: name}
			i.Found, i.Err = found.Interpreter(name)
			h.Interpreters = append(h.Interpreters, i)
		}
	}
	if ended := context.Cause(ctx); ended != nil {
		err = ended
	}
	return h, errors.Join(err, os.RemoveAll(temporary))
}

// lookAtFolder finds what is free where the folder is or would be made.
func (h *Host) lookAtFolder(folder string) error {
	path, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	h.Folder = path
	there := path
	for {
		info, err := os.Stat(there)
		switch {
		case err == nil && !info.IsDir():
			h.Closed = errors.New(there + " is no folder")
			return nil
		case err == nil:
			h.Closed = writable(there)
			h.Disk, h.Room = deploy.DiskSpace(there)
			return nil
		case !errors.Is(err, os.ErrNotExist) || there == filepath.Dir(there):
			h.Closed = err
			return nil
		}
		there = filepath.Dir(there)
	}
}

// distro is the family of a Linux host by its /etc/os-release.
func distro(text string) string {
	var ids []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch value = strings.Trim(value, `"'`); key {
		case "ID":
			ids = append([]string{value}, ids...)
		case "ID_LIKE":
			ids = append(ids, strings.Fields(value)...)
		}
	}
	for _, id := range ids {
		switch id {
		case "debian", "ubuntu":
			return "debian"
		case "fedora", "rhel", "centos":
			return "fedora"
		case "alpine", "arch", "suse":
			return id
		}
	}
	return ""
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hearth-run/hearth/examples"
)

// errNoSource is why a Go example cannot be built here.
var errNoSource = errors.New("needs Go and the source tree of Hearth (run it from there)")

// sourceTree is the folder of this module's source, looked for from the working folder upwards, and the `go` command.
func sourceTree() (folder, goCommand string, err error) {
	goCommand, err = exec.LookPath("go")
	if err != nil {
		return "", "", errNoSource
	}
	folder, err = os.Getwd()
	if err != nil {
		return "", "", errNoSource
	}
	for {
		content, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil {
			first, _, _ := strings.Cut(string(content), "\n")
			if strings.TrimSpace(first) == "module "+examples.Module {
				return folder, goCommand, nil
			}
		}
		up := filepath.Dir(folder)
		if up == folder {
			return "", "", errNoSource
		}
		folder = up
	}
}

// goBuild builds a static executable for this host from a package of the source tree (./examples/echo) or a file.
func goBuild(ctx context.Context, what, out string) error {
	folder, goCommand, err := sourceTree()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, goCommand, "build", "-trimpath", "-ldflags=-s -w", "-o", out, what)
	cmd.Dir = folder
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "GOOS", "GOARCH", "CGO_ENABLED": // of whoever cross-compiles; this runs here
		default:
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("build %s: %w: %s", what, err, strings.TrimSpace(text.String()))
	}
	return nil
}

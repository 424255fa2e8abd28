package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/subjects"
)

// loops are what may run the echo, in the order of preference.
var loops = [...]string{loopLean, loopNode, loopPython, loopAWS}

// The loops: our own one on a raw connection, those of the interpreters, and AWS's library for Go.
const (
	loopLean   = "lean"
	loopNode   = "nodejs"
	loopPython = "python"
	loopAWS    = "aws"
)

func knownLoop(name string) error {
	if name == "" || slices.Contains(loops[:], name) {
		return nil
	}
	return usagef("--loop is %q%s; one of %s", name, didYouMean(name, loops[:]), strings.Join(loops[:], ", "))
}

// awsEcho is the echo on aws-lambda-go, built in the source tree where that library is a requirement.
const awsEcho = `package main

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) { return event, nil })
}
`

// echoPackage makes an echo in folder and says what runs it. A loop that is not asked for is the first that can be made.
func echoPackage(ctx context.Context, folder string, f benchFlags) (p *pack.Package, runtime, loop string, err error) {
	if f.driver == "null" && f.loop == "" && f.own {
		// Nothing of it is ever run.
		if err := os.WriteFile(filepath.Join(folder, "bootstrap"), []byte("#!/bin/sh\n"), 0o700); err != nil {
			return nil, "", "", err
		}
		p, err = pack.Read(folder)
		return p, "provided", "", err
	}
	var reasons []error
	for _, loop := range loops {
		if f.loop != "" && f.loop != loop {
			continue
		}
		at := filepath.Join(folder, loop)
		if err := os.Mkdir(at, 0o700); err != nil {
			return nil, "", "", err
		}
		runtime, err := makeEcho(ctx, loop, at)
		if err == nil {
			p, err = pack.Read(at)
		}
		if err == nil {
			return p, runtime, loop, nil
		}
		if ctx.Err() != nil {
			return nil, "", "", context.Cause(ctx)
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", loop, err))
	}
	return nil, "", "", usagef("no echo can be made here: %v", errors.Join(reasons...))
}

func makeEcho(ctx context.Context, loop, folder string) (runtime string, err error) {
	switch loop {
	case loopLean:
		return "provided", goBuild(ctx, "./examples/echo", filepath.Join(folder, "bootstrap"))
	case loopAWS:
		source := filepath.Join(folder, "main.go")
		if err := os.WriteFile(source, []byte(awsEcho), 0o600); err != nil {
			return "", err
		}
		err := goBuild(ctx, source, filepath.Join(folder, "bootstrap"))
		return "provided", errors.Join(err, os.Remove(source))
	case loopNode:
		if _, err := exec.LookPath("node"); err != nil {
			return "", errors.New("node is not installed")
		}
		return "nodejs", os.WriteFile(filepath.Join(folder, "index.mjs"), []byte("export const handler = async (event) => event;\n"), 0o600)
	default:
		if _, err := exec.LookPath("python3"); err != nil {
			return "", errors.New("python3 is not installed")
		}
		return "python", os.WriteFile(filepath.Join(folder, "index.py"), []byte("def handler(event, context):\n    return event\n"), 0o600)
	}
}

// deployEcho deploys an echo under a name for the time of the run; remove takes it away again.
func (a *app) deployEcho(ctx context.Context, t target, name string, f benchFlags) (remove func(), loop string, err error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, "", fmt.Errorf("make a folder for the echo: %w", err)
	}
	defer os.RemoveAll(folder)
	p, runtime, loop, err := echoPackage(ctx, folder, f)
	if err != nil {
		return nil, "", err
	}
	c, err := t.connect(ctx)
	if err != nil {
		return nil, "", err
	}
	d := deployment{name: name, runtime: runtime, handler: "index.handler", memoryMB: 128, timeout: 10 * time.Second, pack: p, given: unsaidHandler}
	if _, err := d.apply(ctx, c.Client); err != nil {
		c.Close()
		return nil, "", err
	}
	return func() {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := c.DeleteFunction(ctx, name, ""); err != nil {
			a.complain("remove the echo %s: %v; `hearth rm %s` does it", name, err, name)
		}
	}, loop, nil
}

// ownFabric is a `hearth up` in a process and a temporary folder of its own.
type ownFabric struct {
	*part
	target target
	folder string
}

func startOwnFabric(ctx context.Context, f benchFlags) (*ownFabric, error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the fabric: %w", err)
	}
	ready := filepath.Join(folder, "ready.json")
	p, err := startSelf(ctx, "up", "--data", filepath.Join(folder, "data"), "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--driver", f.driver, "--capacity", strconv.Itoa(2*f.concurrency+8), "--ready-file", ready, "--no-note", "--ephemeral")
	if err != nil {
		_ = os.RemoveAll(folder)
		return nil, err
	}
	own := &ownFabric{part: p, folder: folder}
	if err := own.await(ctx, ready); err != nil {
		own.stop()
		return nil, err
	}
	return own, nil
}

func (o *ownFabric) await(ctx context.Context, ready string) error {
	if err := o.ready(ctx); err != nil {
		return err
	}
	content, err := os.ReadFile(ready)
	if err != nil {
		return fmt.Errorf("read where the fabric serves: %w", err)
	}
	var n note
	if err := json.Unmarshal(content, &n); err != nil {
		return fmt.Errorf("read where the fabric serves: %w", err)
	}
	names, err := subjects.NewNames("")
	o.target = target{url: n.NATS, creds: n.Creds, names: names, note: &n}
	return err
}

// stop ends the fabric in order, waits, and removes what it left.
func (o *ownFabric) stop() {
	_ = o.cmd.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, o.stdout)
	o.part.stop()
	_ = os.RemoveAll(o.folder)
}

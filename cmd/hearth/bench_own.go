package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/subjects"
)

// echo is a function made for the run.
type echo struct {
	pack    *pack.Package
	runtime string
	loop    string // "" where nothing of it is ever run
}

// echoHandler is its handler, where the runtime has one.
const echoHandler = "index.handler"

// maker makes an echo of one loop in a folder, or says why it cannot here.
type maker func(ctx context.Context, loop, folder string) (runtime string, err error)

// makeEcho makes an echo. A loop that is not asked for is the first that can be made, each by this.
func makeEcho(ctx context.Context, f benchFlags, make maker) (*echo, error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the echo: %w", err)
	}
	defer os.RemoveAll(folder)
	if f.driver == "null" && f.loop == "" && f.own {
		if err := os.WriteFile(filepath.Join(folder, "bootstrap"), []byte("#!/bin/sh\n"), 0o700); err != nil {
			return nil, err
		}
		p, err := pack.Read(folder)
		return &echo{pack: p, runtime: "provided"}, err
	}
	var reasons []error
	for _, loop := range loops {
		if f.loop != "" && f.loop != loop {
			continue
		}
		at := filepath.Join(folder, loop)
		if err := os.Mkdir(at, 0o700); err != nil {
			return nil, err
		}
		e := &echo{loop: loop}
		if e.runtime, err = make(ctx, loop, at); err == nil {
			e.pack, err = pack.Read(at)
		}
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", loop, err))
	}
	return nil, usagef("no echo can be made here: %v", errors.Join(reasons...))
}

// deployEcho makes an echo and deploys it under a name for the time of the run; remove takes it away again.
func (a *app) deployEcho(ctx context.Context, t target, name string, f benchFlags, make maker, timeout time.Duration) (e *echo, remove func(), err error) {
	defer a.progress("deploying an echo")()
	if e, err = makeEcho(ctx, f, make); err != nil {
		return nil, nil, err
	}
	c, err := t.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	d := deployment{name: name, runtime: e.runtime, handler: echoHandler, memoryMB: 128, timeout: timeout, pack: e.pack, given: unsaidHandler}
	if _, err := d.apply(ctx, c.Client); err != nil {
		c.Close()
		return nil, nil, err
	}
	return e, func() {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := c.DeleteFunction(ctx, name, ""); err != nil {
			a.complain("remove the echo %s: %v; `hearth rm %s` does it", name, err, name)
		}
	}, nil
}

// hop is the echo as hops run it.
func (e *echo) hop(payload []byte) *hopSpec {
	return &hopSpec{Zip: e.pack.Zip, SHA256: e.pack.SHA256, Runtime: e.runtime, Handler: echoHandler, Payload: payload}
}

// ownFabric is a `hearth up` in a process and a temporary folder of its own.
type ownFabric struct {
	*part
	target target
	folder string
}

// startOwnFabric starts one with so many places and further flags of up.
func startOwnFabric(ctx context.Context, driver string, places int, more ...string) (*ownFabric, error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the fabric: %w", err)
	}
	ready := filepath.Join(folder, "ready.json")
	p, err := startSelf(ctx, append([]string{"up", "--data", filepath.Join(folder, "data"), "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--driver", driver, "--capacity", strconv.Itoa(places), "--ready-file", ready, "--no-note", "--ephemeral"}, more...)...)
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

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/subjects"
)

// A fabric that is measured from inside too: one process as `hearth up` is, which tells how many goroutines it has and how much
// memory lives in it when it is asked. All else of it is read from outside.

// fabricSpec is what it is told.
type fabricSpec struct {
	Folder             string
	Managers, Capacity int
	Driver             string
	Set                map[string]string
	Telemetry          bool // as the standard variables say it, else it is left out
}

// fabricSight is what it tells when it is asked.
type fabricSight struct {
	Goroutines int   `json:"goroutines"`
	Heap       int64 `json:"heap"` // bytes that live, after a collection
}

// measuredDrain bounds its end: nothing that runs there is wanted any more.
const measuredDrain = 5 * time.Second

// benchFabric serves until standard input closes.
func (a *app) benchFabric(cmd *cobra.Command, in *bufio.Reader) (err error) {
	spec, err := readSpec[fabricSpec](in)
	if err != nil {
		return err
	}
	defer tune()()
	ctx := cmd.Context()
	cfg := deploy.Config{
		DataDir: filepath.Join(spec.Folder, "data"), Ephemeral: true, HTTP: "127.0.0.1:0", NATS: "127.0.0.1:0", Managers: spec.Managers,
		Capacity: spec.Capacity, Driver: spec.Driver, Set: spec.Set, Path: os.Getenv("PATH"), Build: thisBuild().String(),
		Logger: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if spec.Telemetry {
		end, err := a.observe(ctx, &cfg)
		if err != nil {
			return err
		}
		defer end()
	}
	fabric, err := startFabric(ctx, cfg)
	if err != nil {
		return startFailure(err)
	}
	defer func() { err = errors.Join(err, stopInOrder(ctx, fabric, measuredDrain)) }()
	if err := a.printJSON(note{HTTP: fabric.HTTPURL, NATS: fabric.NATSURL, Creds: fabric.CredsFile, PID: os.Getpid()}); err != nil {
		return err
	}
	for {
		if _, err := in.ReadString('\n'); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read what is asked: %w", err)
		}
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		if err := a.printJSON(fabricSight{runtime.NumGoroutine(), int64(memory.HeapAlloc)}); err != nil {
			return err
		}
	}
}

// measuredFabric is one of these.
type measuredFabric struct {
	*part
	target target
	folder string
}

func startMeasuredFabric(ctx context.Context, spec fabricSpec) (*measuredFabric, error) {
	folder, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the fabric: %w", err)
	}
	spec.Folder = folder
	return awaitMeasured(ctx, folder, "bench-fabric", spec)
}

// awaitMeasured starts a part that tells where it serves, with these variables of OpenTelemetry alone. Its folder is removed with it.
func awaitMeasured(ctx context.Context, folder, part string, spec any, env ...string) (*measuredFabric, error) {
	f := &measuredFabric{folder: folder}
	var err error
	if f.part, err = startPart(ctx, part, spec, env...); err != nil {
		_ = os.RemoveAll(folder)
		return nil, err
	}
	var n note
	line, err := f.line(ctx)
	if err == nil {
		err = json.Unmarshal(line, &n)
	}
	var names subjects.Names
	if err == nil {
		names, err = subjects.NewNames("")
	}
	if err != nil {
		f.stop()
		return nil, fmt.Errorf("start a fabric to measure: %w", err)
	}
	f.target = target{url: n.NATS, creds: n.Creds, names: names, note: &n}
	return f, nil
}

// look asks it for what is seen from inside alone.
func (f *measuredFabric) look(ctx context.Context) (s fabricSight, err error) {
	err = f.ask(ctx, struct{}{}, &s)
	return s, err
}

// stop ends it, waits, and removes what it left.
func (f *measuredFabric) stop() {
	f.part.stop()
	_ = os.RemoveAll(f.folder)
}

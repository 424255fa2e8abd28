package fleet_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/remote"
)

// A level that a manager is told reaches the workers that it has in other processes.
func TestLevelReachesWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	log, err := telemetry.NewLogger(io.Discard, telemetry.LogText, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	w := b.newWorker("w1", b.tcp("w1"), func(c *remote.Config) { c.Logger = log })
	if err := w.Remote.Start(withDeadline(t)); err != nil {
		t.Fatal(err)
	}
	b.awaitPlaces(8)
	b.fleet.SetLevel(&schema.LevelOrder{V: schema.Version, Level: "debug"})
	level := telemetry.LevelOf(log)
	natstest.Eventually(t, patience, func() bool { return level.Level() == slog.LevelDebug }, "the worker logs from debug on")
}

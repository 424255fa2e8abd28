package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
)

// What a killed process left is removed by the next start; what one that lives tells, or somebody else's file, is not.
func TestReadyFile(t *testing.T) {
	t.Parallel()
	gone := exec.Command(os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	file := readyFile(filepath.Join(t.TempDir(), "ready.json"))
	for content, stays := range map[string]bool{
		fmt.Sprintf(`{"pid":%d}`, gone.Process.Pid): false,
		fmt.Sprintf(`{"pid":%d}`, os.Getpid()):      false, // of the life before, in a container
		fmt.Sprintf(`{"pid":%d}`, os.Getppid()):     true,
		`{}`:                                        true,
		"somebody's":                                true,
	} {
		writeFile(t, string(file), content)
		if err := file.clear(); err != nil {
			t.Errorf("%s: %v", content, err)
		}
		if _, err := os.Stat(string(file)); err == nil != stays {
			t.Errorf("%s: %v", content, err)
		}
	}
	if err := readyFile(filepath.Join(t.TempDir(), "none", "ready.json")).clear(); err == nil || !strings.Contains(err.Error(), "make it") {
		t.Errorf("a folder that is not there: %v", err)
	}
	withdraw, err := file.write(nodeReady{ID: "m1", PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, string(file), `{"id":"its successor"}`)
	if err := withdraw(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(string(file)); err != nil {
		t.Errorf("the file of its successor: %v", err)
	}
	if withdraw, err := readyFile("").write(nodeReady{}); err != nil || withdraw() != nil || readyFile("").clear() != nil {
		t.Errorf("no file was asked for: %v", err)
	}
}

// An orderly stop takes the ready file away: of a whole fabric, and of a role.
func TestReadyFileGoesAtTheStop(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready.json")
	stopped := func(what string, stop func() result) {
		t.Helper()
		if _, err := os.Stat(ready); err != nil {
			t.Errorf("%s: while it serves: %v", what, err)
		}
		if got := stop(); got.code != exitOK {
			t.Errorf("%s: exit %d: %s", what, got.code, got.stderr)
		}
		if _, err := os.Stat(ready); !os.IsNotExist(err) {
			t.Errorf("%s: after the stop: %v", what, err)
		}
	}
	stopped("up", up(t, "--driver", "null", "--capacity", "1", "--ready-file", ready).stop)
	server := natstest.Start(t, natstest.Bare())
	stopped("manager", startRole(t, "--server", server.URL, "manager", "--data", filepath.Join(t.TempDir(), "data"), "--driver", "null",
		"--capacity", "1", "--ready-file", ready).stop)
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	a := surroundings{}.app(t)
	if running, err := a.notes(); err != nil || len(running) != 0 {
		t.Fatalf("of nothing: %v, %v", running, err)
	}
	now := time.Now().UTC()
	mine := note{NATS: "nats://127.0.0.1:5555", Creds: "/data/admin.nk", PID: os.Getpid(), Started: now}
	remove, err := a.leaveNote(mine)
	if err != nil {
		t.Fatal(err)
	}
	older := note{NATS: "nats://127.0.0.1:6666", PID: os.Getppid(), Started: now.Add(-time.Hour)}
	if _, err := a.leaveNote(older); err != nil {
		t.Fatal(err)
	}
	// One whose process is gone, and files that are no notes.
	gone := exec.Command(os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.leaveNote(note{NATS: "nats://127.0.0.1:7777", PID: gone.Process.Pid, Started: now}); err != nil {
		t.Fatal(err)
	}
	folder, err := a.notesFolder()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"x.json": "{}", strconv.Itoa(1<<30) + ".json": "garbage", "1.json": `{"pid":2}`} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, err := a.notes()
	if err != nil || len(running) != 2 || running[0].NATS != mine.NATS || running[1].NATS != older.NATS {
		t.Fatalf("running: %+v, %v", running, err)
	}
	if _, err := os.Stat(filepath.Join(folder, strconv.Itoa(gone.Process.Pid)+".json")); !os.IsNotExist(err) {
		t.Errorf("the note of a process that is gone stayed: %v", err)
	}
	info, err := os.Stat(filepath.Join(folder, strconv.Itoa(os.Getpid())+".json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a note names a credential: %v, %v", info.Mode(), err)
	}
	remove()
	if running, err = a.notes(); err != nil || len(running) != 1 {
		t.Errorf("after it was removed: %+v, %v", running, err)
	}
}

func TestPickNote(t *testing.T) {
	t.Parallel()
	here := note{NATS: "nats://127.0.0.1:4222", Creds: "here"}
	there := note{NATS: "nats://127.0.0.1:9999", Creds: "there"}
	other := note{NATS: "nats://127.0.0.1:8888", Creds: "other", Prefix: "second"}
	for name, c := range map[string]struct {
		running                  []note
		server                   string
		serverGiven, prefixGiven bool
		want                     string // its Creds
		refused                  bool
	}{
		"nothing runs":                  {nil, defaultServer, false, false, "", false},
		"at the default address":        {[]note{there, here}, defaultServer, false, false, "here", false},
		"elsewhere":                     {[]note{there}, defaultServer, false, false, "there", false},
		"two elsewhere":                 {[]note{there, other}, defaultServer, false, false, "", true},
		"two elsewhere, prefix given":   {[]note{there, other}, defaultServer, false, true, "there", false},
		"the server given":              {[]note{here, there}, "localhost:9999", true, false, "there", false},
		"a strange server given":        {[]note{here, there}, "nats://example.com:4222", true, false, "", false},
		"default given, nothing there":  {[]note{there}, defaultServer, true, false, "", false},
		"default port is left out":      {[]note{here}, "nats://localhost", true, false, "here", false},
		"IPv6 loopback is this host":    {[]note{there}, "nats://[::1]:9999", true, false, "there", false},
		"another port on the same host": {[]note{there}, "nats://127.0.0.1:9998", true, false, "", false},
	} {
		got, err := pickNote(c.running, c.server, c.serverGiven, "hearth", c.prefixGiven)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
		creds := ""
		if got != nil {
			creds = got.Creds
		}
		if creds != c.want {
			t.Errorf("%s: picked %q, want %q", name, creds, c.want)
		}
	}
}

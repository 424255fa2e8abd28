package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// note is what a running `hearth up` leaves for client commands of the same user: where it serves, and the file of the
// admin's credential. Its readers trust it because its folder is theirs alone.
type note struct {
	HTTP    string    `json:"http"`
	NATS    string    `json:"nats"`
	Creds   string    `json:"creds"`
	PID     int       `json:"pid"`
	Prefix  string    `json:"prefix,omitempty"`
	Started time.Time `json:"started"`

	AllowLocal []string `json:"allow_local,omitempty"` // what `hearth doctor` says of it
}

// notesFolder is where the running fabrics of this user are noted.
func (a *app) notesFolder() (string, error) {
	config, err := a.configDir()
	if err != nil {
		return "", fmt.Errorf("find this user's config folder: %w", err)
	}
	return filepath.Join(config, "hearth", "fabrics"), nil
}

// leaveNote writes the note of this process; remove takes it away again.
func (a *app) leaveNote(n note) (remove func(), err error) {
	folder, err := a.notesFolder()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("note the running fabric: %w", err)
	}
	file := filepath.Join(folder, strconv.Itoa(n.PID)+".json")
	if err := writeAtomically(file, n); err != nil {
		return nil, fmt.Errorf("note the running fabric: %w", err)
	}
	return func() { _ = os.Remove(file) }, nil
}

// notes are the running fabrics of this user, the newest first. What a killed one left behind is removed.
func (a *app) notes() ([]note, error) {
	folder, err := a.notesFolder()
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the notes of running fabrics: %w", err)
	}
	var running []note
	for _, file := range files {
		name := filepath.Join(folder, file.Name())
		content, err := os.ReadFile(name)
		var n note
		if err != nil || json.Unmarshal(content, &n) != nil || strconv.Itoa(n.PID)+".json" != file.Name() {
			continue // not ours, or just being removed
		}
		if !alive(n.PID) {
			_ = os.Remove(name)
			continue
		}
		at := len(running)
		for at > 0 && running[at-1].Started.Before(n.Started) {
			at--
		}
		running = append(running[:at], append([]note{n}, running[at:]...)...)
	}
	return running, nil
}

// alive reports whether a process exists, whoever owns it.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, syscall.EPERM)
}

// sameServer reports whether two URLs name one server of this host: scheme and spelling of loopback aside.
func sameServer(a, b string) bool { return hostPort(a) == hostPort(b) }

func hostPort(s string) string {
	if !strings.Contains(s, "://") {
		s = "nats://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "4222"
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "loopback"
	}
	return net.JoinHostPort(host, port)
}

// writeAtomically writes JSON into a file that only its owner reads; a reader sees all of it or nothing.
func writeAtomically(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(content, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

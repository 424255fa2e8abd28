package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a terminal at which these lines have been typed.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if _, err := master.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return tty
}

// What takes something away asks once on a terminal, and nowhere else (CLI, Habits).
func TestDestructiveCommandsAsk(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, line, typed string) result {
		t.Helper()
		var stdout, stderr buffer
		a := surroundings{}.app(t)
		a.stdout, a.stderr = &stdout, &stderr
		if typed != "" {
			a.stdin = terminal(t, typed)
		}
		code := a.run(t.Context(), append(strings.Fields(line), "--server", nobody))
		return result{code, stdout.String(), stderr.String()}
	}
	for line, question := range map[string]string{
		"reserve count:1 --delete":              "End the reservation of count:1? [y/N] ",
		"limit count --delete":                  "Take the limit of count away? [y/N] ",
		"limit count --per-tenant --delete":     "Take the limit of each sub-tenant of count away? [y/N] ",
		"drain m1":                              "Take manager m1 off the ring? [y/N] ",
		"deadletters rm --all":                  "Remove all dead letters? [y/N] ",
		"deadletters redrive --all --json":      "Redrive all dead letters? [y/N] ",
		"deadletters redrive --function count":  "",
		"drain m1 --cancel":                     "",
		"limit count 3":                         "",
		"limit count":                           "",
		"reserve count:1 3":                     "",
		"reserve count:1 --delete --yes":        "",
		"limit count --delete -y":               "",
		"limit count --per-tenant --delete -y":  "",
		"drain m1 --yes":                        "",
		"deadletters rm --function count --yes": "",
	} {
		t.Run(line, func(t *testing.T) {
			if question != "" {
				if r := run(t, line, "no\n"); r.code != exitUsage || r.stdout != "" || !strings.HasPrefix(r.stderr, question+"hearth: nothing was done") {
					t.Errorf("who says no: exit %d: %q", r.code, r.stderr)
				}
			}
			if r := run(t, line, "y\n"); r.code != exitUnreachable || !strings.HasPrefix(r.stderr, question+"hearth: ") {
				t.Errorf("who says yes: exit %d: %q, want %q", r.code, r.stderr, question)
			}
			if r := run(t, line, ""); r.code != exitUnreachable || strings.Contains(r.stderr, "[y/N]") {
				t.Errorf("without a terminal: exit %d: %q", r.code, r.stderr)
			}
		})
	}
}

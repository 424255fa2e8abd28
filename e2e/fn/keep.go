package main

import (
	"errors"
	"io"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"syscall"
)

// lasting is where a thread of this program tells what it was left with, while the program lasts.
const lasting = "127.0.0.1:7117"

// last begins a thread that is never given back, and that has a connection open to itself beside what it listens to.
func last(word string) error {
	l, err := net.Listen("tcp", lasting)
	if err != nil {
		return err
	}
	own, err := net.Dial("tcp", lasting) // waits to be accepted
	if err != nil {
		return err
	}
	go func() { // ends with the program
		defer own.Close() // one that nobody refers to is closed by the collector
		goruntime.LockOSThread()
		var open net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if open == nil {
				open = conn // the first one stays
				continue
			}
			_, _ = io.WriteString(conn, word)
			_ = conn.Close()
		}
	}()
	return nil
}

// stays is the argument by which this program becomes a process that stays, and its socket's name, which no file has.
const stays = "stays"

// keep leaves a word wherever a function can, and gives what was left before. All of it is the environment's own.
func (r *runtime) keep(word string) (before []string) {
	for _, file := range []string{"/tmp/kept", "/dev/shm/kept"} {
		b, _ := os.ReadFile(file)
		before = append(before, strings.Fields(string(b))...)
		if err := os.WriteFile(file, append(b, word+"\n"...), 0o600); err != nil && !errors.Is(err, os.ErrNotExist) { // of /dev/shm
			before = append(before, err.Error())
		}
	}
	before = append(before, r.kept...)
	r.kept = append(r.kept, word)
	if conn, err := net.Dial("tcp", lasting); err == nil {
		b, _ := io.ReadAll(conn)
		_ = conn.Close()
		before = append(before, strings.Fields(string(b))...)
	} else if err := last(word); err != nil {
		before = append(before, err.Error())
	}
	if conn, err := net.Dial("unix", "@"+stays); err == nil {
		b, _ := io.ReadAll(conn)
		_ = conn.Close()
		return append(before, string(b))
	}
	if err := detach(word); err != nil {
		before = append(before, err.Error())
	}
	return before
}

// detach begins a process in a session of its own that outlives the call, and waits until it listens.
func detach(word string) error {
	listens, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer listens.Close()
	_, err = os.StartProcess(os.Args[0], []string{os.Args[0], stays, word}, &os.ProcAttr{
		Files: []*os.File{nil, out}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	_ = out.Close()
	if err != nil {
		return err
	}
	_, err = io.ReadAll(listens)
	return err
}

// stay tells the word to everybody who asks, for good.
func stay(word string) {
	l, err := net.Listen("unix", "@"+stays)
	_ = os.Stdout.Close()
	if err != nil {
		os.Exit(1)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		_, _ = io.WriteString(conn, word)
		_ = conn.Close()
	}
}

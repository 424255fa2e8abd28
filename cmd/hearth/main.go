// Command hearth is every role of a fabric and every chore about it: `hearth --help` lists them.
//
// It holds flags, printing and exit codes, one file a command, and decides nothing about calls: client commands speak
// through package client alone, `up` and `demo` through package deploy. CLI is the contract of its names, codes and JSON.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hearth-run/hearth/worker/driver/process"
	"github.com/hearth-run/hearth/worker/egress"
	"github.com/hearth-run/hearth/worker/unpack"
)

func main() {
	unpack.Main()
	egress.Main()
	process.Main() // the re-executed half of an environment never comes back from here
	ctx, stop := untilInterrupted(context.Background())
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole command for one list of arguments, without the name. It is what tests call.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, lookup: os.LookupEnv, configDir: os.UserConfigDir}
	return a.run(ctx, args)
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// untilInterrupted ends the context at the first SIGINT or SIGTERM, and the process at the second: whoever asks twice
// does not want to wait for anything in order. stop gives the signals back and waits.
func untilInterrupted(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // owned by stop
		defer close(ended)
		for first := true; ; first = false {
			select {
			case <-done:
				return
			case <-signals:
				if !first {
					os.Exit(exitInterrupted)
				}
				cancel(errInterrupted)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

package process

import (
	"encoding/json"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/sourcegraph/conc"
)

// The pipe from worker to keeper carries JSON values; the keeper says keeperReady once, when it ignores signals and reads.
//
//	worker                                        keeper
//	  | begin {id, uid, scratch}, before its start   |
//	  | started {.., session}                        |
//	  | end {id}, when nothing of it is left         |
//	  +-- pipe ends, however the worker died ------->| kills what is left, removes folders, exits
type message struct {
	Op string `json:"op"`
	belongings
}

const (
	opBase    = "base" // first: Scratch is where all scratch folders lie
	opBegin   = "begin"
	opStarted = "started"
	opEnd     = "end"

	keeperReady = "ready\n"
)

// keep is the keeper: it remembers the environments it is told of, and ends those that are left when the pipe does.
func keep(in io.Reader, out io.WriteCloser) {
	// It ends with the worker and by nothing else; a terminal or an init system that stops both at once must not win.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE)
	_, _ = io.WriteString(out, keeperReady)
	_ = out.Close()
	live := map[string]belongings{}
	base := ""
	for messages := json.NewDecoder(in); ; {
		var m message
		if messages.Decode(&m) != nil {
			break
		}
		switch m.Op {
		case opBase:
			base = m.Scratch
		case opBegin, opStarted:
			live[m.Scratch] = m.belongings
		case opEnd:
			delete(live, m.Scratch)
		}
	}
	if base != "" {
		endAll(base, live)
	}
}

// endAll does for a worker that is gone what it would have done itself.
func endAll(base string, live map[string]belongings) {
	for _, b := range live {
		b.killSession()
	}
	sweeper := newSweeper(base, slog.New(slog.DiscardHandler))
	var wg conc.WaitGroup
	for _, b := range live {
		wg.Go(func() { sweeper.clear(b) })
	}
	wg.Wait()
	_ = removeScratch(base)
}

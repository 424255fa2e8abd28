package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/sourcegraph/conc"
)

// Times of talking to the keeper.
const (
	keeperStart = beginWait              // until it must be ready
	keeperWrite = 5 * time.Second        // until a message must be in its pipe
	keeperPause = 500 * time.Millisecond // before one that ended by itself is replaced again
)

var errGuardStopped = errors.New("the keeper was stopped")

// guard is the worker's side of the keeper: it starts it, tells it of every environment, and replaces it if it dies. One
// goroutine owns all of it.
type guard struct {
	log      *slog.Logger
	requests chan request
	stopping chan struct{}
	stopped  chan struct{} // closed by run
	asked    chan chan int // for the keeper's number; tests kill it

	// Owned by run.
	base   string
	held   []*os.File // locks that the keeper holds too
	live   map[string]belongings
	keeper *keeperProcess
}

type request struct {
	message
	done chan error // buffered
}

// keeperProcess is one keeper.
type keeperProcess struct {
	pid  int
	pipe io.WriteCloser
	dead chan struct{}
}

// number is the keeper's process, 0 if there is none.
func (k *keeperProcess) number() int {
	if k == nil {
		return 0
	}
	return k.pid
}

func (g *guard) init(log *slog.Logger) {
	g.log = log
	g.requests = make(chan request)
	g.stopping = make(chan struct{})
	g.stopped = make(chan struct{})
	g.asked = make(chan chan int)
	g.live = map[string]belongings{}
}

// start starts the keeper and the goroutine that talks to it.
func (g *guard) start(wg *conc.WaitGroup, base string, held []*os.File) error {
	g.base, g.held = base, held
	if err := g.replace(); err != nil {
		return err
	}
	wg.Go(g.run)
	return nil
}

// tell returns when the message is in the keeper's pipe: it will act on it even if the worker is killed the next moment.
func (g *guard) tell(ctx context.Context, m message) error {
	r := request{m, make(chan error, 1)}
	select {
	case g.requests <- r:
	case <-g.stopped:
		return errGuardStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return <-r.done
}

// stop ends the keeper. Nothing must be left by then.
func (g *guard) stop() { close(g.stopping) }

func (g *guard) run() {
	defer close(g.stopped)
	for {
		var dead <-chan struct{}
		if g.keeper != nil {
			dead = g.keeper.dead
		}
		select {
		case r := <-g.requests:
			r.done <- g.handle(r.message)
		case answer := <-g.asked:
			answer <- g.keeper.number()
		case <-dead:
			g.keeper = nil
			g.log.Error("the keeper of environments ended; it is started again")
			select {
			case <-time.After(keeperPause):
			case <-g.stopping:
			}
			if err := g.replace(); err != nil {
				g.log.Error("environments have no keeper: they may outlive a worker that is killed", "error", err)
			}
		case <-g.stopping:
			if g.keeper != nil {
				_ = g.keeper.pipe.Close()
				<-g.keeper.dead
			}
			return
		}
	}
}

// handle remembers what the message says and passes it on; a keeper that does not take it is replaced.
func (g *guard) handle(m message) error {
	switch m.Op {
	case opEnd:
		delete(g.live, m.Scratch)
	default:
		g.live[m.Scratch] = m.belongings
	}
	if g.keeper != nil && g.keeper.write(m) == nil {
		return nil
	}
	return g.replace()
}

// replace starts a keeper and tells it all there is.
func (g *guard) replace() error {
	if g.keeper != nil {
		_ = g.keeper.pipe.Close()
		g.keeper = nil
	}
	k, err := startKeeper(g.held)
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	told := k.write(message{Op: opBase, belongings: belongings{Scratch: g.base}})
	for _, b := range g.live {
		if told == nil {
			told = k.write(message{Op: opStarted, belongings: b})
		}
	}
	if told != nil {
		_ = k.pipe.Close()
		return fmt.Errorf("tell the keeper: %w", told)
	}
	g.keeper = k
	return nil
}

// startKeeper runs this program as keeper, in a session of its own, so that nothing that is sent to the worker's group
// reaches it.
func startKeeper(held []*os.File) (*keeperProcess, error) {
	path, err := again()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, keeperArgument)
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.ExtraFiles = held
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &keeperProcess{pid: cmd.Process.Pid, pipe: in, dead: make(chan struct{})}
	ready := waitReady(out)
	// It ends when its pipe is closed or when somebody kills it: whoever holds k waits for dead, or has closed the pipe.
	go func() {
		_ = cmd.Wait()
		close(k.dead)
	}()
	if ready != nil {
		_ = in.Close()
		_ = cmd.Process.Kill()
		<-k.dead
		return nil, fmt.Errorf("it did not become ready (does the program call process.Main first?): %w", ready)
	}
	return k, nil
}

// waitReady waits for the first line of a keeper.
func waitReady(out io.Reader) error {
	if f, ok := out.(*os.File); ok {
		_ = f.SetReadDeadline(time.Now().Add(keeperStart))
	}
	line, err := bufio.NewReaderSize(out, 64).ReadString('\n')
	if err == nil && line != keeperReady {
		err = fmt.Errorf("it said %.40q", line)
	}
	return err
}

func (k *keeperProcess) write(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if f, ok := k.pipe.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = f.SetWriteDeadline(time.Now().Add(keeperWrite))
	}
	_, err = k.pipe.Write(append(b, '\n'))
	return err
}

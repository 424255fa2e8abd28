package process

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Times of a sweep.
const (
	sweepFor     = 10 * time.Second // then what is left is given up: the kernel itself holds it
	sweepFirst   = time.Millisecond
	sweepAtMost  = 50 * time.Millisecond
	hammerRounds = 4 // rounds that find somebody, before everything of the uid is killed in one call
)

var errNoCensus = errors.New("this system does not list processes")

// belongings is how the processes of an environment are known, to the worker and to the keeper.
type belongings struct {
	ID      string `json:"id"`
	UID     uint32 `json:"uid,omitempty"`     // 0: the worker's own
	Session int    `json:"session,omitempty"` // number of the main process; 0 before Start
	Scratch string `json:"scratch"`
}

// resident is a living process that may belong to an environment.
type resident struct {
	pid, group, session int
	uid                 uint32
	scratch             string // name of the scratch folder in its variables
}

// own tells whether a resident belongs to the environment.
func (b belongings) own(r *resident) bool {
	if b.UID != 0 {
		return r.uid == b.UID
	}
	return b.Session != 0 && (r.session == b.Session || r.group == b.Session) || r.scratch == filepath.Base(b.Scratch)
}

// sweeper ends what is left of environments. Safe for concurrent use.
type sweeper struct {
	base string // where scratch folders lie
	log  *slog.Logger

	one  sync.Mutex // one census at a time
	mu   sync.Mutex
	next *census // of those who wait for the present one to end
}

// census is one reading of the processes, shared by all who asked before it began.
type census struct {
	done  chan struct{}
	found []resident
	err   error
}

func newSweeper(base string, log *slog.Logger) *sweeper { return &sweeper{base: base, log: log} }

// take returns a census that began after the call.
func (s *sweeper) take() ([]resident, error) {
	s.mu.Lock()
	c := s.next
	mine := c == nil
	if mine {
		c = &census{done: make(chan struct{})}
		s.next = c
	}
	s.mu.Unlock()
	if !mine {
		<-c.done
		return c.found, c.err
	}
	s.one.Lock()
	defer s.one.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	c.found, c.err = takeCensus(s.base)
	close(c.done)
	return c.found, c.err
}

// clear kills every process of an environment and returns when none is left; false if some cannot be ended.
func (s *sweeper) clear(b belongings) bool {
	deadline := time.Now().Add(sweepFor)
	for round, pause := 0, sweepFirst; ; round, pause = round+1, min(2*pause, sweepAtMost) {
		left, err := s.kill(b)
		switch {
		case errors.Is(err, errNoCensus):
			return b.UID == 0 || killUser(b.UID) == nil
		case err == nil && left == 0:
			return true
		case time.Now().After(deadline):
			s.log.Error("processes of an environment cannot be ended", "environment", b.ID, "uid", b.UID, "processes", left, "error", err)
			return false
		case round >= hammerRounds && b.UID != 0:
			if err := killUser(b.UID); err != nil {
				s.log.Warn("processes of an environment fork faster than they are found", "environment", b.ID, "uid", b.UID, "error", err)
			}
		}
		<-time.After(pause)
	}
}

// kill takes a census, kills what belongs to the environment, and tells how many those were.
func (s *sweeper) kill(b belongings) (found int, err error) {
	residents, err := s.take()
	for i := range residents {
		if r := residents[i]; b.own(&r) {
			r.kill()
			found++
		}
	}
	return found, err
}

// killSession kills the session of an environment whose main process may be gone.
func (b belongings) killSession() {
	if b.Session > 1 {
		_ = syscall.Kill(-b.Session, syscall.SIGKILL)
	}
}

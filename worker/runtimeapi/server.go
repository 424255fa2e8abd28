package runtimeapi

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/schema"
)

// Config is what a server knows about its environment. It does not change while the server lives.
type Config struct {
	ARN            string  // of the function, without a qualifier
	Function       string  // told to extensions
	Version        string  // told to extensions
	Handler        string  // told to extensions
	Account        string  // told to extensions that ask for it
	MaxAnswer      int     // bytes of an answer; 0 means [schema.MaxAnswer]
	MaxConnections int     // at once, more are refused; 0 means 16 (Lambda's Node client uses five)
	Budget         *Budget // of the worker; nil means none
	Events         Events  // who is told

	// Host is the authority by which the runtime reaches the server (AWS_LAMBDA_RUNTIME_API), and TokenAuth the environment's
	// secret: who asks for a token has to know both. Without a TokenAuth there is no such path.
	Host      string
	TokenAuth string
	// Token gives the token of the sub-tenant that the environment is bound to. It may wait, as long as ctx lets it. Errors:
	// [ErrGeneric], [ErrNoAudience]; any other one is not told to the function.
	Token func(ctx context.Context) (schema.Token, error)
}

// Events is who a server tells what the runtime did. The calls come on the goroutines of connections, one at a time for
// one call; they must not wait for the runtime. They may call [Server.Start].
type Events interface {
	// Parked: the runtime asks for a call. First is true for the first time, the end of the init. It is not called where
	// [Answer].Parked told it.
	Parked(first bool)
	// Answered: the call that was started has its answer. It is called at most once a call, before the runtime hears the
	// status of its request. The answer is valid until Answered returns.
	Answered(a *Answer)
	// InitFailed: the runtime reported that its init failed. The failure is the callee's to keep.
	InitFailed(failure *schema.FunctionError)
}

// Answer is what the runtime posted for a call.
type Answer struct {
	Payload     []byte
	ContentType string
	Error       *schema.FunctionError // nil: Payload is the function's answer
	Parked      bool                  // it asks for the next call already
	Broken      bool                  // the answer was cut off: what the runtime does next cannot be relied on
}

// Errors of [Server.Start].
var (
	ErrClosed = errors.New("runtime api: closed")
	ErrBusy   = errors.New("runtime api: a call runs already")
	ErrHeader = errors.New("runtime api: a value of the call cannot stand in a header")
)

// Errors of [Config].Token.
var (
	ErrGeneric    = errors.New("runtime api: the environment is bound to nobody")
	ErrNoAudience = errors.New("runtime api: the function has no audience")
)

// Server speaks the Runtime API to one environment. Make it with [New], give it the environment's listener with
// [Server.Serve], end it with [Server.Close]. Safe for concurrent use.
type Server struct {
	cfg        Config
	state      state
	extensions extensions
	tokens     tokens
	done       chan struct{}   // closed by Close
	life       context.Context // ends with it
	end        context.CancelCauseFunc
	wg         conc.WaitGroup

	mu          sync.Mutex
	closed      bool
	listeners   []net.Listener
	connections map[*connection]struct{}
}

// New makes a server; it starts nothing.
func New(cfg Config) *Server {
	cfg.MaxAnswer = cmp.Or(cfg.MaxAnswer, schema.MaxAnswer)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 16)
	s := &Server{cfg: cfg, done: make(chan struct{}), connections: map[*connection]struct{}{}}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// Serve begins to take connections from l and returns at once. Close closes l.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = l.Close()
		return
	}
	s.listeners = append(s.listeners, l)
	s.wg.Go(func() { s.accept(l) })
}

// Close ends every connection, waits for their goroutines and then for nothing else: a call that runs stays unanswered.
// It must not be called from a callback of [Events]. Safe twice.
func (s *Server) Close() {
	s.Sever()
	s.wg.Wait()
}

// Sever is [Server.Close] that does not wait.
func (s *Server) Sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.state.close()
	close(s.done)
	s.end(ErrClosed)
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.connections {
		_ = c.conn.Close()
	}
}

// Drain waits until every connection has ended by itself, because the environment's processes are gone, or until the time
// is over: then everything that they wrote has been read.
func (s *Server) Drain(atMost time.Duration) {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		left := len(s.connections)
		s.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			return
		case <-s.done:
			return
		}
	}
}

func (s *Server) accept(l net.Listener) {
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		if err == nil {
			wait = 0
			s.take(conn)
			continue
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return
		}
		// Out of descriptors, for instance: they come back, the listener does not.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-s.done:
			return
		}
	}
}

func (s *Server) take(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.connections) >= s.cfg.MaxConnections {
		_ = conn.Close()
		return
	}
	c := newConnection(s, conn)
	s.connections[c] = struct{}{}
	s.wg.Go(func() {
		defer s.drop(c)
		c.serve()
	})
}

// spawn runs f on a goroutine that Close waits for; it reports false when it is too late for one.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// drop forgets a connection that has ended.
func (s *Server) drop(c *connection) {
	_ = c.conn.Close()
	s.state.forget(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
}

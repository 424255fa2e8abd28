package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// natsServer is where the roles of this process connect: the embedded one, or another.
type natsServer struct {
	embedded *embedded // nil: another
	url      string
	creds    string // of another server; "" for none
	dial     Dial   // to another server, instead of these; may be nil
	log      *slog.Logger
	servers  servers

	// denied is told what another server does not let a role do: it says so on the side, and requests go unanswered.
	denied func(error)
}

// writeTime is how long a server may take nothing of what is written to it: as long as the pings that go unanswered.
const writeTime = 10 * time.Second

// connect makes a connection for a role. Its own requests are answered below inbox, which the role's rights name. It
// reconnects for ever.
func (s *natsServer) connect(ctx context.Context, l login, inbox string) (*nats.Conn, error) {
	nc, _, err := s.connectWatched(ctx, l, inbox)
	return nc, err
}

// connectWatched is connect. next gives a channel that is closed once the connection is written to after that; it is nil where another
// server is connected, whose sockets do not tell.
func (s *natsServer) connectWatched(ctx context.Context, l login, inbox string) (nc *nats.Conn, next func() <-chan struct{}, err error) {
	patience := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline))
	}
	log := s.log.With("connection", l.name)
	options := []nats.Option{
		nats.Name("hearth " + l.name), nats.CustomInboxPrefix(inbox), nats.Timeout(patience),
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 500*time.Millisecond),
		nats.IgnoreAuthErrorAbort(), // a server that starts may not know its users yet
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS connection", "subject", subject, "error", err)
			if s.denied != nil && errors.Is(err, nats.ErrPermissionViolation) {
				s.denied(&schema.Error{Code: schema.CodeAccessDenied, Cause: err, Message: fmt.Sprintf(
					"NATS server %s does not let these credentials be %s (%v): name others by --creds (`hearth credential %s` makes some)",
					s.url, l.name, err, l.name)})
			}
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("NATS connection is back", "server", nc.ConnectedUrlRedacted()) }),
	}
	if s.embedded != nil {
		// It has no peer that hangs apart from this process: a deadline for each write would save nothing.
		inside := &inProcess{embedded: s.embedded}
		nc, err := nats.Connect(s.url, append(options, nats.InProcessServer(inside), nats.FlusherTimeout(0), l.option())...)
		if err != nil {
			return nil, nil, fmt.Errorf("connect %s to the embedded NATS server: %w", l.name, err)
		}
		return nc, inside.writes.Next, nil
	}
	// A server that hangs is noticed only by its silence, or, where more is written than the socket takes, by that: the connection is locked
	// meanwhile, for pings too.
	options = append(options, nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTime), nats.ReconnectOnFlusherError())
	if s.dial != nil {
		nc, err := s.dial(options...)
		if err != nil {
			return nil, nil, fmt.Errorf("connect %s: %w", l.name, err)
		}
		s.servers.add(nc)
		return nc, nil, nil
	}
	c, err := client.Connect(ctx, client.Options{URL: s.url, Creds: s.creds, NATS: options})
	if err != nil {
		return nil, nil, fmt.Errorf("connect %s: %w", l.name, err)
	}
	s.servers.add(c.Conn())
	return c.Conn(), nil, nil
}

// disconnect closes a connection and waits until its goroutines have ended, or ctx.
func disconnect(ctx context.Context, nc *nats.Conn) {
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	if nc.IsClosed() {
		return // it tells nobody any more
	}
	nc.Close()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

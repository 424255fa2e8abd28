package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/subjects"
)

// Limits of the embedded server. Every stream promises its bound when it is made, so the sums lie above what all
// streams of a fabric may promise; memory is taken only as it is used.
const (
	maxPayload = 8 << 20
	maxMemory  = 64 << 30
	maxStore   = 64 << 30
	maxPending = 512 << 20 // of one connection: eighty answers of 6 MiB
)

// embedded is the NATS server of this process.
type embedded struct {
	server *server.Server
	log    *slog.Logger
	keys   map[string]nkeys.KeyPair // by role's user; they live as long as the process
}

// role is one of the fabric's own connections.
type role struct {
	user   string
	inbox  string // prefix of its request inboxes
	rights rights
}

func frontendRole(n subjects.Names, id string) role {
	return role{"frontend-" + id, subjects.FrontendInbox(id, "rq"), frontendRights(n, id)}
}

func managerRole(n subjects.Names, id string) role {
	return role{"manager-" + id, subjects.ManagerInbox(id, "rq"), managerRights(n, id)}
}

// startEmbedded starts the server with a user for each role, the admin's nkey, and on loopback an anonymous client.
func startEmbedded(ctx context.Context, cfg *Config, n subjects.Names, admin nkeys.KeyPair, roles []role) (*embedded, error) {
	host, port, err := splitAddress("NATS", cfg.NATS)
	if err != nil {
		return nil, err
	}
	public, err := admin.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the admin's key: %w", err)
	}
	e := &embedded{log: cfg.Logger, keys: map[string]nkeys.KeyPair{}}
	opts := &server.Options{
		ServerName: n.Prefix(), Host: host, Port: port, JetStream: true, StoreDir: filepath.Join(cfg.DataDir, "nats"),
		JetStreamMaxMemory: maxMemory, JetStreamMaxStore: maxStore, MaxPayload: maxPayload, MaxPending: maxPending,
		NoSigs: true,
		Nkeys:  []*server.NkeyUser{{Nkey: public, Permissions: adminRights(n).permissions()}},
	}
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	for _, r := range roles {
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", r.user, err)
		}
		if public, err = key.PublicKey(); err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", r.user, err)
		}
		e.keys[r.user] = key
		opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: public, Permissions: r.rights.permissions()})
	}
	if cfg.Anonymous && loopback(host) {
		nobody, err := unknownPassword()
		if err != nil {
			return nil, err
		}
		opts.Users = append(opts.Users, &server.User{
			Username: "client", Password: nobody, Permissions: clientRights(n, subjects.DefaultAccount).permissions(),
		})
		opts.NoAuthUser = "client"
	}
	if err := free(opts.Host, port); err != nil {
		return nil, fmt.Errorf("listen for NATS on %s: %w; stop what runs there, or choose another address with --nats (port 0 "+
			"picks a free one), or use that server with --server", cfg.NATS, err)
	}
	if e.server, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("make the embedded NATS server: %w", err)
	}
	e.server.SetLoggerV2(natsLog{cfg.Logger}, false, false, false)
	e.server.Start()
	if !e.server.ReadyForConnections(serverStartTime) {
		e.stop()
		return nil, fmt.Errorf("the embedded NATS server was not ready within %v; its log says why", serverStartTime)
	}
	return e, nil
}

// connect is a role's connection, in-process.
func (e *embedded) connect(r role) (*nats.Conn, error) {
	key := e.keys[r.user]
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", r.user, err)
	}
	return nats.Connect("", append(roleOptions(r, e.log), nats.InProcessServer(e.server), nats.Nkey(public, key.Sign))...)
}

// roleOptions are those of every connection of the fabric itself: it comes back for ever.
func roleOptions(r role, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(r.user), nats.CustomInboxPrefix(r.inbox), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(false),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Warn("NATS connection", "role", r.user, "subject", subject, "error", err)
		}),
	}
}

func (e *embedded) url() string {
	addr, ok := e.server.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return (&url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(addr.Port))}).String()
}

func (e *embedded) stop() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// free reports why an address cannot be listened on; the server itself would end the process.
func free(host string, port int) error {
	if port == 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

func splitAddress(field, address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err == nil && (port < 0 || port > 65535) {
		err = errors.New("no such port")
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s address %q: want HOST:PORT, as in 127.0.0.1:4222: %w", field, address, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// natsLog gives the server's words to slog. Its notices tell nothing about Hearth and go to debug.
type natsLog struct{ log *slog.Logger }

func (l natsLog) Noticef(f string, v ...any) {
	l.log.Debug("nats-server", "text", fmt.Sprintf(f, v...))
}
func (l natsLog) Warnf(f string, v ...any)  { l.log.Warn("nats-server", "text", fmt.Sprintf(f, v...)) }
func (l natsLog) Fatalf(f string, v ...any) { l.log.Error("nats-server", "text", fmt.Sprintf(f, v...)) }
func (l natsLog) Errorf(f string, v ...any) { l.log.Error("nats-server", "text", fmt.Sprintf(f, v...)) }
func (l natsLog) Debugf(f string, v ...any) { l.log.Debug("nats-server", "text", fmt.Sprintf(f, v...)) }
func (l natsLog) Tracef(f string, v ...any) { l.log.Debug("nats-server", "text", fmt.Sprintf(f, v...)) }

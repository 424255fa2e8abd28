package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// DefaultURL is where a fabric of this host listens (`hearth up`).
const DefaultURL = "nats://127.0.0.1:4222"

// Options say where the fabric is and as whom to come. The zero value is the fabric of this host, without a password:
// enough to call functions, not to manage them.
type Options struct {
	URL      string // of NATS servers, separated by commas; "" means DefaultURL
	Prefix   string // of the fabric's names; "" means [subjects.DefaultPrefix]
	Account  string // whose functions are managed; "" means [subjects.DefaultAccount]
	Creds    string // a file: NATS credentials (.creds) or an nkey seed, such as `hearth up` leaves
	User     string // with Password, where the server has such users
	Password string
	Name     string // of the connection, for who looks at the server; "" means "hearth client"

	// InboxPrefix is where answers come: a client's credential may listen at `_HC.<name>` alone (SECURITY 6). "" means the
	// one that the file of Creds names (`hearth credential client` writes it there), else NATS's own, `_INBOX`.
	InboxPrefix string
	// NATS are further options of the connection, applied last: TLS, an in-process server, handlers.
	NATS []nats.Option
}

// LogValue says where the fabric is and as whom to come, and no password.
func (o Options) LogValue() slog.Value {
	return slog.GroupValue(slog.String("url", schema.Redacted(o.URL)), slog.String("prefix", o.Prefix), slog.String("account", o.Account),
		slog.String("creds", o.Creds), slog.String("user", o.User), slog.Bool("password", o.Password != ""))
}

// Client is a connection to a fabric.
type Client struct {
	nc      *nats.Conn
	names   subjects.Names
	account string
	owned   bool // Close closes nc
	denied  *denials
}

// Connect connects to a fabric. It returns when the NATS server has accepted the connection; ctx bounds that, together
// with 5 s. Whether the fabric serves shows with the first request. Errors are [schema.CodeUnavailable] (no server
// there), [schema.CodeAccessDenied] (it does not take the credentials) and [schema.CodeInvalidParameter].
func Connect(ctx context.Context, o Options) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect: %w", context.Cause(ctx))
	}
	names, err := subjects.NewNames(o.Prefix)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeInvalidParameter, Message: err.Error(), Cause: err}
	}
	url := cmp.Or(o.URL, DefaultURL)
	patience := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline))
	}
	denied := newDenials()
	options := []nats.Option{
		nats.Name(cmp.Or(o.Name, "hearth client")), nats.Timeout(patience), nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond), nats.ReconnectJitter(200*time.Millisecond, time.Second),
		nats.ErrorHandler(denied.heard),
	}
	if o.Creds != "" {
		login, inbox, err := credentials(o.Creds)
		if err != nil {
			return nil, err
		}
		options = append(options, login)
		o.InboxPrefix = cmp.Or(o.InboxPrefix, inbox)
	}
	if o.User != "" {
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	nc, err := nats.Connect(url, append(options, o.NATS...)...)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return nil, &schema.Error{Code: schema.CodeAccessDenied, Cause: err, Message: fmt.Sprintf(
			"NATS server %s does not take these credentials: name others by --creds", url)}
	case err != nil:
		return nil, &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf(
			"no NATS server at %s (%v): start a fabric with `hearth up`, or name its server by --server", url, err)}
	}
	wanted := nc.ClosedHandler() // of o.NATS
	nc.SetClosedHandler(func(nc *nats.Conn) {
		denied.closed(nc)
		if wanted != nil {
			wanted(nc)
		}
	})
	c := New(nc, names)
	c.owned, c.denied = true, denied
	c.account = cmp.Or(o.Account, c.account)
	return c, nil
}

// New speaks to the fabric of these names over a connection that stays the caller's. Publishing where the connection
// may not ends such a request by its time-out only: hearing of it needs the connection's error handler, which Connect
// sets.
func New(nc *nats.Conn, names subjects.Names) *Client {
	return &Client{nc: nc, names: names, account: subjects.DefaultAccount, denied: newDenials()}
}

// Closed ends the requests under way: nobody will answer them any more. It is the handler that [nats.Conn.SetClosedHandler]
// takes, for connections given to [New]; those of [Connect] have it already. Without it a request waits for its time-out.
func (c *Client) Closed(nc *nats.Conn) { c.denied.closed(nc) }

// Close closes the connection, if Connect made it. Requests under way get no answer.
func (c *Client) Close() {
	if c.owned {
		c.nc.Close()
	}
}

// Conn is the connection, for what this package does not do.
func (c *Client) Conn() *nats.Conn { return c.nc }

// Names are the fabric's names.
func (c *Client) Names() subjects.Names { return c.names }

// credentials reads which of the two kinds of file it is, and the inbox prefix that it names, if it does.
func credentials(path string) (login nats.Option, inbox string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", &schema.Error{Code: schema.CodeInvalidParameter, Message: fmt.Sprintf("credentials: %v", err), Cause: err}
	}
	if inbox, err = schema.InboxPrefixOf(text); err != nil {
		return nil, "", &schema.Error{Code: schema.CodeInvalidParameter, Message: fmt.Sprintf("credentials %s: %v", path, err), Cause: err}
	}
	if bytes.Contains(text, []byte("-----BEGIN NATS USER JWT-----")) {
		return nats.UserCredentials(path), inbox, nil
	}
	if login, err = nats.NkeyOptionFromSeed(path); err != nil {
		return nil, "", &schema.Error{Code: schema.CodeInvalidParameter, Cause: err, Message: fmt.Sprintf(
			"credentials %s: neither NATS credentials (.creds) nor an nkey seed of a user", path)}
	}
	return login, inbox, nil
}

// denials end requests of which nothing more will be heard: on subjects to which the server says that we may not publish,
// on the side, to the connection's error handler; and all of them once the connection has ended for good, for nats.go
// tells that to its handler alone. Either request would wait for its time-out.
type denials struct {
	subject, inbox *regexp.Regexp

	mu      sync.Mutex // guards what follows
	waiting map[*waiter]struct{}
	deaf    error // no answer will be heard on this connection
}

// waiter is a request under way: on this subject, or on several that begin so.
type waiter struct {
	subject string
	prefix  bool
	cancel  context.CancelCauseFunc
}

func (w *waiter) on(subject string) bool {
	return w.subject == subject || w.prefix && strings.HasPrefix(subject, w.subject)
}

func newDenials() *denials {
	return &denials{
		subject: regexp.MustCompile(`(?i)permissions violation for publish to "([^"]*)"`),
		inbox:   regexp.MustCompile(`(?i)permissions violation for subscription to "([^"]*)\.[^".]*\.\*"`),
		waiting: make(map[*waiter]struct{}),
	}
}

// watch has a denial of w's subject cancel w, until the returned function is called.
func (d *denials) watch(w *waiter) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deaf != nil {
		w.cancel(d.deaf)
	}
	d.waiting[w] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, w)
	}
}

// heard is the connection's error handler.
func (d *denials) heard(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if match := d.inbox.FindStringSubmatch(err.Error()); match != nil { // nats.go subscribes once for all answers
		d.deaf = &schema.Error{Code: schema.CodeAccessDenied, Cause: err, Message: fmt.Sprintf(
			"these credentials may not hear answers at %s: give their inbox prefix, which the files of `hearth credential client NAME` "+
				"name (_HC.NAME), by a NATS context (--context) or as a line `# inbox prefix: _HC.NAME` of theirs", match[1])}
		for w := range d.waiting {
			w.cancel(d.deaf)
		}
		return
	}
	match := d.subject.FindStringSubmatch(err.Error())
	if match == nil {
		return
	}
	for w := range d.waiting {
		if w.on(match[1]) {
			w.cancel(&schema.Error{Code: schema.CodeAccessDenied, Cause: err, Message: fmt.Sprintf(
				"these credentials may not publish to %s: name others by --creds (`hearth up` leaves an admin's)", match[1])})
		}
	}
}

// closed is the connection's closed handler.
func (d *denials) closed(*nats.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.waiting {
		w.cancel(errEnded)
	}
}

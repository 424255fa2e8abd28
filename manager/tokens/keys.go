package tokens

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Times of keys (SECURITY 4; doc.go draws them).
const (
	settle   = 10 * time.Minute // published before it signs
	linger   = 30 * time.Minute // served after its last token
	ahead    = time.Hour        // that a signing key is published for
	again    = ahead - 15*time.Minute
	look     = time.Minute // between two looks at the clocks
	patience = 10 * time.Second
)

// DefaultRotate is how long a key signs.
const DefaultRotate = 24 * time.Hour

// Clock tells the time. Tests move it; the zero value is the host's.
type Clock struct {
	Wall func() time.Time     // what tokens and records say
	Mono func() time.Duration // what has passed: it never jumps
}

// Config says whose keys they are. Fields without a default are needed.
type Config struct {
	Manager string // its id
	Names   subjects.Names
	Dir     string        // its data folder
	Rotate  time.Duration // how long a key signs; 0 means [DefaultRotate], at least 10 min
	Clock   Clock
	Logger  *slog.Logger // nil discards
}

// Validate names every field that cannot be used.
func (c *Config) Validate() []schema.FieldError {
	var bad []schema.FieldError
	if c.Manager == "" || len(c.Manager) > 128 {
		bad = append(bad, schema.FieldError{Field: "Manager", Got: c.Manager, Allowed: "1 to 128 bytes"})
	}
	if c.Names.Prefix() == "" {
		bad = append(bad, schema.FieldError{Field: "Names", Allowed: "those of subjects.NewNames"})
	}
	if c.Dir == "" {
		bad = append(bad, schema.FieldError{Field: "Dir", Allowed: "the manager's data folder"})
	}
	if c.Rotate != 0 && c.Rotate < settle {
		bad = append(bad, schema.FieldError{Field: "Rotate", Got: c.Rotate.String(), Allowed: "at least " + settle.String()})
	}
	return bad
}

// Keys signs tokens with a manager's keys. Safe for concurrent use.
type Keys struct {
	cfg   Config
	nc    *nats.Conn
	log   *slog.Logger
	guard lifecycle.Guard
	kv    jetstream.KeyValue
	end   context.CancelFunc
	loop  conc.WaitGroup

	turning sync.Mutex // whoever changes keys, file and bucket; guards ring
	ring    ring

	mu      sync.Mutex         // guards what follows; nothing blocks under it
	private ed25519.PrivateKey // that signs; nil: not started
	until   time.Time          // for which it is published
}

var _ lifecycle.Component = (*Keys)(nil)

// New makes it over a connection with the rights of the manager, which stays the caller's. It starts nothing.
func New(nc *nats.Conn, cfg Config) (*Keys, error) {
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, schema.Invalid(bad...)
	}
	cfg.Rotate = cmp.Or(cfg.Rotate, DefaultRotate)
	if cfg.Clock.Wall == nil {
		cfg.Clock.Wall = time.Now
	}
	if cfg.Clock.Mono == nil {
		born := time.Now()
		cfg.Clock.Mono = func() time.Duration { return time.Since(born) }
	}
	return &Keys{cfg: cfg, nc: nc, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)).With("manager", cfg.Manager)}, nil
}

// Start reads the keys of the folder, or makes the first one, publishes them and looks after them until Stop. The manager has
// to hold its id already: whoever starts has the record. ctx bounds the start alone.
func (k *Keys) Start(ctx context.Context) error {
	return k.guard.Start(ctx, func(ctx context.Context) error {
		js, err := jetstream.New(k.nc)
		if err != nil {
			return fmt.Errorf("make a JetStream context: %w", err)
		}
		if k.kv, err = js.KeyValue(ctx, k.cfg.Names.Bucket(topology.Keys)); err != nil {
			return fmt.Errorf("open bucket %s: %w", topology.Keys, err)
		}
		k.turning.Lock()
		k.ring, err = load(k.cfg.Dir, k.cfg.Manager, k.cfg.Clock.Mono())
		k.turning.Unlock()
		if err != nil {
			return err
		}
		if err := k.turn(ctx); err != nil {
			return err
		}
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		k.end = end
		k.loop.Go(func() { k.tend(life) })
		return nil
	})
}

// Stop ends looking after the keys, and waits. What is published stays, for tokens live on. Safe twice.
func (k *Keys) Stop(ctx context.Context) error {
	return k.guard.Stop(ctx, func(context.Context) error {
		k.end()
		k.loop.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.private = nil
		return nil
	})
}

// Token signs for s. An error is a [schema.CodeUnavailable] where the key is not published for long enough, which it tries to
// change first; or says what s lacks.
func (k *Keys) Token(ctx context.Context, s token.Subject) (schema.Token, error) {
	private, err := k.signing(ctx)
	if err != nil {
		return schema.Token{}, err
	}
	claims, err := token.NewClaims(s, k.cfg.Clock.Wall(), token.MaxLife)
	if err != nil {
		return schema.Token{}, schema.Errorf(schema.CodeInvalidParameter, "%w", err)
	}
	text, err := token.Sign(private, claims)
	if err != nil {
		return schema.Token{}, err
	}
	return schema.Token{Text: text, Life: token.MaxLife}, nil
}

// signing is the key that signs now.
func (k *Keys) signing(ctx context.Context) (ed25519.PrivateKey, error) {
	private, ok := k.current()
	if !ok && private != nil {
		if err := k.turn(ctx); err != nil {
			return nil, &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: "the key that signs tokens cannot be published: " + err.Error()}
		}
		private, ok = k.current()
	}
	if !ok {
		return nil, schema.Errorf(schema.CodeUnavailable, "manager %s signs no tokens: it is starting or stopping", k.cfg.Manager)
	}
	return private, nil
}

// current is the key that signs, and whether it may: it has to be published for as long as a key is served after its last token,
// and for no longer than anybody writes into a record, else the clock has jumped.
func (k *Keys) current() (private ed25519.PrivateKey, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.until.Sub(k.cfg.Clock.Wall())
	return k.private, k.private != nil && left >= linger && left <= ahead+look
}

// tend looks at the clocks until ctx ends.
func (k *Keys) tend(ctx context.Context) {
	every := time.NewTicker(look)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		within, cancel := context.WithTimeoutCause(ctx, patience, errors.New("publishing the keys for tokens"))
		if err := k.turn(within); err != nil && ctx.Err() == nil {
			k.log.Warn("look after the keys for tokens", "error", err)
		}
		cancel()
	}
}

// turn brings keys, file, bucket and signing to what the clocks say, in this order: a key is kept before anybody hears of it,
// and published before it signs.
func (k *Keys) turn(ctx context.Context) error {
	k.turning.Lock()
	defer k.turning.Unlock()
	next, changed, err := k.ring.turn(k.cfg.Clock.Mono(), k.cfg.Clock.Wall(), k.cfg.Rotate)
	if err != nil {
		return err
	}
	if changed {
		if err := next.save(k.cfg.Dir, k.cfg.Manager); err != nil {
			return err
		}
		k.log.Info("keys for tokens", "signing", next.signing().id, "keys", len(next.keys))
	}
	if record, due := next.record(k.cfg.Manager, k.cfg.Clock.Mono(), k.cfg.Clock.Wall()); due || changed {
		value, err := schema.Marshal(record)
		if err != nil {
			return err
		}
		if _, err := k.kv.Put(ctx, schema.TokenKeysName(subjects.Escape(k.cfg.Manager)), value); err != nil {
			// It may stand or not: the keys stay as they were, and what is published counts as unknown.
			k.ring.published = schema.TokenKeysRecord{}
			return fmt.Errorf("publish the keys for tokens: %w", err)
		}
		next.wasPublished(record, k.cfg.Clock.Mono())
	}
	k.ring = next
	k.mu.Lock()
	defer k.mu.Unlock()
	signing := k.ring.signing()
	k.private, k.until = signing.private, k.ring.until(signing.id)
	return nil
}

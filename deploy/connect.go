package deploy

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// connectTo connects a role to a server that is not ours.
func connectTo(cfg *Config, r role) (*nats.Conn, error) {
	opts := roleOptions(r, cfg.Logger)
	if cfg.Creds != "" {
		o, err := credentials(cfg.Creds)
		if err != nil {
			return nil, err
		}
		opts = append(opts, o)
	}
	return nats.Connect(cfg.ServerURL, opts...)
}

// credentials reads either kind of file: .creds, or an nkey seed.
func credentials(file string) (nats.Option, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	if strings.Contains(string(text), "BEGIN NATS USER JWT") {
		return nats.UserCredentials(file), nil
	}
	o, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("%s is neither a .creds file nor an nkey seed: %w", file, err)
	}
	return o, nil
}

// codeStore is the object store as a worker sees it.
type codeStore struct {
	js    jetstream.JetStream
	names subjects.Names
}

// Open reads a package by its SHA-256.
func (s codeStore) Open(ctx context.Context, sha256 string) (io.ReadCloser, int64, error) {
	store, err := s.js.ObjectStore(ctx, s.names.Bucket(topology.Code))
	if err != nil {
		return nil, 0, fmt.Errorf("open the code store: %w", err)
	}
	object, err := store.Get(ctx, sha256)
	if err != nil {
		return nil, 0, fmt.Errorf("read package %s: %w", sha256, err)
	}
	info, err := object.Info()
	if err != nil {
		_ = object.Close()
		return nil, 0, fmt.Errorf("read package %s: %w", sha256, err)
	}
	return object, int64(info.Size), nil
}

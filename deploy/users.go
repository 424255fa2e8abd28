package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/internal/wholefile"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// login is how a role of this process enters the embedded server: a key made at this start, which is nowhere but in memory.
type login struct {
	name   string // of the connection
	key    nkeys.KeyPair
	public string
	rights *rights
}

// LogValue names it, and nothing of the key.
func (l login) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", l.name), slog.String("public", l.public))
}

func newLogin(role, id string, r *rights) (login, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return login{}, fmt.Errorf("make a key for %s %s: %w", role, id, err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return login{}, fmt.Errorf("make a key for %s %s: %w", role, id, err)
	}
	return login{name: role + " " + id, key: key, public: public, rights: r}, nil
}

// option answers the server's challenge.
func (l *login) option() nats.Option { return nats.Nkey(l.public, l.key.Sign) }

// users are all that the embedded server knows. All have keys, nobody a password.
type users struct {
	roles  []login
	others []Credential // of the data folder
	admin  string       // public nkey
	client string       // public nkey of whoever connects without a credential; "" where that is not allowed
	names  subjects.Names

	measured bool // the admin has what measuring needs
}

// enter puts the users into the server's options, clients into an account of theirs.
func (u *users) enter(opts *server.Options) error {
	clients, err := clientAccount(u.names, opts)
	if err != nil {
		return err
	}
	enter := func(public string, r *rights, account *server.Account) {
		opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: public, Permissions: r.permissions(), Account: account})
	}
	user := func(public string, r *rights) { enter(public, r, nil) }
	for _, l := range u.roles {
		user(l.public, l.rights)
	}
	admin := adminRights(u.names)
	if u.measured {
		admin.measures()
	}
	user(u.admin, admin)
	for _, c := range u.others {
		if c.Role == RoleClient {
			enter(c.Key, c.rights, clients)
		} else {
			user(c.Key, c.rights)
		}
	}
	if u.client != "" {
		enter(u.client, clientRights(u.names), clients)
		opts.NoAuthUser = u.client
	}
	return nil
}

// adminFile is the seed of the admin's key in the data folder.
const adminFile = "admin.nk"

// adminKey reads the admin's key, or makes one (0600), and gives the public half and the file.
func adminKey(dir string) (public, path string, err error) {
	path = filepath.Join(dir, adminFile)
	seed, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if seed, err = newSeed(path, ""); err != nil {
			return "", "", fmt.Errorf("make the admin's key %s: %w", path, err)
		}
	case err != nil:
		return "", "", fmt.Errorf("read the admin's key: %w", err)
	default:
		// A copy, a restored backup: whoever could read it was the admin.
		if err := os.Chmod(path, 0o600); err != nil {
			return "", "", fmt.Errorf("close the admin's key to others: %w", err)
		}
	}
	key, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return "", "", fmt.Errorf("read the admin's key %s: %w; remove it to have another one made", path, err)
	}
	defer key.Wipe()
	public, err = key.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return "", "", fmt.Errorf("read the admin's key %s: it is not a user's nkey seed; remove it to have another one made", path)
	}
	return public, path, nil
}

// newSeed writes a new seed, with the inbox prefix of its holder if it has one of its own, beside its place and moves it there
// whole.
func newSeed(path, inbox string) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	seed = slices.Clone(seed) // Wipe clears the key's own
	return seed, wholefile.Write(path, schema.SeedFile{Seed: seed, InboxPrefix: inbox}.Encode())
}

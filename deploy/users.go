package deploy

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/subjects"
)

// anonymous is the user that everybody is who connects without a credential, where that is allowed.
const anonymous = "client"

// login is how a role of this process enters the embedded server: a name and a password drawn at this start, which are
// nowhere but in memory.
type login struct {
	user, password string
	rights         *rights
}

func newLogin(role, id string, r *rights) login {
	return login{user: role + "-" + subjects.Escape(id), password: rand.Text(), rights: r}
}

// users are all that the embedded server knows.
type users struct {
	roles     []login
	admin     string // public nkey
	anonymous bool
	names     subjects.Names
}

// enter puts the users into the server's options.
func (u *users) enter(opts *server.Options) {
	for _, l := range u.roles {
		opts.Users = append(opts.Users, &server.User{Username: l.user, Password: l.password, Permissions: l.rights.permissions()})
	}
	opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: u.admin, Permissions: adminRights(u.names).permissions()})
	if u.anonymous {
		// It has a password too, that nobody is told: the server wants one, and an empty one would be a way to log in by name.
		opts.Users = append(opts.Users, &server.User{
			Username: anonymous, Password: rand.Text(), Permissions: clientRights(u.names).permissions(),
		})
		opts.NoAuthUser = anonymous
	}
}

// adminFile is the seed of the admin's key in the data folder.
const adminFile = "admin.nk"

// adminKey reads the admin's key, or makes one (0600), and gives the public half and the file.
func adminKey(dir string) (public, path string, err error) {
	path = filepath.Join(dir, adminFile)
	seed, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if seed, err = newSeed(path); err != nil {
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
	key, err := nkeys.FromSeed(seed)
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

// newSeed writes a new seed beside its place and moves it there whole.
func newSeed(path string) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	return seed, writeFile(path, append(seed, '\n'))
}

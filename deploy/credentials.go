package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/internal/wholefile"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Who a credential may be beside the roles.
const (
	RoleClient = "client" // calls functions of the default account, and hears answers at an inbox of its own
	RoleAdmin  = "admin"  // the fabric's owner
)

// credentialsDir lies in the data folder of a fabric whose NATS server is embedded: a seed file for each user that is not in
// its process.
const credentialsDir = "credentials"

const seedFile = ".nk"

// Credential is a user of a fabric's NATS server: a key, and the rights of SECURITY 6 that go with it.
type Credential struct {
	Role string // [RoleManager], [RoleFrontend], [RoleWorker], [RoleClient] or [RoleAdmin]
	ID   string // of the node, or the client's name; "" for an admin
	Key  string // public nkey
	File string // the seed, and a client's inbox prefix ([schema.SeedFile]); 0600

	rights *rights
}

// CredentialConfig says which credential [MakeCredential] makes, and where.
type CredentialConfig struct {
	Role, ID string
	Prefix   string // of the fabric; "" means [subjects.DefaultPrefix]
	// DataDir is that of a fabric with an embedded NATS server: the credential lies in it, and a running `up` takes it in
	// within a second or two. Left alone if Out is set.
	DataDir string
	// Out is the file to write the seed to, for another NATS server, which has to be told of it ([Credential.Block]).
	Out string
}

// MakeCredential makes a credential, or gives the one that is there already.
func MakeCredential(cfg CredentialConfig) (*Credential, error) {
	names, err := subjects.NewNames(cfg.Prefix)
	if err != nil {
		return nil, schema.Invalid(schema.FieldError{Field: "Prefix", Got: cfg.Prefix, Allowed: aPrefix})
	}
	c := &Credential{Role: cfg.Role, ID: cfg.ID, File: cfg.Out}
	if c.rights, err = rightsOf(names, cfg.Role, cfg.ID); err != nil {
		return nil, err
	}
	if c.File == "" {
		if _, err := os.Stat(filepath.Join(cfg.DataDir, lockFile)); err != nil {
			return nil, &schema.Error{Code: schema.CodeInvalidParameter, Cause: err, Message: fmt.Sprintf(
				"%s is no data folder of a `hearth up`: name one with --data, or with --out a file for another NATS server", cfg.DataDir)}
		}
		dir := filepath.Join(cfg.DataDir, credentialsDir)
		if err := os.MkdirAll(dir, closedDir); err != nil {
			return nil, fmt.Errorf("make the folder of credentials: %w", err)
		}
		c.File = filepath.Join(dir, credentialName(cfg.Role, cfg.ID))
	}
	if err := c.write(); err != nil {
		return nil, fmt.Errorf("make a credential: %w", err)
	}
	return c, nil
}

// write makes the file, or completes the one that is there: files of clients did not name their inbox once.
func (c *Credential) write() error {
	has, err := readSeed(c.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := newSeed(c.File, c.InboxPrefix()); err != nil {
			return err
		}
	case err != nil:
		return err
	case has.InboxPrefix == c.InboxPrefix():
	case has.InboxPrefix != "":
		return schema.Errorf(schema.CodeConflict, "%s is the credential of a client that hears answers at %s: name another file with --out",
			c.File, has.InboxPrefix)
	default:
		has.InboxPrefix = c.InboxPrefix()
		if err := wholefile.Write(c.File, has.Encode()); err != nil {
			return err
		}
	}
	c.Key, err = publicKey(c.File)
	return err
}

// Block is what the configuration of a NATS server needs to know of the user: an entry of its list of users.
func (c *Credential) Block() string {
	var b strings.Builder
	list := func(what string, subjects []string) {
		fmt.Fprintf(&b, "    %s: { allow: [\n", what)
		for _, s := range subjects {
			fmt.Fprintf(&b, "      %q\n", s)
		}
		b.WriteString("    ] }\n")
	}
	fmt.Fprintf(&b, "# %s\n", strings.TrimSpace(c.Role+" "+c.ID))
	if c.Role == RoleClient {
		b.WriteString("# Enter it in an account of its own, which imports as services what it may publish to (and the fabric's exports them):\n" +
			"# in one account with the fabric, the server sends the PubAck of an event to whatever subject the client names.\n")
	}
	fmt.Fprintf(&b, "{\n  nkey: %s\n  permissions: {\n", c.Key)
	list("publish", c.rights.publish)
	list("subscribe", c.rights.subscribe)
	b.WriteString("  }\n}\n")
	return b.String()
}

// InboxPrefix is where a client with this credential may hear answers; "" means anywhere under `_INBOX`.
func (c *Credential) InboxPrefix() string {
	if c.Role != RoleClient {
		return ""
	}
	return strings.TrimSuffix(subjects.ClientInbox(c.ID, ""), ".")
}

// rightsOf are the rights of a user of this kind, or what is wrong with its name.
func rightsOf(names subjects.Names, role, id string) (*rights, error) {
	switch {
	case role != RoleAdmin && !ValidID(id):
		return nil, schema.Invalid(schema.FieldError{Field: "ID", Got: id, Allowed: AnID})
	case role == RoleAdmin && id != "":
		return nil, schema.Invalid(schema.FieldError{Field: "ID", Got: id, Allowed: "none: an admin has no name"})
	case role == RoleAdmin:
		return adminRights(names), nil
	case role == RoleManager:
		return managerRights(names, id), nil
	case role == RoleFrontend:
		return frontendRights(names, id), nil
	case role == RoleWorker:
		return workerRights(names, id), nil
	case role == RoleClient:
		return namedClientRights(names, id), nil
	}
	return nil, schema.Invalid(schema.FieldError{Field: "Role", Got: role, Allowed: "manager, frontend, worker, client or admin"})
}

// Rights are what a user of this kind may publish and subscribe to, as its credential says ([Credential.Block]). Errors are those of
// [MakeCredential].
func Rights(names subjects.Names, role, id string) (publish, subscribe []string, err error) {
	r, err := rightsOf(names, role, id)
	if err != nil {
		return nil, nil, err
	}
	return slices.Clone(r.publish), slices.Clone(r.subscribe), nil
}

// credentialName is the file of a user in the folder of credentials; parseCredential reads it.
func credentialName(role, id string) string {
	if id == "" {
		return role + seedFile
	}
	return role + "-" + subjects.Escape(id) + seedFile
}

func parseCredential(name string) (role, id string, ok bool) {
	name, ok = strings.CutSuffix(name, seedFile)
	if !ok {
		return "", "", false
	}
	role, token, named := strings.Cut(name, "-")
	if !named {
		return role, "", role == RoleAdmin
	}
	id, ok = subjects.Unescape(token)
	return role, id, ok
}

// credentials are the users that a data folder knows beside those of its process. What cannot be used is named in the error;
// the others count. Only a file that is gone, or has another content, puts a user out: of one that cannot be read at the
// moment what known says of it holds, for a process that has run out of descriptors must not throw the fabric's nodes out.
func (d *data) credentials(names subjects.Names, known []Credential) ([]Credential, error) {
	files, err := os.ReadDir(d.path(credentialsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return known, err
	}
	var all []Credential
	var bad []error
	keys := make(map[string]string)
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue // being written
		}
		c, err := d.credential(names, f)
		if read := (*fs.PathError)(nil); errors.As(err, &read) {
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if at := slices.IndexFunc(known, func(k Credential) bool { return k.File == c.File }); at >= 0 {
				c = known[at]
			}
		}
		if err == nil && keys[c.Key] != "" {
			err = fmt.Errorf("has the key of %s; remove it to have another one made", keys[c.Key])
			c.Key = ""
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", f.Name(), err))
		}
		if c.Key != "" {
			keys[c.Key] = f.Name()
			all = append(all, c)
		}
	}
	return all, errors.Join(bad...)
}

// credential is the user of one file of the folder; without a Key if the error says what is wrong with it.
func (d *data) credential(names subjects.Names, f fs.DirEntry) (c Credential, err error) {
	c.File = filepath.Join(d.path(credentialsDir), f.Name())
	var ok bool
	if c.Role, c.ID, ok = parseCredential(f.Name()); !ok {
		return c, errors.New("is not the name of a credential")
	}
	if !f.Type().IsRegular() { // a pipe would be waited for, for ever
		return c, errors.New("is no regular file")
	}
	if c.rights, err = rightsOf(names, c.Role, c.ID); err == nil {
		c.Key, err = publicKey(c.File)
	}
	return c, err
}

// readSeed reads the file of a credential.
func readSeed(path string) (schema.SeedFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return schema.SeedFile{}, err
	}
	f, err := schema.ParseSeedFile(text)
	if err != nil {
		return f, fmt.Errorf("read %s: %w; remove it to have another one made", path, err)
	}
	return f, nil
}

// publicKey reads the public half of a seed.
func publicKey(path string) (string, error) {
	f, err := readSeed(path)
	if err != nil {
		return "", err
	}
	key, err := nkeys.FromSeed(f.Seed)
	if err != nil {
		return "", fmt.Errorf("read %s: %w; remove it to have another one made", path, err)
	}
	defer key.Wipe()
	public, err := key.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("read %s: it is not a user's nkey seed; remove it to have another one made", path)
	}
	return public, nil
}

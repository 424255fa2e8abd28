package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"golang.org/x/net/proxy"

	"github.com/hearth-run/hearth/client"
)

// natsContext is what a context of the nats CLI says of a connection: https://docs.nats.io/using-nats/nats-tools/nats_cli#nats-contexts.
// What of it only concerns JetStream domains and colours is not read: a fabric's streams are in the domain that its credentials reach.
type natsContext struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Creds       string `json:"creds"`
	NKey        string `json:"nkey"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	CA          string `json:"ca"`
	NSC         string `json:"nsc"`
	SocksProxy  string `json:"socks_proxy"`
	InboxPrefix string `json:"inbox_prefix"`
	TLSFirst    bool   `json:"tls_first"`
	WindowsCert string `json:"windows_cert_store"`
}

// contextAt is where a context lies; the zero value is none.
type contextAt struct {
	Name, File string
	Home       string // folder that ~ stands for; "" if nobody knows
}

// contextAt finds the place of a context: an absolute path, else where the nats CLI keeps those with names. The home folder is that of the
// environment, as everywhere in a shell; only where it names none that of the user's account.
func (a *app) contextAt(name string) (contextAt, error) {
	at := contextAt{Name: name, File: name}
	if at.Home, _ = a.lookup("HOME"); at.Home == "" {
		if u, err := user.Current(); err == nil {
			at.Home = u.HomeDir
		}
	}
	if filepath.IsAbs(name) {
		return at, nil
	}
	if strings.ContainsAny(name, `/\`) || strings.Contains(name, "..") {
		return at, usagef("NATS context %q: a name or an absolute path is wanted; `nats context ls` lists them", name)
	}
	parent, _ := a.lookup("XDG_CONFIG_HOME")
	switch {
	case parent != "":
	case at.Home == "":
		return at, usagef("NATS context %q: no home folder to look for it in; set HOME or XDG_CONFIG_HOME", name)
	default:
		parent = filepath.Join(at.Home, ".config")
	}
	at.File = filepath.Join(parent, "nats", "context", name+".json")
	return at, nil
}

// read reads the file of a context.
func (at contextAt) read() (natsContext, error) {
	var c natsContext
	text, err := os.ReadFile(at.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, usagef("NATS context %q: there is no %s%s; `nats context ls` lists them", at.Name, at.File,
			didYouMean(at.Name, contextsBeside(at.File)))
	case err != nil:
		return c, usagef("NATS context %q: %v", at.Name, err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, usagef("NATS context %q: %s: %v; `nats context edit` mends it", at.Name, at.File, err)
	}
	if c.WindowsCert != "" {
		return c, usagef("NATS context %q: its certificate lies in a Windows store, which hearth does not read; name files as cert and key", at.Name)
	}
	return c, nil
}

// contextsBeside are the names of the contexts in a file's folder.
func contextsBeside(file string) (names []string) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*.json"))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	return names
}

// into puts what the context says into the options of a connection. What these name already, by --server and --creds, stays; an inbox
// prefix belongs to its credential, and goes with that of the context.
func (at contextAt) into(o *client.Options) error {
	c, err := at.read()
	if err != nil {
		return err
	}
	o.URL = cmp.Or(o.URL, c.URL)
	more, err := c.transport(at.path)
	if err != nil {
		return usagef("NATS context %q: %v", at.Name, err)
	}
	if o.Creds == "" {
		o.InboxPrefix = c.InboxPrefix
		switch {
		case c.User != "":
			o.User, o.Password = c.User, c.Password
		case c.Creds != "":
			o.Creds = at.path(os.ExpandEnv(c.Creds))
		case c.NKey != "":
			o.Creds = at.path(c.NKey)
		case c.NSC != "":
			return usagef("NATS context %q: its credential is that of nsc (%s), which hearth does not ask; name the file with --creds", at.Name, c.NSC)
		}
		if c.Token != "" {
			more = append(more, nats.Token(c.Token))
		}
	}
	o.NATS = append(more, o.NATS...)
	return nil
}

// path is a file that the context names.
func (at contextAt) path(file string) string {
	if rest, ok := strings.CutPrefix(file, "~"); ok && at.Home != "" {
		return at.Home + rest
	}
	return file
}

// transport are the options of how to come to the server, whoever comes.
func (c natsContext) transport(path func(string) string) ([]nats.Option, error) {
	var options []nats.Option
	if c.Cert != "" && c.Key != "" {
		options = append(options, nats.ClientCert(path(c.Cert), path(c.Key)))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(path(c.CA)))
	}
	if c.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	if c.SocksProxy != "" {
		at, err := url.Parse(c.SocksProxy)
		if err != nil {
			return nil, fmt.Errorf("socks_proxy: %w", err)
		}
		through, err := proxy.FromURL(at, proxy.Direct)
		if err != nil {
			return nil, fmt.Errorf("socks_proxy: %w", err)
		}
		options = append(options, nats.SetCustomDialer(through))
	}
	return options, nil
}

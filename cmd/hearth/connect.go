package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

const defaultServer = "nats://127.0.0.1:4222"

// target is the fabric that a client command speaks to.
type target struct {
	url     string
	creds   string    // file; "" is nobody in particular
	context contextAt // of the nats CLI; then url and creds are what stands against it, or empty
	names   subjects.Names
	note    *note // of the running fabric of this user, if it is that one
}

// target finds the fabric: a context, with the server and the credential that were given in place of its own; without a context what a
// running `hearth up` of this user noted, the one at the default address first; else the default address.
func (a *app) target(cmd *cobra.Command) (target, error) {
	value := func(name string) string { return cmd.Flag(name).Value.String() }
	t := target{url: value("server"), creds: value("creds")}
	prefix := value("prefix")
	if name := value("context"); name == "" {
		running, err := a.notes()
		if err != nil {
			running = nil // no home, no notes: the credential has to be named
		}
		picked, err := pickNote(running, t.url, a.settings.given("server"), prefix, a.settings.given("prefix"))
		if err != nil {
			return target{}, err
		}
		if picked != nil {
			t.note, t.url, prefix = picked, picked.NATS, picked.Prefix
			if t.creds == "" {
				t.creds = picked.Creds
			}
		}
	} else {
		var err error
		if t.context, err = a.contextAt(name); err != nil {
			return target{}, err
		}
		if !a.settings.against("server", "context") {
			t.url = ""
		}
		if !a.settings.against("creds", "context") {
			t.creds = ""
		}
	}
	var err error
	if t.names, err = subjects.NewNames(prefix); err != nil {
		return target{}, usagef("%v; give another with --prefix", err)
	}
	return t, nil
}

// pickNote is the noted fabric that is meant, or nil.
func pickNote(running []note, server string, serverGiven bool, prefix string, prefixGiven bool) (*note, error) {
	var fit []note
	for _, n := range running {
		if n.Prefix == "" {
			n.Prefix = subjects.DefaultPrefix
		}
		switch {
		case prefixGiven && n.Prefix != prefix:
		case sameServer(n.NATS, server):
			return &n, nil
		case !serverGiven:
			fit = append(fit, n)
		}
	}
	switch len(fit) {
	case 0:
		return nil, nil
	case 1:
		return &fit[0], nil
	}
	var urls []string
	for _, n := range fit {
		urls = append(urls, n.NATS)
	}
	return nil, usagef("%d fabrics of yours run, at %s; say which with --server", len(fit), strings.Join(urls, " and "))
}

// maxReconnects is how often a command tries to come back to a server that went away: for some seconds. Whoever waits at a
// terminal wants to hear that then, not when the function's time is over.
const maxReconnects = 20

// pingEvery is how often a server is asked whether it is there: one that hangs says nothing, and the second ping that goes unanswered tells.
const pingEvery = 5 * time.Second

// connectError is why the fabric's server cannot be used. It says itself what to do.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// connect gives a client of the target; its Close ends the connection. Further options are applied last.
func (t target) connect(ctx context.Context, more ...nats.Option) (*conn, error) {
	o := client.Options{URL: t.url, Prefix: t.names.Prefix(), Creds: t.creds, Name: "hearth",
		NATS: append([]nats.Option{nats.MaxReconnects(maxReconnects), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2)}, more...)}
	if t.context.Name != "" {
		if err := t.context.into(&o); err != nil {
			return nil, err
		}
	}
	c, err := client.Connect(ctx, o)
	if err != nil {
		return nil, &connectError{err}
	}
	return &conn{c}, nil
}

// conn is a client over a connection of its own, which its Close ends.
type conn struct{ *client.Client }

// connect gives a client of the fabric that cmd is about.
func (a *app) connect(cmd *cobra.Command) (*conn, error) {
	t, err := a.target(cmd)
	if err != nil {
		return nil, err
	}
	return t.connect(cmd.Context())
}

// named adds the nearest function to an error about one that is not known.
func named(ctx context.Context, c *client.Client, function string, err error) error {
	return namedQualified(ctx, c, function, "", err)
}

// namedQualified is [named] of a name with a qualifier: where the function is there and that is no version, the nearest of its aliases.
func namedQualified(ctx context.Context, c *client.Client, function, qualifier string, err error) error {
	if schema.CodeOf(err) != schema.CodeNotFound {
		return err
	}
	known := functionNames(ctx, c)
	best := nearest(function, known)
	if slices.Contains(known, function) { // it is the qualifier that is unknown
		if schema.ValidateAlias(qualifier) != nil {
			return err
		}
		if best = nearest(qualifier, aliasNames(ctx, c, function)); best != "" {
			best = function + ":" + best
		}
	}
	if best != "" {
		return fmt.Errorf("%w; did you mean %s?", err, best)
	}
	return err
}

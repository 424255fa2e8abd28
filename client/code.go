package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

// MaxZip is the largest package, in bytes (Lambda B6).
const MaxZip = 50 << 20

// What nats-server says of a stream that takes no more: its own bound (JSStreamStoreFailedF), or the account's
// (JSStorageResourcesExceededErr).
const (
	storeFailed     jetstream.ErrorCode = 10077
	storageExceeded jetstream.ErrorCode = 10047
)

const (
	codePatience = 2 * time.Minute  // bounds an upload where ctx does not
	codeIdle     = 30 * time.Second // bounds the wait for its next step: a server that could not write it down says nothing
)

// errIdle ends an upload of which nothing was heard for too long.
var errIdle = errors.New("nothing was heard")

// moving is a package that is being read: each piece that is taken shows that the upload goes on.
type moving struct {
	r    io.Reader
	goes func()
}

func (m *moving) Read(b []byte) (int, error) {
	m.goes()
	return m.r.Read(b)
}

// PutCode puts a zip into the fabric's code store, unless it is there already, and returns the SHA-256 by which
// operations name it. Only credentials of an admin may. It takes two minutes at most where ctx has no deadline, and gives up earlier
// when nothing is heard of the server for 30 seconds: [schema.CodeUnavailable]; a store without room is a
// [schema.CodeStorageExceeded].
func (c *Client) PutCode(ctx context.Context, zip []byte) (sha256hex string, err error) {
	return c.putCode(ctx, zip, codeIdle)
}

func (c *Client) putCode(ctx context.Context, zip []byte, idle time.Duration) (sha256hex string, err error) {
	if len(zip) == 0 || len(zip) > MaxZip {
		return "", schema.Invalid(schema.FieldError{
			Field: "Code", Got: fmt.Sprintf("%d bytes", len(zip)), Allowed: fmt.Sprintf("1 to %d bytes of zip", MaxZip),
		})
	}
	if _, ok := ctx.Deadline(); !ok {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, codePatience)
		defer stop()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, subject := range []string{"$JS.API.", "$O." + c.names.Bucket("code") + "."} {
		defer c.denied.watch(&waiter{subject: subject, prefix: true, cancel: cancel})()
	}
	still := time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w for %v", errIdle, idle)) })
	defer still.Stop()
	goes := func() { still.Reset(idle) }
	sum := sha256.Sum256(zip)
	name := hex.EncodeToString(sum[:])
	js, err := jetstream.New(c.nc)
	if err != nil {
		return "", fmt.Errorf("put code %s: %w", name, err)
	}
	store, err := js.ObjectStore(ctx, c.names.Bucket("code"))
	if err != nil {
		return "", c.storeError(ctx, name, err)
	}
	goes()
	info, err := store.GetInfo(ctx, name)
	if err == nil && info.Digest == "SHA-256="+base64.URLEncoding.EncodeToString(sum[:]) && info.Size == uint64(len(zip)) {
		return name, nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return "", c.storeError(ctx, name, err)
	}
	goes()
	if _, err := store.Put(ctx, jetstream.ObjectMeta{Name: name}, &moving{bytes.NewReader(zip), goes}); err != nil {
		return "", c.storeError(ctx, name, err)
	}
	return name, nil
}

// storeError says of a failed request to the code store what the caller can do.
func (c *Client) storeError(ctx context.Context, name string, err error) error {
	var denied *schema.Error
	cause := context.Cause(ctx)
	if errors.As(cause, &denied) {
		return denied
	}
	if errors.Is(cause, errIdle) {
		err = cause
	}
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf(
			"put code %s: no code store %s: is a fabric running? start it with `hearth up`", name, c.names.Bucket("code"))}
	}
	var full *jetstream.APIError
	if errors.As(err, &full) && (full.ErrorCode == storeFailed || full.ErrorCode == storageExceeded) {
		return &schema.Error{Code: schema.CodeStorageExceeded, Cause: err, Message: fmt.Sprintf(
			"put code %s: the code store is full (%v): delete functions or versions that are not needed, or give it more room", name, err)}
	}
	return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf(
		"put code %s: the code store does not answer (%v): has the NATS server room on its disk, and have these credentials the right to it? name an admin's by --creds",
		name, err)}
}

package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
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

// codePatience bounds an upload where ctx does not.
const codePatience = 2 * time.Minute

// PutCode puts a zip into the fabric's code store, unless it is there already, and returns the SHA-256 by which
// operations name it. Only credentials of an admin may.
func (c *Client) PutCode(ctx context.Context, zip []byte) (sha256hex string, err error) {
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
	info, err := store.GetInfo(ctx, name)
	if err == nil && info.Digest == "SHA-256="+base64.URLEncoding.EncodeToString(sum[:]) && info.Size == uint64(len(zip)) {
		return name, nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return "", c.storeError(ctx, name, err)
	}
	if _, err := store.Put(ctx, jetstream.ObjectMeta{Name: name}, bytes.NewReader(zip)); err != nil {
		return "", c.storeError(ctx, name, err)
	}
	return name, nil
}

// storeError says of a failed request to the code store what the caller can do.
func (c *Client) storeError(ctx context.Context, name string, err error) error {
	var denied *schema.Error
	if errors.As(context.Cause(ctx), &denied) {
		return denied
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
		"put code %s: the code store does not answer (%v): do these credentials have the right to it? name an admin's by --creds", name, err)}
}

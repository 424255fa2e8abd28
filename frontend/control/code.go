package control

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/schema"
)

// Bounds of a package (Lambda B6; SECURITY 3, which the worker applies to what it unpacks).
const (
	MaxZip       = 50 << 20
	MaxUnzipped  = 250 << 20
	MaxFiles     = 50_000
	maxHeaders   = 4 * MaxFiles // signatures of file headers in the bytes; packages may hold packages
	maxReading   = 2            // packages in memory at once at a frontend
	errBadZip    = "Could not unzip uploaded file. Please check your file, then try to upload again."
	errEmptyZip  = "Uploaded file must be a non-empty zip"
	fieldCode    = "Code.Sha256"
	fieldZipFile = "Code.ZipFile"
)

// What nats-server says of a stream that takes no more: its own bound (JSStreamStoreFailedF), or the account's
// (JSStorageResourcesExceededErr).
const (
	storeFailed     jetstream.ErrorCode = 10077
	storageExceeded jetstream.ErrorCode = 10047
)

// takeZip has a request that brings its zip along name it by its hash, as those do whose zip lies in the store already,
// and returns the zip, nil where it brought none.
func takeZip(in *schema.FunctionInput) ([]byte, error) {
	if in.Code == nil || len(in.Code.ZipFile) == 0 {
		return nil, nil
	}
	if in.Code.Sha256 != "" {
		return nil, schema.Invalid(schema.FieldError{Field: "Code", Allowed: "either ZipFile or Sha256"})
	}
	data := in.Code.ZipFile
	sum := sha256.Sum256(data)
	in.Code = &schema.FunctionCode{Sha256: hex.EncodeToString(sum[:])}
	return data, nil
}

// storeZip puts a zip that came with a request into the store, if it is one. It returns its size.
func (s *Service) storeZip(ctx context.Context, sha string, data []byte) (int64, error) {
	if err := checkZip(fieldZipFile, data); err != nil {
		return 0, err
	}
	switch _, err := s.store.code.GetInfo(ctx, sha); {
	case err == nil:
		return s.checkCode(ctx, sha, nil, nil)
	case !errors.Is(err, jetstream.ErrObjectNotFound):
		return 0, fmt.Errorf("look for code %s: %w", sha, err)
	}
	if _, err := s.store.code.Put(ctx, jetstream.ObjectMeta{Name: sha}, bytes.NewReader(data)); err != nil {
		var full *jetstream.APIError
		if errors.As(err, &full) && (full.ErrorCode == storeFailed || full.ErrorCode == storageExceeded) {
			return 0, &schema.Error{Code: schema.CodeStorageExceeded, Message: "the code store is full", Cause: err}
		}
		return 0, fmt.Errorf("store code %s: %w", sha, err)
	}
	return int64(len(data)), nil
}

// Of a package that was put a moment ago: in a cluster of NATS servers a replica may answer that has not heard of it yet.
const (
	codeLooks = 20
	codeAgain = 100 * time.Millisecond
)

// findCode looks for an object of the code store.
func (s *Service) findCode(ctx context.Context, sha string) (*jetstream.ObjectInfo, error) {
	for looks := 1; ; looks++ {
		info, err := s.store.code.GetInfo(ctx, sha)
		if !errors.Is(err, jetstream.ErrObjectNotFound) || looks == codeLooks || s.store.js.Conn().ConnectedClusterName() == "" {
			return info, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(codeAgain):
		}
	}
}

// checkCode reads the object that a request names and refuses what no worker could run: bytes of another hash, too
// many, or no zip. What the function runs already (known) was checked when it came. A zip that came with the request is
// put there first. It returns the size of the zip.
func (s *Service) checkCode(ctx context.Context, sha string, sent []byte, known *schema.VersionRecord) (int64, error) {
	if sent != nil {
		return s.storeZip(ctx, sha, sent)
	}
	info, err := s.findCode(ctx, sha)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return 0, schema.Invalid(schema.FieldError{
			Field: fieldCode, Got: sha, Allowed: "no such object in the code store: put the zip there first",
		})
	}
	if err != nil {
		return 0, fmt.Errorf("look for code %s: %w", sha, err)
	}
	if info.Size > MaxZip {
		return 0, tooLarge(fieldCode, info.Size)
	}
	if known != nil && known.CodeSHA256 == sha {
		return known.CodeSize, nil
	}
	free, err := s.oneReader(ctx)
	if err != nil {
		return 0, err
	}
	defer free()
	object, err := s.store.code.Get(ctx, sha)
	if err != nil {
		return 0, fmt.Errorf("read code %s: %w", sha, err)
	}
	defer object.Close()
	// The size that the store tells was written by whoever put the object there.
	var data bytes.Buffer
	n, err := io.Copy(&data, io.LimitReader(object, MaxZip+1))
	if n > MaxZip {
		return 0, tooLarge(fieldCode, uint64(n))
	}
	if errors.Is(err, jetstream.ErrDigestMismatch) {
		return 0, wrongBytes(sha)
	}
	if err != nil {
		return 0, fmt.Errorf("read code %s: %w", sha, err)
	}
	if sum := sha256.Sum256(data.Bytes()); hex.EncodeToString(sum[:]) != sha {
		return 0, wrongBytes(sha)
	}
	return n, checkZip(fieldCode, data.Bytes())
}

// oneReader waits until a package may be held in memory; free gives the place back.
func (s *Service) oneReader(ctx context.Context) (free func(), err error) {
	select {
	case s.reading <- struct{}{}:
		return func() { <-s.reading }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %d other packages: %w", maxReading, context.Cause(ctx))
	}
}

// checkZip is cheap: it reads the table of contents alone, and that only when it is not absurdly long.
func checkZip(field string, data []byte) error {
	if len(data) > MaxZip {
		return tooLarge(field, uint64(len(data)))
	}
	if bytes.Count(data, []byte("PK\x01\x02")) > maxHeaders {
		return tooMany(field)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return &schema.Error{Code: schema.CodeInvalidParameter, Message: errBadZip, Cause: err}
	}
	if len(z.File) == 0 {
		return schema.Errorf(schema.CodeInvalidParameter, errEmptyZip)
	}
	if len(z.File) > MaxFiles {
		return tooMany(field)
	}
	var total uint64
	for _, f := range z.File {
		if f.UncompressedSize64 > MaxUnzipped || total+f.UncompressedSize64 > MaxUnzipped {
			return schema.Errorf(schema.CodeInvalidParameter, "Unzipped size must be smaller than %d bytes", MaxUnzipped)
		}
		total += f.UncompressedSize64
	}
	return nil
}

func wrongBytes(sha string) error {
	return schema.Invalid(schema.FieldError{Field: fieldCode, Got: sha, Allowed: "the object of this name has another SHA-256: put it again"})
}

func tooLarge(field string, size uint64) error {
	return schema.Invalid(schema.FieldError{Field: field, Got: fmt.Sprintf("%d bytes", size), Allowed: fmt.Sprintf("at most %d", MaxZip)})
}

func tooMany(field string) error {
	return schema.Invalid(schema.FieldError{Field: field, Allowed: fmt.Sprintf("at most %d files", MaxFiles)})
}

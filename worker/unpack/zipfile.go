package unpack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/hearth-run/hearth/schema"
)

// fetch writes the zip to path and verifies its hash before anybody looks into it.
func fetch(ctx context.Context, hash, path string, limit int64, open func(context.Context) (io.ReadCloser, error)) error {
	source, err := open(ctx)
	if err != nil {
		return fmt.Errorf("fetch package %s: %w", hash, err)
	}
	defer source.Close()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("fetch package %s: %w", hash, err)
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(newReader(ctx, source), limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("fetch package %s: %w", hash, err)
	case size > limit:
		return refuse("the zip has more than %d bytes", limit)
	case hex.EncodeToString(sum.Sum(nil)) != hash:
		return schema.Errorf(schema.CodeInternal, "package %s arrived with another SHA-256: %x", hash, sum.Sum(nil))
	}
	return nil
}

// reader stops between two reads when alive has an error.
type reader struct {
	alive func() error
	from  io.Reader
}

func newReader(ctx context.Context, from io.Reader) reader {
	return reader{func() error { return context.Cause(ctx) }, from}
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.alive(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

// refuse is the error of a package that cannot be accepted.
func refuse(format string, args ...any) error {
	return schema.Errorf(schema.CodeInvalidParameter, refusal+format, args...)
}

const refusal = "the package cannot be unpacked: "

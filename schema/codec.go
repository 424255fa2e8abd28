package schema

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Marshal encodes a record or status. It fails for types that msgpack cannot write and for a record whose version nobody
// would read ([CheckVersion]): a forgotten V is found where it is written.
func Marshal(v any) ([]byte, error) {
	if r, ok := v.(versioned); ok {
		if err := CheckVersion(r.version()); err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
	}
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	var buf bytes.Buffer
	enc.Reset(&buf)
	enc.UseCompactInts(true) // else an int64 takes nine bytes, and a row of usage has eight
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return buf.Bytes(), nil
}

// Unmarshal scans b ([Scan]) and decodes it into v, a pointer to one of this package's types, never to an any. Members
// that v does not know are skipped; a record of a version that this build does not read is refused ([CheckVersion]).
// After an error v may be half written.
func Unmarshal(b []byte, v any) (err error) {
	if err := Scan(b); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	// The library panics where nil stands for a value that knows how to read itself, a time for instance (msgpack 5.4.1).
	defer func() {
		if said := recover(); said != nil {
			err = fmt.Errorf("decode %T: %v", v, said)
		}
	}()
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	if r, ok := v.(versioned); ok {
		if err := CheckVersion(r.version()); err != nil {
			return fmt.Errorf("decode %T: %w", v, err)
		}
	}
	return nil
}

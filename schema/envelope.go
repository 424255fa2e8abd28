package schema

import (
	"bytes"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// callFields is how many members the array of an envelope has. New ones are added at the end; a reader skips what it
// does not know and leaves what is missing zero.
const callFields = 21

// EncodeCall appends the envelope of c to dst and returns the whole: a msgpack array in a fixed order.
func EncodeCall(dst []byte, c *Call) []byte {
	buf := bytes.NewBuffer(dst)
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(buf)
	enc.UseCompactInts(true)
	// Writes into a bytes.Buffer cannot fail.
	_ = enc.EncodeArrayLen(callFields)
	for _, s := range [...]string{c.FunctionID, c.Version, c.CodeSHA256} {
		_ = enc.EncodeString(s)
	}
	_ = enc.EncodeUint(c.ConfigRevision)
	for _, s := range [...]string{c.Tenant, c.RequestID, c.Account, c.Function, c.Qualifier, c.Frontend} {
		_ = enc.EncodeString(s)
	}
	_ = enc.EncodeUint(c.Token)
	_ = enc.EncodeString(c.Reply)
	_ = enc.EncodeString(string(c.Reason))
	_ = enc.EncodeUint(uint64(c.Attempt))
	_ = enc.EncodeInt(int64(c.StartBy))
	_ = enc.EncodeInt(int64(c.Timeout))
	_ = enc.EncodeBool(c.LogTail)
	_ = enc.EncodeBytes(c.ClientContext)
	_ = enc.EncodeString(c.Traceparent)
	_ = enc.EncodeString(c.Tracestate)
	_ = enc.EncodeBytes(c.Payload)
	return buf.Bytes()
}

// DecodeCall scans and reads an envelope into c.
func DecodeCall(b []byte, c *Call) error {
	if err := Scan(b); err != nil {
		return fmt.Errorf("decode call: %w", err)
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(b))
	n, err := dec.DecodeArrayLen()
	if err != nil || n < callFields {
		return fmt.Errorf("decode call: %w: %d members", ErrHostile, n)
	}
	str := func(p *string) {
		if err == nil {
			*p, err = dec.DecodeString()
		}
	}
	u64 := func() (v uint64) {
		if err == nil {
			v, err = dec.DecodeUint64()
		}
		return v
	}
	i64 := func() (v int64) {
		if err == nil {
			v, err = dec.DecodeInt64()
		}
		return v
	}
	bin := func() (v []byte) {
		if err == nil {
			v, err = dec.DecodeBytes()
		}
		return v
	}
	str(&c.FunctionID)
	str(&c.Version)
	str(&c.CodeSHA256)
	c.ConfigRevision = u64()
	for _, p := range [...]*string{&c.Tenant, &c.RequestID, &c.Account, &c.Function, &c.Qualifier, &c.Frontend} {
		str(p)
	}
	c.Token = u64()
	str(&c.Reply)
	str((*string)(&c.Reason))
	c.Attempt = uint32(u64())
	c.StartBy = time.Duration(i64())
	c.Timeout = time.Duration(i64())
	if err == nil {
		c.LogTail, err = dec.DecodeBool()
	}
	c.ClientContext = bin()
	str(&c.Traceparent)
	str(&c.Tracestate)
	c.Payload = bin()
	if err != nil {
		return fmt.Errorf("decode call: %w", err)
	}
	return nil
}

package schema_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/hearth-run/hearth/schema"
)

func sampleCall() *schema.Call {
	return &schema.Call{
		Key: schema.Key{
			FunctionID: "0123456789abcdef", Version: "$LATEST", ConfigRevision: 17,
			CodeSHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		},
		RequestID: "8a1f0c1e-5b52-4e0e-9d5b-1f1f5b7d2a11", Account: "default", Function: "resize", Qualifier: "live", Frontend: "f1",
		Token: 0x1234567890abcdef, Reply: "_INBOX.abcdefghijklmnop.12345", Reason: schema.ReasonUnreserved, Attempt: 1,
		StartBy: 10 * time.Second, Timeout: 30 * time.Second, LogTail: true, ClientContext: []byte(`{"custom":{}}`),
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Payload: bytes.Repeat([]byte("x"), 200),
	}
}

// libraryEncode writes a call as package msgpack does: the other way to the same bytes.
func libraryEncode(dst []byte, c *schema.Call) []byte {
	buf := bytes.NewBuffer(dst)
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(buf)
	more := c.Event != "" || c.Held > 0
	n := 21
	if more {
		n += 2
	}
	_ = enc.EncodeArrayLen(n)
	for _, s := range []string{c.FunctionID, c.Version, c.CodeSHA256} {
		_ = enc.EncodeString(s)
	}
	_ = enc.EncodeUint(c.ConfigRevision)
	for _, s := range []string{c.Tenant, c.RequestID, c.Account, c.Function, c.Qualifier, c.Frontend} {
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
	if more {
		_ = enc.EncodeString(c.Event)
		_ = enc.EncodeUint(uint64(c.Held))
	}
	return buf.Bytes()
}

// libraryDecode reads what libraryEncode wrote, after the scan.
func libraryDecode(b []byte, c *schema.Call) error {
	if err := schema.Scan(b); err != nil {
		return err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(b))
	members, err := dec.DecodeArrayLen()
	str := func(p *string) {
		if err == nil {
			*p, err = dec.DecodeString()
		}
	}
	number := func() (v uint64) {
		if err == nil {
			v, err = dec.DecodeUint64()
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
	c.ConfigRevision = number()
	for _, p := range []*string{&c.Tenant, &c.RequestID, &c.Account, &c.Function, &c.Qualifier, &c.Frontend} {
		str(p)
	}
	c.Token = number()
	str(&c.Reply)
	str((*string)(&c.Reason))
	c.Attempt = uint32(number())
	c.StartBy = time.Duration(number())
	c.Timeout = time.Duration(number())
	if err == nil {
		c.LogTail, err = dec.DecodeBool()
	}
	c.ClientContext = bin()
	str(&c.Traceparent)
	str(&c.Tracestate)
	c.Payload = bin()
	if members > 21 {
		str(&c.Event)
		c.Held = int(number())
	}
	return err
}

// randomCall has strings, numbers and payloads around every length at which msgpack changes its form.
func randomCall(rng *rand.Rand) *schema.Call {
	lengths := []int{0, 1, 31, 32, 255, 256, 2000}
	text := func() string { return strings.Repeat("é", lengths[rng.IntN(len(lengths))]/2) }
	number := func() uint64 {
		edges := []uint64{0, 1, 127, 128, 255, 256, math.MaxUint16, math.MaxUint16 + 1, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
		return edges[rng.IntN(len(edges))]
	}
	payload := func() []byte {
		if n := rng.IntN(5); n < 4 {
			return [][]byte{nil, {}, {0xc1}, make([]byte, 300)}[n]
		}
		return make([]byte, 70_000)
	}
	c := &schema.Call{
		Key:       schema.Key{FunctionID: text(), Version: text(), CodeSHA256: text(), ConfigRevision: number(), Tenant: text()},
		RequestID: text(), Account: text(), Function: text(), Qualifier: text(), Frontend: text(), Token: number(), Reply: text(),
		Reason: schema.Reason(text()), Attempt: uint32(number()), StartBy: time.Duration(number() >> 1), Timeout: time.Duration(number() >> 1),
		LogTail: rng.IntN(2) == 0, ClientContext: payload()[:0:0], Traceparent: text(), Tracestate: text(), Payload: payload(),
	}
	switch rng.IntN(4) {
	case 0:
		c.Event = text()
	case 1:
		c.Event, c.Held, c.Payload = text(), 1+rng.IntN(schema.MaxPayload), nil
	}
	return c
}

func TestEnvelopeIsWhatTheLibraryWritesAndReads(t *testing.T) {
	t.Parallel()
	const seed = 4
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 2000 {
		want := randomCall(rng)
		b := schema.EncodeCall(nil, want)
		if !bytes.Equal(b, libraryEncode(nil, want)) {
			t.Fatalf("the library writes %+v otherwise", want)
		}
		if len(b) > schema.CallSize(want) {
			t.Fatalf("CallSize is %d, the envelope has %d bytes", schema.CallSize(want), len(b))
		}
		var got, other schema.Call
		if err := schema.DecodeCall(b, &got); err != nil {
			t.Fatal(err)
		}
		if err := libraryDecode(b, &other); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&got, want) || !reflect.DeepEqual(&other, want) {
			t.Fatalf("wrote %+v, read %+v, the library %+v", want, got, other)
		}
	}
}

func TestEncodeCallAppends(t *testing.T) {
	t.Parallel()
	c := sampleCall()
	if got := schema.EncodeCall([]byte("before"), c); !bytes.Equal(got, append([]byte("before"), schema.EncodeCall(nil, c)...)) {
		t.Error("what stood before is not there")
	}
}

func TestDecodeCallSharesThePayload(t *testing.T) {
	t.Parallel()
	b := schema.EncodeCall(nil, sampleCall())
	var c schema.Call
	if err := schema.DecodeCall(b, &c); err != nil {
		t.Fatal(err)
	}
	if &c.Payload[len(c.Payload)-1] != &b[len(b)-1] {
		t.Error("the payload was copied")
	}
	if grown := append(c.ClientContext, "overwritten"...); bytes.Contains(b, []byte("overwritten")) {
		t.Errorf("appending to one member wrote into the next: %q", grown)
	}
}

func TestDecodeCallSkipsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	want := sampleCall()
	want.Event = "default/1/17"
	b := schema.EncodeCall(nil, want)
	newer := append(bytes.Clone(b), 0x81, 0xa1, 'k', 0x92, 1, 2, 0xa1, 'x') // {"k":[1,2]}, "x"
	newer[2] += 2
	var c schema.Call
	if err := schema.DecodeCall(newer, &c); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&c, want) {
		t.Errorf("read %+v", c)
	}
}

func TestDecodeCallRefuses(t *testing.T) {
	t.Parallel()
	good := schema.EncodeCall(nil, sampleCall())
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	large := sampleCall()
	large.Tracestate = strings.Repeat("x", schema.MaxHeader)
	tail := bytes.Clone(good)
	tail[2]++
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"nil":                      {0xc0},
		"a map":                    {0x80},
		"an empty array":           {0x90},
		"one member less":          change(2, 20),
		"one member more":          change(2, 22),
		"2^32-1 members":           append([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, good[3:]...),
		"a byte after it":          append(bytes.Clone(good), 0),
		"a number for a string":    change(3, 7),
		"bytes for a string":       append([]byte{0xdc, 0, 21, 0xc4, 0}, good[20:]...),
		"a string for a number":    replaceOnce(t, good, []byte{17, 0xa0}, []byte{0xa0, 0xa0}),
		"a negative number":        replaceOnce(t, good, []byte{17, 0xa0}, []byte{0xff, 0xa0}),
		"a nested array":           replaceOnce(t, good, []byte{17, 0xa0}, []byte{0x90, 0xa0}),
		"an attempt of 2^32":       replaceOnce(t, good, append([]byte("unreserved"), 1), append([]byte("unreserved"), 0xcf, 0, 0, 0, 1, 0, 0, 0, 0)),
		"64 KB beside the payload": schema.EncodeCall(nil, large),
		"64 KB after the payload":  append(append(tail, 0xc6, 0, 1, 0, 0), make([]byte, 1<<16)...),
	} {
		c := schema.Call{Function: "before"}
		if err := schema.DecodeCall(b, &c); !errors.Is(err, schema.ErrHostile) {
			t.Errorf("%s: %v", name, err)
		} else if c.Function != "before" || c.Payload != nil {
			t.Errorf("%s: the call was written: %+v", name, c)
		}
	}
	for n := range good {
		if err := schema.DecodeCall(good[:n], new(schema.Call)); !errors.Is(err, schema.ErrHostile) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(good), err)
		}
	}
}

func replaceOnce(t *testing.T, b, old, new []byte) []byte {
	t.Helper()
	if bytes.Count(b, old) != 1 {
		t.Fatalf("% x occurs %d times", old, bytes.Count(b, old))
	}
	return bytes.Replace(b, old, new, 1)
}

func TestEnvelopeAllocations(t *testing.T) {
	c := sampleCall()
	dst := make([]byte, 0, schema.CallSize(c))
	if n := testing.AllocsPerRun(100, func() { schema.EncodeCall(dst, c) }); n != 0 {
		t.Errorf("EncodeCall: %v allocations", n)
	}
	b := schema.EncodeCall(nil, c)
	var d schema.Call
	if n := testing.AllocsPerRun(100, func() { _ = schema.DecodeCall(b, &d) }); n > 1 {
		t.Errorf("DecodeCall: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = schema.Scan(b) }); n != 0 {
		t.Errorf("Scan: %v allocations", n)
	}
}

func FuzzDecodeCall(f *testing.F) {
	f.Add(schema.EncodeCall(nil, sampleCall()))
	f.Add(schema.EncodeCall(nil, &schema.Call{}))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c schema.Call
		if err := schema.DecodeCall(b, &c); err != nil {
			if !errors.Is(err, schema.ErrHostile) {
				t.Fatalf("refused without saying so: %v", err)
			}
			return
		}
		if err := schema.Scan(b); err != nil {
			t.Fatalf("read, but the scan says %v", err)
		}
		var again schema.Call
		if err := schema.DecodeCall(schema.EncodeCall(nil, &c), &again); err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("read %+v, written and read again %+v, %v", c, again, err)
		}
	})
}

func BenchmarkEncodeCall(b *testing.B) {
	c := sampleCall()
	for name, encode := range map[string]func([]byte, *schema.Call) []byte{"here": schema.EncodeCall, "library": libraryEncode} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = encode(dst[:0], c)
			}
		})
	}
}

func BenchmarkDecodeCall(b *testing.B) {
	enc := schema.EncodeCall(nil, sampleCall())
	for name, decode := range map[string]func([]byte, *schema.Call) error{"here": schema.DecodeCall, "library": libraryDecode} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c schema.Call
			for b.Loop() {
				if err := decode(enc, &c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	record, err := schema.Marshal(sampleFunction())
	if err != nil {
		b.Fatal(err)
	}
	for name, enc := range map[string][]byte{"call": schema.EncodeCall(nil, sampleCall()), "function": record} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := schema.Scan(enc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package schema_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

func TestScopeMsgID(t *testing.T) {
	t.Parallel()
	seen := map[string][3]string{}
	for _, c := range [][3]string{{"f", "", "7"}, {"g", "", "7"}, {"f", "a", "7"}, {"f", "a", "b/7"}, {"f", "a/b", "7"}, {"f", "", "a/7"}} {
		id, err := schema.ScopeMsgID(c[0], c[1], c[2])
		if err != nil {
			t.Errorf("%q: %v", c, err)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q are both %q", c, other, id)
		}
		seen[id] = c
	}
	if id, err := schema.ScopeMsgID("f", "a", ""); id != "" || err != nil {
		t.Errorf("no id is %q, %v", id, err)
	}
	for _, bad := range []string{"a b", "a\r\nb", "ü", strings.Repeat("x", schema.MaxMsgID+1)} {
		if id, err := schema.ScopeMsgID("f", "", bad); schema.CodeOf(err) != schema.CodeInvalidParameter || id != "" {
			t.Errorf("%.20q: %q, %v", bad, id, err)
		}
	}
}

func TestReadAccepted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		accepted schema.Accepted
		code     schema.Code
	}{
		`{"stream":"E","seq":7}`:                  {schema.Accepted{Sequence: 7}, ""},
		`{"stream":"E","seq":7,"duplicate":true}`: {schema.Accepted{Sequence: 7, Duplicate: true}, ""},
		`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"E","seq":0}`: {code: schema.CodeCapacityExceeded},
		`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum"},"stream":"E"}`:   {code: schema.CodeTooLarge},
		`{"error":{"code":400,"err_code":10111,"description":"rollup not permitted"},"stream":"E","seq":0}`:   {code: schema.CodeUnavailable},
		`{}`:      {code: schema.CodeUnavailable},
		`a reply`: {code: schema.CodeUnavailable},
		``:        {code: schema.CodeUnavailable},
	} {
		got, err := schema.ReadAccepted([]byte(text))
		if got != want.accepted || schema.CodeOf(err) != want.code {
			t.Errorf("%s: %+v, %v; want %+v, %q", text, got, err, want.accepted, want.code)
		}
	}
}

// The quick way and the decoder read the same: what the quick way takes at all, the decoder takes for the same, whatever bytes
// of a PubAck are changed, doubled or lost.
func TestReadAcceptedAlike(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const bytes = `{}":,\0123456789eE-. streamqduplicat` + "\x00\n"
	taken := 0
	for range 50_000 {
		text := []byte(fmt.Sprintf(`{"stream":"E","seq":%d}`, random.Uint64()>>random.IntN(64)))
		for range random.IntN(3) {
			at, c := random.IntN(len(text)), bytes[random.IntN(len(bytes))]
			switch random.IntN(3) {
			case 0:
				text[at] = c
			case 1:
				text = slices.Insert(text, at, c)
			case 2:
				text = slices.Delete(text, at, at+1)
			}
		}
		got, err := schema.ReadAccepted(text)
		want, wantErr := schema.ReadAccepted(append([]byte(" "), text...)) // not the quick way
		if got != want || schema.CodeOf(err) != schema.CodeOf(wantErr) {
			t.Fatalf("%q: %+v, %v; the decoder reads %+v, %v", text, got, err, want, wantErr)
		}
		if err == nil {
			taken++
		}
	}
	if taken == 0 {
		t.Error("none was taken")
	}
}

func TestReadAcceptedAllocates(t *testing.T) { // not parallel: it counts what the process allocates
	plain := []byte(`{"stream":"HEARTH_EVENTS_default","seq":123456}`)
	if n := testing.AllocsPerRun(100, func() { _, _ = schema.ReadAccepted(plain) }); n > 0 {
		t.Errorf("%v allocations for a plain one", n)
	}
}

package schema_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/hearth-run/hearth/schema"
)

func TestSeedFile(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "_HC.shop"} {
		text := schema.SeedFile{Seed: seed, InboxPrefix: prefix}.Encode()
		got, err := schema.ParseSeedFile(text)
		if err != nil || string(got.Seed) != string(seed) || got.InboxPrefix != prefix {
			t.Errorf("%q: %v, %v", prefix, got.InboxPrefix, err)
		}
		if first, _, _ := strings.Cut(string(text), "\n"); first != string(seed) {
			t.Error("the seed is not the first line: simple tools read no further")
		}
		// As NATS's own tools read it.
		if key, err := nkeys.ParseDecoratedNKey(text); err != nil {
			t.Errorf("%q: %v", prefix, err)
		} else if public, _ := key.PublicKey(); !nkeys.IsValidPublicUserKey(public) {
			t.Errorf("%q: %s", prefix, public)
		}
	}
	for text, says := range map[string]string{
		"": "no seed", "# a\n": "no seed", "A\nB\n": "more than one line",
		"A\n# inbox prefix: _HC.>\n":                        "inbox prefix",
		"A\n# inbox prefix: $JS.API\n":                      "inbox prefix",
		"A\n# inbox prefix:\n":                              "inbox prefix",
		"A\n# inbox prefix: _HC.a\n# inbox prefix: _HC.b\n": "two inbox prefixes",
	} {
		if _, err := schema.ParseSeedFile([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := schema.ParseSeedFile([]byte("SECRET\nSECRET\n")); strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error repeats the content: %v", err)
	}
}

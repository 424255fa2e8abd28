package schema_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

func TestFunctionNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[string][2]string{
		"resize":                         {"resize", ""},
		"resize:live":                    {"resize", "live"},
		"resize:$LATEST":                 {"resize", "$LATEST"},
		"resize:12":                      {"resize", "12"},
		"123456789012:function:resize":   {"resize", ""},
		"123456789012:function:resize:3": {"resize", "3"},
		"function:resize":                {"resize", ""},
		"function:resize:live":           {"resize", "live"},
		"function":                       {"function", ""},
		"arn:aws:lambda:us-east-1:000000000000:function:resize":         {"resize", ""},
		"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f:3": {"f", "3"},
		schema.ARN("default", "resize", "live"):                         {"resize", "live"},
		schema.ARN("ACME Inc.", "resize", ""):                           {"resize", ""},
	} {
		name, qualifier, err := schema.ParseFunctionName(s)
		if err != nil || name != want[0] || qualifier != want[1] {
			t.Errorf("%q: %q, %q, %v, want %q", s, name, qualifier, err, want)
		}
	}
	for _, s := range []string{
		"", ":", "resize:", ":live", "a:b:c", "a.b", "a b", "resize:a.b", "arn", "arn:aws:lambda:us-east-1:1:function", "arn:aws:s3:us-east-1:1:function:f",
		"arn:aws:lambda:us-east-1:1:layer:f", "arn:aws:lambda:us-east-1:*:function:f", "arn:aws:lambda:us-east-1:1:function:f:1:2", "12345:function:f",
		"arn:gcp:lambda:us-east-1:1:function:f", strings.Repeat("a", 65), strings.Repeat("a", 257), "resize:$latest",
	} {
		if name, qualifier, err := schema.ParseFunctionName(s); schema.CodeOf(err) != schema.CodeInvalidParameter {
			t.Errorf("%q: %q, %q, %v", s, name, qualifier, err)
		}
	}
	if got := schema.ARN("default", "resize", "3"); got != "arn:aws:lambda:us-east-1:000000000000:function:resize:3" {
		t.Error(got)
	}
}

func FuzzParseFunctionName(f *testing.F) {
	f.Add("arn:aws:lambda:us-east-1:000000000000:function:resize:live")
	f.Add("123456789012:function:resize")
	f.Add("function:x")
	f.Fuzz(func(t *testing.T, s string) {
		name, qualifier, err := schema.ParseFunctionName(s)
		if err != nil {
			return
		}
		if schema.ValidateFunctionName(name) != nil || qualifier != "" && schema.ValidateQualifier(qualifier) != nil {
			t.Fatalf("%q: %q, %q", s, name, qualifier)
		}
		n, q, err := schema.ParseFunctionName(schema.ARN("default", name, qualifier))
		if err != nil || n != name || q != qualifier {
			t.Fatalf("%q: %q, %q; its ARN: %q, %q, %v", s, name, qualifier, n, q, err)
		}
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int]int{0: 1, 1: 1, 128: 1, 129: 2, 256: 2, 10240: 80} {
		if got := schema.Places(memory); got != want {
			t.Errorf("%d MB: %d places, want %d", memory, got, want)
		}
	}
}

func TestVersionsAndKeys(t *testing.T) {
	t.Parallel()
	rec := sampleFunction()
	for qualifier, want := range map[string]string{"": "$LATEST", "$LATEST": "$LATEST", "1": "1"} {
		if v, ok := rec.Find(qualifier); !ok || v.Version != want {
			t.Errorf("%q: %+v, %v", qualifier, v, ok)
		}
	}
	for _, qualifier := range []string{"2", "live", "01"} {
		if v, ok := rec.Find(qualifier); ok {
			t.Errorf("%q: %+v", qualifier, v)
		}
	}
	key := schema.VersionKey(rec, &rec.Latest, "acme")
	if want := (schema.Key{FunctionID: rec.ID, Version: "$LATEST", CodeSHA256: rec.Latest.CodeSHA256, ConfigRevision: 9, Tenant: "acme"}); key != want {
		t.Errorf("%+v, want %+v", key, want)
	}
	rec.PerTenant = false
	if key := schema.VersionKey(rec, &rec.Latest, "acme"); key.Tenant != "" {
		t.Errorf("a function that is not per tenant has the key %+v", key)
	}
}

func TestFabricValues(t *testing.T) {
	t.Parallel()
	f := schema.DefaultFabric()
	if bad := f.Validate(); bad != nil {
		t.Errorf("the defaults are refused: %v", bad)
	}
	for key, value := range f.Values() {
		other := schema.Fabric{}
		if err := other.Set(key, value); err != nil || other.Values()[key] != value {
			t.Errorf("%s=%s: %v, then %q", key, value, err, other.Values()[key])
		}
	}
	for key, cases := range map[string]struct{ good, bad []string }{
		"theta":            {[]string{"1", "0.5", "1e-3"}, []string{"0", "1.01", "-1", "NaN", "Inf", "", "x"}},
		"t":                {[]string{"1", "1000"}, []string{"0", "1001", "1.5"}},
		"arcs":             {[]string{"1", "256"}, []string{"0", "257"}},
		"vnodes":           {[]string{"1", "1024"}, []string{"0", "1025"}},
		"reclaim":          {[]string{"10s"}, []string{"0s", "-1s", "10", "1000h"}},
		"keep-alive":       {[]string{"1ms", "24h"}, []string{"0", ""}},
		"quiet":            {[]string{"30s"}, []string{"0s"}},
		"catch":            {[]string{"2ms", "1us"}, []string{"0s", "2s"}},
		"start-by":         {[]string{"100ms", "15m"}, []string{"99ms", "15m1ns"}},
		"max-environments": {[]string{"0", "5"}, []string{"-1", "x"}},
		"growth":           {[]string{"1"}, []string{"0"}},
		"tenant-policy":    {[]string{"any", "subject", "key", "jwt"}, []string{"", "Any", "none"}},
		"tenant-jwks":      {[]string{"", "https://a.example/jwks"}, []string{"a", "ftp://a", "https://u:p@a", "https://", "https://a/#f"}},
		"tenant-claim":     {[]string{"", "tenant", "https://shop.example/tenants"}, []string{"a b", "a\n", strings.Repeat("c", 65)}},
		"issuer":           {[]string{"", "https://a.example"}, []string{"a b", "a\n", strings.Repeat("i", 257)}},
	} {
		for _, value := range cases.good {
			if err := f.Set(key, value); err != nil {
				t.Errorf("%s=%s: %v", key, value, err)
			}
		}
		before := f
		for _, value := range cases.bad {
			if err := f.Set(key, value); schema.CodeOf(err) != schema.CodeInvalidParameter || !strings.Contains(err.Error(), key) || f != before {
				t.Errorf("%s=%s: %v", key, value, err)
			}
		}
	}
	if err := f.Set("record-version", "1"); err == nil || !strings.Contains(err.Error(), "theta") {
		t.Errorf("an unknown key: %v", err)
	}
	wrong := schema.Fabric{Theta: math.NaN(), StartBy: time.Hour}
	if got := fieldNames(wrong.Validate()); strings.Join(got, " ") != "arcs catch growth keep-alive quiet reclaim start-by t tenant-policy theta vnodes" {
		t.Errorf("found %v", got)
	}
}

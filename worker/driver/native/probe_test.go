//go:build linux && (amd64 || arm64)

package native_test

import "testing"

// TestProbe: on a host where these tests run the sandbox can be built, and it claims what it holds.
func TestProbe(t *testing.T) {
	needsRoot(t)
	d := open(t)
	t.Cleanup(func() { _ = d.Close() })
	for range 2 {
		got, err := d.Probe(t.Context())
		if err != nil || !got.Tenants || !got.Limits || len(got.Notes) != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

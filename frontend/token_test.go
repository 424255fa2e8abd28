package frontend

import "testing"

// A caller may name its call; what does not look like our own ids is refused.
func TestRequestIDsOfCallers(t *testing.T) {
	t.Parallel()
	n := newNames()
	for range 1000 {
		_, b := n.draw()
		if id := requestID(b); checkRequestID(id) != nil {
			t.Fatalf("our own id %s is refused", id)
		}
	}
	for _, id := range []string{
		"", "-", "x", "00000000-0000-0000-0000-000000000000", "6BA7B810-9DAD-41D1-80B4-00C04FD430C8",
		"6ba7b8109dad41d180b400c04fd430c8", "6ba7b810-9dad-41d1-80b4-00c04fd430c8-", "6ba7b810-9dad-41d1-80b4-00c04fd430c8\r\n",
		"6ba7b810-9dad-41d1-00b4-00c04fd430c8", "------------------------------------",
	} {
		if checkRequestID(id) == nil {
			t.Errorf("%q is taken", id)
		}
	}
}

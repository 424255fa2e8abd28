package main

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/hearth-run/hearth/examples/tenant/records"
)

// It answers until it is told to end; a setting that is missing is said before.
func TestServe(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ctx, stop := context.WithCancel(t.Context())
	l, done := listen(), make(chan error, 1)
	go func() { // ends with stop
		done <- serve(ctx, l, records.Config{JWKS: "http://127.0.0.1:1/", Issuer: "hearth", Audience: "records", Account: "default"})
	}()
	res, err := http.Get("http://" + l.Addr().String() + "/records/a")
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %s", res.Status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := serve(t.Context(), listen(), records.Config{JWKS: "http://127.0.0.1:1/", Issuer: "hearth", Audience: "records"}); err == nil {
		t.Error("every account may come")
	}
}

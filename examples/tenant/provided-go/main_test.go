package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// The function asks for its token as SECURITY 4 has it, and hands the service's word on.
func TestHandle(t *testing.T) {
	refuse := false
	hearth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Hearth-Token-Request") != "true" || r.Header.Get("Hearth-Token-Auth") != "s3cret" || refuse {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errorType":"TokenRefused","errorMessage":"refused"}`)
			return
		}
		fmt.Fprint(w, `{"token":"t0ken","expires":"2026-11-28T08:45:00Z"}`)
	}))
	defer hearth.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("Authorization %q", r.Header["Authorization"])
		}
		if r.URL.Path == "/records/another's" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"you have no such record"}`)
			return
		}
		fmt.Fprintf(w, `{"record":{"method":%q,"path":%q}}`, r.Method, r.URL.EscapedPath())
	}))
	defer service.Close()
	t.Setenv("HEARTH_TOKEN_URL", hearth.URL)
	t.Setenv("HEARTH_TOKEN_AUTH", "s3cret")
	t.Setenv("RECORDS", service.URL)
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{TenantID: "acme"})
	for in, want := range map[string]string{
		`{"id":"i"}`:              `{"customer":"acme","status":200,"record":{"method":"GET","path":"/records/i"}}`,
		`{"id":"a/b","record":1}`: `{"customer":"acme","status":200,"record":{"method":"PUT","path":"/records/a%2Fb"}}`,
		`{"id":"another's"}`:      `{"customer":"acme","status":404,"error":"you have no such record"}`,
	} {
		var event request
		if err := json.Unmarshal([]byte(in), &event); err != nil {
			t.Fatal(err)
		}
		out, err := handle(ctx, event)
		if got, _ := json.Marshal(out); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	if _, err := handle(ctx, request{}); err == nil {
		t.Error("no id is taken")
	}
	refuse = true
	if out, err := handle(ctx, request{ID: "i"}); err == nil || err.Error() != "ask for the token: refused" {
		t.Errorf("without a token: %+v, %v", out, err)
	}
}

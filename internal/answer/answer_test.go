package answer_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/answer"
	"github.com/hearth-run/hearth/schema"
)

// TestPlatformErrorIsThePlatforms: the header holds codes of the table that no function posted, and nothing else.
//
// Broken to see it fail: PlatformCode without Posted, and the header set to any type.
func TestPlatformErrorIsThePlatforms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		failure schema.FunctionError
		want    string
	}{
		{schema.FunctionError{Type: string(schema.CodeTimedOut)}, "Sandbox.Timedout"},
		{schema.FunctionError{Type: string(schema.CodeTimedOut), Body: []byte(`{}`)}, "Sandbox.Timedout"},
		{schema.FunctionError{Type: string(schema.CodeTimedOut), Posted: true}, ""},
		{schema.FunctionError{Type: string(schema.CodeTimedOut), Posted: true, Body: []byte(`{}`)}, ""},
		{schema.FunctionError{Type: "Oops"}, ""},
	} {
		found, answered := "", false
		look := func(m *nats.Msg) error { // which is not kept: it is used again
			found, answered = m.Header.Get(schema.HeaderPlatformError), m.Header.Get(schema.HeaderFunctionError) != ""
			return nil
		}
		run := &schema.Run{Call: &schema.Call{RequestID: "id-1", Reply: "_INBOX.x"}}
		if err := answer.Publish(look, run, &schema.Outcome{Error: &test.failure}, true); err != nil {
			t.Fatal(err)
		}
		if found != test.want || !answered {
			t.Errorf("%+v: the platform is said to have found %q", test.failure, found)
		}
		if body := string(answer.ErrorBody("id-1", &test.failure)); strings.Contains(body, "RequestId: ") != (test.want != "") {
			t.Errorf("%+v: %s", test.failure, body)
		}
	}
}

//go:build !race

// The SDK takes a minute of a processor to be compiled for the race detector, and has no part in a race.

package frontend_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

func (b *bundle) sdk() *lambda.Client {
	return lambda.New(lambda.Options{
		Region: schema.Region, BaseEndpoint: aws.String(b.url), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
}

// An unmodified AWS SDK hands an event in: it is in the stream, with all that its caller said, before the 202.
func TestEventsByTheSDK(t *testing.T) {
	t.Parallel()
	fn := record("tenants")
	fn.PerTenant = true
	b := setup(t, settings{http: true, functions: []*schema.FunctionRecord{fn}})
	published := b.events(t, nil)
	answer, err := b.sdk().Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String("tenants"), InvocationType: types.InvocationTypeEvent, Payload: []byte(`{"order":7}`),
		TenantId: aws.String("acme/1"), Qualifier: aws.String("$LATEST"), ClientContext: aws.String("eyJjdXN0b20iOnsKImEiOjF9fQ=="),
	})
	if err != nil || answer.StatusCode != http.StatusAccepted || len(answer.Payload) != 0 || answer.FunctionError != nil {
		t.Fatalf("%+v, %v", answer, err)
	}
	m := next(t, published)
	// The header names the sub-tenant and not the subject: nothing but the policy vouches for it.
	if m.Subject != b.Names.Event(subjects.DefaultAccount, "tenants", "") || string(m.Data) != `{"order":7}` {
		t.Errorf("published %s on %s", m.Data, m.Subject)
	}
	for name, want := range map[string]string{
		schema.HeaderTenant: "acme/1", schema.HeaderQualifier: "$LATEST", schema.HeaderClientContext: `{"custom":{"a":1}}`,
	} {
		if got := m.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if id := m.Header.Get(schema.HeaderMsgID); !strings.HasPrefix(id, "tenants/"+subjects.Escape("acme/1")+"/sdk-") {
		t.Errorf("its id is %q, not scoped by function and sub-tenant", id)
	}

	dry := func(in lambda.InvokeInput) error {
		in.InvocationType = types.InvocationTypeDryRun
		out, err := b.sdk().Invoke(t.Context(), &in)
		if err == nil && out.StatusCode != http.StatusNoContent {
			t.Errorf("a dry run answers %d", out.StatusCode)
		}
		return err
	}
	if err := dry(lambda.InvokeInput{FunctionName: aws.String("echo")}); err != nil {
		t.Error(err)
	}
	for name, in := range map[string]lambda.InvokeInput{
		"function": {FunctionName: aws.String("nobody")}, "qualifier": {FunctionName: aws.String("echo"), Qualifier: aws.String("7")},
		"tenant": {FunctionName: aws.String("tenants")}, "tenant of none": {FunctionName: aws.String("echo"), TenantId: aws.String("acme")},
	} {
		if err := dry(in); err == nil {
			t.Errorf("a dry run takes an unknown %s", name)
		}
		in.InvocationType = types.InvocationTypeEvent
		if _, err := b.sdk().Invoke(t.Context(), &in); err == nil {
			t.Errorf("an event with an unknown %s is accepted", name)
		}
	}
	if n, _, _ := published.Pending(); n != 0 {
		t.Errorf("%d more events were published, of refused ones", n)
	}
}

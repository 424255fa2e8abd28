package runtimeapi_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/hearth-run/hearth/worker/runtimeapi"
)

// function is what the test binary is when it is started as a function: aws-lambda-go as its users run it, with SIGTERM
// support, for which it registers as an extension.
func function() {
	lambda.StartWithOptions(func(ctx context.Context, in map[string]string) (any, error) {
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		switch in["do"] {
		case "fail":
			return nil, errors.New("as asked")
		case "stream":
			return io.MultiReader(strings.NewReader(strings.Repeat("s", 100_000)), failing{}), nil
		case "large":
			return strings.Repeat("x", 7<<20), nil
		case "exit":
			os.Exit(3)
		}
		return map[string]any{"id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "tenant": lc.TenantID,
			"custom": lc.ClientContext.Custom["k"], "deadline": deadline.UnixMilli(), "said": in["say"],
			"trace": os.Getenv("_X_AMZN_TRACE_ID")}, nil
	}, lambda.WithEnableSIGTERM())
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the source broke") }

// TestGoClient runs the library that Go functions are built with against the server, in a process of its own.
func TestGoClient(t *testing.T) {
	t.Parallel()
	e := setup(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + e.addr}
	child.Stderr = io.Discard
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	t.Cleanup(func() { _ = child.Process.Kill() })
	e.event("parked first")
	if n := e.server.Extensions(); n > 1 {
		t.Fatalf("%d extensions", n)
	}
	eventually(t, "the extension for SIGTERM", func() bool { return e.server.Extensions() == 1 })

	call := func(payload string) runtimeapi.Answer {
		t.Helper()
		err := e.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.UnixMilli(4102444800000), Qualifier: "live",
			TraceID: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
			Tenant:  "acme / 1", ClientContext: []byte(`{"custom":{"k":"grüß"}}`), Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		a := e.answered()
		if a.Parked {
			t.Fatal("aws-lambda-go does not pipeline")
		}
		e.event("parked")
		return a
	}
	for range 3 {
		a := call(`{"say":"hé"}`)
		want := `{"arn":"arn:aws:lambda:us-east-1:000000000000:function:echo:live","custom":"grüß","deadline":4102444800000,"id":"` + id +
			`","said":"hé","tenant":"acme / 1","trace":"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"}`
		if a.Error != nil || string(a.Payload) != want || a.ContentType != "application/json" {
			t.Fatalf("answer %s %+v (%s), want %s", a.Payload, a.Error, a.ContentType, want)
		}
	}
	if a := call(`{"do":"fail"}`); a.Error == nil || a.Error.Type != "errorString" || string(a.Error.Body) !=
		`{"errorMessage":"as asked","errorType":"errorString"}` {
		t.Fatalf("failure: %+v %s", a.Error, a.Error.Body)
	}
	// The body of a reader that fails ends well: the trailers alone say that it is half an answer.
	if a := call(`{"do":"stream"}`); a.Error == nil || a.Error.Type != "errorString" && a.Error.Type != "Runtime.Unknown" ||
		!strings.Contains(string(a.Error.Body), "the source broke") {
		t.Fatalf("stream: %+v", a.Error)
	}
	if err := e.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.Now().Add(time.Minute),
		Payload: []byte(`{"do":"large"}`)}); err != nil {
		t.Fatal(err)
	}
	if a := e.answered(); a.Error == nil || a.Error.Type != "Function.ResponseSizeTooLarge" {
		t.Fatalf("large: %+v", a.Error)
	}
	// It exits, as it does at every status but 202.
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the function did not exit")
	}
	e.server.Drain(patience)
	if n := e.server.Connections(); n != 0 {
		t.Fatalf("%d connections are left", n)
	}
}

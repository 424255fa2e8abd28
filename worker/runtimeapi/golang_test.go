package runtimeapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/hearth-run/hearth/schema"
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
		case "http":
			return &events.LambdaFunctionURLStreamingResponse{StatusCode: 201, Headers: map[string]string{"x": "y"},
				Cookies: []string{"a=b"}, Body: strings.NewReader("streamed")}, nil
		case "answer":
			return strings.Repeat("x", schema.MaxAnswer-2), nil
		case "panic":
			panic(errors.New("no way on"))
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

// goClient starts the library that Go functions are built with, in a process of its own.
func goClient(t *testing.T) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := setup(t).run(exec.Command(self))
	if n := c.server.Extensions(); n > 1 {
		t.Fatalf("%d extensions", n)
	}
	eventually(t, "the extension for SIGTERM", func() bool { return c.server.Extensions() == 1 })
	return c
}

// TestGoClient: answers, failures and streams of aws-lambda-go, until one that is too large ends it.
func TestGoClient(t *testing.T) {
	t.Parallel()
	c := goClient(t)
	call := func(payload string) runtimeapi.Answer {
		t.Helper()
		return c.returns(c.call(payload))
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
	// What is streamed to a buffered caller is one answer: prelude, eight zero bytes, body.
	a := call(`{"do":"http"}`)
	prelude, body, ok := strings.Cut(string(a.Payload), "\x00\x00\x00\x00\x00\x00\x00\x00")
	if a.Error != nil || !ok || body != "streamed" || a.ContentType != "application/vnd.awslambda.http-integration-response" ||
		prelude != `{"statusCode":201,"headers":{"x":"y"},"cookies":["a=b"]}` {
		t.Fatalf("http: %q (%s) %+v", a.Payload, a.ContentType, a.Error)
	}
	if a := call(`{"do":"answer"}`); a.Error != nil || len(a.Payload) != schema.MaxAnswer {
		t.Fatalf("the largest answer: %d bytes, %+v", len(a.Payload), a.Error)
	}
	if a := c.call(`{"do":"large"}`); a.Error == nil || a.Error.Type != "Function.ResponseSizeTooLarge" {
		t.Fatalf("large: %+v", a.Error)
	}
	// It exits, as it does at every status but 202.
	if status := c.exit(); status != 1 {
		t.Errorf("exit %d", status)
	}
}

// TestGoClientPanics: the caller is told of a panic with its stack, and the process ends.
func TestGoClientPanics(t *testing.T) {
	t.Parallel()
	c := goClient(t)
	a := c.call(`{"do":"panic"}`)
	var told struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
		Stack   []struct {
			Path, Label string
			Line        int
		} `json:"stackTrace"`
	}
	if a.Error == nil || a.Error.Type != "errorString" {
		t.Fatalf("%+v", a.Error)
	}
	if err := json.Unmarshal(a.Error.Body, &told); err != nil {
		t.Fatalf("%v: %s", err, a.Error.Body)
	}
	here := false
	for _, frame := range told.Stack {
		here = here || strings.HasSuffix(frame.Path, "golang_test.go") && frame.Line > 0
	}
	if told.Message != "no way on" || told.Type != a.Error.Type || !here {
		t.Errorf("told %+v", told)
	}
	if status := c.exit(); status != 1 {
		t.Errorf("exit %d", status)
	}
}

// TestGoClientExits: the end of the process in a call is seen by its connections.
func TestGoClientExits(t *testing.T) {
	t.Parallel()
	c := goClient(t)
	if err := c.server.Start(&runtimeapi.Invocation{RequestID: id, Deadline: time.Now().Add(time.Minute), Payload: []byte(`{"do":"exit"}`)}); err != nil {
		t.Fatal(err)
	}
	if status := c.exit(); status != 3 {
		t.Errorf("exit %d", status)
	}
}

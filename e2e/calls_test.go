package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/e2e/fabric"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	f := fabric.Start(t, fabric.Options{Managers: 8, Capacity: 40, Driver: fabric.Sandbox()})

	t.Run("S06", func(t *testing.T) {
		c := f.Anonymous()
		// A machine on which a process does not run for seconds loses leases and calls: that is another scenario, and another try.
		for try := 1; ; try++ {
			name := fmt.Sprint("g", try)
			f.DeployFn(name)
			managers, environments, wrong := map[string]int{}, map[string]int{}, []string(nil)
			for i := range 60 {
				a := invoke(t, c, name, `"count"`)
				managers[a.Manager]++
				environments[a.Environment]++
				if want := map[bool]string{true: "cold", false: "warm"}[i == 0]; string(a.Start) != want || string(a.Reason) != "unreserved" {
					wrong = append(wrong, fmt.Sprintf("call %d: %s, %s (%s, %s), want %s", i, a.Start, a.Reason, a.Manager, a.Environment, want))
				}
			}
			if len(managers) == 1 && len(environments) == 1 && wrong == nil {
				return
			}
			t.Logf("try %d: 60 calls one after the other went to managers %v, environments %v: %q", try, managers, environments, wrong)
			if try == 3 {
				t.Fatal("sequential calls did not meet one environment in any of three tries")
			}
		}
	})

	t.Run("S08", func(t *testing.T) {
		f.DeployFn("same", "--timeout", "2s")
		everyDoor(t, f)
	})
	t.Run("S08 with 5 MB by NATS and HTTP", func(t *testing.T) {
		f.DeployFn("far", "--timeout", "1m")
		payload := `"` + strings.Repeat("0123456789", 500_000) + `"`
		for door, call := range map[string]func(*testing.T, *fabric.Fabric, string, string) shape{"nats": byNATS, "http": byHTTP, "sdk": bySDK} {
			for range 4 {
				t.Run(door, func(t *testing.T) {
					t.Parallel()
					if got := call(t, f, "far", payload); got.body != payload || got.functionError || got.status != 0 {
						t.Errorf("answered %d bytes (%d, %s), want the %d that were sent", len(got.body), got.status, got.code, len(payload))
					}
				})
			}
		}
	})
	quiet(t, f)
}

// shape is what a door must agree on: the body of an answer, or the refusal's status and type.
type shape struct {
	body          string
	functionError bool
	status        int
	code          string
}

// everyDoor makes the same calls by NATS, HTTP, an AWS SDK and the CLI.
func everyDoor(t *testing.T, f *fabric.Fabric) {
	doors := map[string]func(t *testing.T, function, payload string) shape{
		"nats": func(t *testing.T, function, payload string) shape { return byNATS(t, f, function, payload) },
		"http": func(t *testing.T, function, payload string) shape { return byHTTP(t, f, function, payload) },
		"sdk":  func(t *testing.T, function, payload string) shape { return bySDK(t, f, function, payload) },
		"cli":  func(t *testing.T, function, payload string) shape { return byCLI(t, f, function, payload) },
	}
	cases := []struct {
		name, function, payload string
		want                    shape
	}{
		{"answer", "same", `{"a":[1,2,{"b":"ü"}]}`, shape{body: `{"a":[1,2,{"b":"ü"}]}`}},
		{"qualifier", "same:$LATEST", `"x"`, shape{body: `"x"`}},
		{"function error", "same", `"error"`,
			shape{body: `{"errorType":"Fn.Asked","errorMessage":"as asked"}`, functionError: true}},
		{"exit", "same", `"exit 3"`, shape{body: `{"errorType":"Runtime.ExitError",` +
			`"errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`, functionError: true}},
		{"signal", "same", `"signal"`, shape{body: `{"errorType":"Runtime.ExitError",` +
			`"errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`, functionError: true}},
		{"time-out", "same", `"hang"`, shape{body: `{"errorType":"Sandbox.Timedout",` +
			`"errorMessage":"RequestId: ID Error: Task timed out after 2.00 seconds"}`, functionError: true}},
		{"unknown function", "nobody", `{}`, shape{status: 404, code: "ResourceNotFoundException"}},
		{"unknown version", "same:7", `{}`, shape{status: 404, code: "ResourceNotFoundException"}},
		{"too large an answer", "same", `"big 6291557"`, shape{body: `{"errorType":"Function.ResponseSizeTooLarge",` +
			`"errorMessage":"Response payload size (6291557 bytes) exceeded maximum allowed payload size (6291556 bytes)."}`,
			functionError: true}},
	}
	for _, c := range cases {
		for door, call := range doors {
			t.Run(c.name+" by "+door, func(t *testing.T) {
				t.Parallel()
				got := call(t, c.function, c.payload)
				if got.functionError != c.want.functionError || got.status != c.want.status || got.code != c.want.code {
					t.Errorf("%+v\nwant %+v", got, c.want)
				}
				if c.want.body != "" {
					sameJSON(t, door, []byte(got.body), []byte(c.want.body))
				}
			})
		}
	}
}

// masked replaces the request id, which differs from call to call, by ID.
func masked(body, id string) string {
	if id == "" {
		return body
	}
	return strings.ReplaceAll(body, id, "ID")
}

func byNATS(t *testing.T, f *fabric.Fabric, function, payload string) shape {
	name, qualifier, _ := strings.Cut(function, ":")
	m := nats.NewMsg("hearth.invoke.default." + name)
	m.Data = []byte(payload)
	if qualifier != "" {
		m.Header.Set("Hearth-Qualifier", qualifier)
	}
	a, err := anonymous(t, f).RequestMsgWithContext(withDeadline(t), m)
	if err != nil {
		t.Fatal(err)
	}
	if text := a.Header.Get("Nats-Service-Error"); text != "" {
		code, _, _ := strings.Cut(text, ":")
		status, err := strconv.Atoi(a.Header.Get("Nats-Service-Error-Code"))
		if err != nil {
			t.Error(err)
		}
		return shape{status: status, code: code}
	}
	return shape{body: masked(string(a.Data), a.Header.Get("Hearth-Request-Id")),
		functionError: a.Header.Get("Hearth-Function-Error") == "Unhandled"}
}

func byHTTP(t *testing.T, f *fabric.Fabric, function, payload string) shape {
	name, qualifier, _ := strings.Cut(function, ":")
	path := name
	if qualifier != "" {
		path += "%3A" + strings.ReplaceAll(qualifier, "$", "%24")
	}
	resp, body := post(t, f, path, strings.NewReader(payload), nil)
	if resp.StatusCode != 200 {
		return shape{status: resp.StatusCode, code: resp.Header.Get("X-Amzn-Errortype")}
	}
	return shape{body: masked(string(body), resp.Header.Get("X-Amzn-Requestid")),
		functionError: resp.Header.Get("X-Amz-Function-Error") == "Unhandled"}
}

func bySDK(t *testing.T, f *fabric.Fabric, function, payload string) shape {
	svc := lambda.New(lambda.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(f.HTTP),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	name, qualifier, _ := strings.Cut(function, ":")
	in := &lambda.InvokeInput{FunctionName: aws.String(name), Payload: []byte(payload)}
	if qualifier != "" {
		in.Qualifier = aws.String(qualifier)
	}
	out, err := svc.Invoke(withDeadline(t), in)
	var api smithy.APIError
	var status interface{ HTTPStatusCode() int }
	if errors.As(err, &api) && errors.As(err, &status) {
		return shape{status: status.HTTPStatusCode(), code: api.ErrorCode()}
	}
	if err != nil {
		t.Fatal(err)
	}
	body := string(out.Payload)
	if at := strings.Index(body, "RequestId: "); at >= 0 && len(body) >= at+11+36 {
		body = masked(body, body[at+11:at+11+36])
	}
	return shape{body: body, functionError: aws.ToString(out.FunctionError) == "Unhandled"}
}

func byCLI(t *testing.T, f *fabric.Fabric, function, payload string) shape {
	r := f.CLI("invoke", function, "--payload", payload, "--json")
	var out struct {
		RequestID string `json:"request_id"`
		Status    string
		Payload   json.RawMessage
		Error     struct{ Code, Type string }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		t.Fatalf("invoke --json: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	exit := map[string]int{"ok": 0, "function-error": 1, "timeout": 1, "lost": 1, "refused": 2, "throttled": 3, "unavailable": 4}
	if want, known := exit[out.Status]; !known || r.Code != want {
		t.Errorf("status %q with exit code %d", out.Status, r.Code)
	}
	if out.Status == "refused" {
		return shape{status: 404, code: out.Error.Code}
	}
	return shape{body: masked(string(out.Payload), out.RequestID), functionError: out.Status != "ok"}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// door is a way to call a function.
type door func(ctx context.Context, function string, payload []byte) (*client.Answer, error)

// call makes one call with the example's work and checks the answer.
func (d *demo) call(ctx context.Context, e *example, door string, call door) bool {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	answer, err := call(ctx, e.name, e.payload)
	total := time.Since(begin)
	shown := ""
	switch {
	case err != nil:
	case answer.FunctionError != nil:
		err = fmt.Errorf("the function failed: %s: %s", answer.FunctionError.Type, answer.FunctionError.Message)
	case answer.Start == "" || answer.Arc == "" || answer.Reason == "" || answer.Manager == "":
		err = errors.New("the answer does not say how it came about")
	default:
		shown, err = e.check(answer.Payload)
	}
	d.report.call(e.name, door, answer, shown, total, err)
	return err == nil
}

// callWrong makes one call with bad input: the function's own error has to come back, as an answer.
func (d *demo) callWrong(ctx context.Context, e *example, door string, call door) bool {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	answer, err := call(ctx, e.name, e.wrong)
	total := time.Since(begin)
	shown := ""
	switch {
	case err != nil:
	case answer.FunctionError == nil:
		err = fmt.Errorf("bad input was answered with %.80q", answer.Payload)
	default:
		shown = fmt.Sprintf("bad input is its own error, %s", answer.FunctionError.Type)
	}
	d.report.call(e.name, door, answer, shown, total, err)
	return err == nil
}

func (d *demo) callNATS(ctx context.Context, function string, payload []byte) (*client.Answer, error) {
	return d.client.Invoke(ctx, client.Call{Function: function, Payload: payload})
}

// callHTTP is Lambda's Invoke, as curl would send it.
func (d *demo) callHTTP(ctx context.Context, function string, payload []byte) (*client.Answer, error) {
	return d.callHTTPWith(ctx, function, payload, nil)
}

func (d *demo) callHTTPWith(ctx context.Context, function string, payload []byte, header http.Header) (*client.Answer, error) {
	resp, err := d.post(ctx, function, payload, header)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, schema.MaxAnswer+1))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	h := resp.Header
	answer := &client.Answer{
		Payload: body, RequestID: h.Get(schema.HeaderRequestID), Start: schema.Start(h.Get(schema.HeaderStart)),
		Arc: h.Get(schema.HeaderArc), Reason: schema.Reason(h.Get(schema.HeaderReason)), Manager: h.Get(schema.HeaderManager),
		Tenant: h.Get(schema.HeaderTenant), Environment: h.Get(schema.HeaderEnvironment),
	}
	// Absent or malformed ones are shown as 0.
	answer.Rank, _ = strconv.Atoi(h.Get(schema.HeaderRank))
	answer.Duration, _ = time.ParseDuration(h.Get(schema.HeaderDuration))
	answer.Init, _ = time.ParseDuration(h.Get(schema.HeaderInitDuration))
	if h.Get("X-Amz-Function-Error") != "" {
		answer.FunctionError = &schema.FunctionError{Type: errorTypeOf(body), Body: body, Posted: h.Get(schema.HeaderPlatformError) == ""}
	}
	return answer, nil
}

// post sends Lambda's Invoke.
func (d *demo) post(ctx context.Context, function string, payload []byte, header http.Header) (*http.Response, error) {
	url := d.fabric.HTTPURL + "/2015-03-31/functions/" + function + "/invocations"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return d.http.Do(req)
}

// errorTypeOf is the errorType of Lambda's error object.
func errorTypeOf(body []byte) string {
	var object struct {
		Type string `json:"errorType"`
	}
	if json.Unmarshal(body, &object) != nil {
		return ""
	}
	return object.Type
}

// Command provided-go is the function of ../nodejs in Go. AWS's library gives a handler no header of the call but the tenant id, so
// it asks Hearth's endpoint for the token.
//
//	CGO_ENABLED=0 go build -o bootstrap ./examples/tenant/provided-go
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// maxAnswer is what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// request names a record, and is its new content if it has one.
type request struct {
	ID     string          `json:"id"`
	Record json.RawMessage `json:"record,omitempty"`
}

// answer is what the service said to this customer.
type answer struct {
	Customer string          `json:"customer"`
	Status   int             `json:"status"`
	Record   json.RawMessage `json:"record,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// client uses no proxy: one would get to see the secret by which the token is had.
var client = &http.Client{Transport: &http.Transport{}}

func main() { lambda.Start(handle) }

func handle(ctx context.Context, in request) (*answer, error) {
	if in.ID == "" {
		return nil, errors.New(`"id" must be a string`)
	}
	token, err := hearthToken(ctx)
	if err != nil {
		return nil, err
	}
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if len(in.Record) > 0 {
		method, body = http.MethodPut, bytes.NewReader(in.Record)
	}
	req, err := http.NewRequestWithContext(ctx, method, os.Getenv("RECORDS")+"/records/"+url.PathEscape(in.ID), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	out := &answer{}
	if out.Status, err = do(req, out); err != nil {
		return nil, fmt.Errorf("ask for record %q: %w", in.ID, err)
	}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		out.Customer = lc.TenantID
	}
	return out, nil
}

// hearthToken is the token of the customer whom this environment serves. Hearth keeps it fresh; it may be asked for 10 times a second.
func hearthToken(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("HEARTH_TOKEN_URL"), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Hearth-Token-Request", "true")
	req.Header.Set("Hearth-Token-Auth", os.Getenv("HEARTH_TOKEN_AUTH"))
	var got struct{ Token, ErrorMessage string }
	status, err := do(req, &got)
	if err == nil && status != http.StatusOK {
		err = errors.New(got.ErrorMessage)
	}
	if err != nil {
		return "", fmt.Errorf("ask for the token: %w", err)
	}
	return got.Token, nil
}

// do sends a request and reads the JSON of its answer.
func do(req *http.Request, answer any) (status int, err error) {
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	return res.StatusCode, err
}

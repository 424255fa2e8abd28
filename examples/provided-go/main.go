// Command provided-go is a Lambda function on runtime `provided`, with AWS's own Go library: it resizes a PNG.
//
//	CGO_ENABLED=0 go build -o bootstrap ./examples/provided-go
//	hearth deploy resize ./bootstrap --runtime provided
//
// The image comes and goes as base64 in JSON:
//
//	{"image": "iVBORw0KGgo…", "width": 64, "height": 64}
package main

import (
	"bytes"
	"context"
	"fmt"
	"image/png"

	"github.com/aws/aws-lambda-go/lambda"
)

// Bounds of what one call may ask for: a PNG of a few kilobytes can announce gigabytes of pixels.
const (
	maxSide   = 4096
	maxPixels = 16 << 20
)

// picture is both request and answer. A []byte is base64 in JSON.
type picture struct {
	Image  []byte `json:"image"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// InputError is what a caller got wrong; its name is the errorType of the answer.
type InputError struct{ Problem string }

// Error says what was wrong.
func (e InputError) Error() string { return e.Problem }

func main() { lambda.Start(handle) }

// handle resizes one picture.
func handle(_ context.Context, in picture) (*picture, error) {
	if in.Width < 1 || in.Height < 1 || in.Width > maxSide || in.Height > maxSide {
		return nil, InputError{fmt.Sprintf("width and height must be 1 to %d, not %d and %d", maxSide, in.Width, in.Height)}
	}
	header, err := png.DecodeConfig(bytes.NewReader(in.Image))
	if err != nil {
		return nil, InputError{"image is no PNG: " + err.Error()}
	}
	if header.Width*header.Height > maxPixels {
		return nil, InputError{fmt.Sprintf("image has %d x %d pixels; %d in all are allowed", header.Width, header.Height, maxPixels)}
	}
	src, err := png.Decode(bytes.NewReader(in.Image))
	if err != nil {
		return nil, InputError{"image is no PNG: " + err.Error()}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, resize(src, in.Width, in.Height)); err != nil {
		return nil, fmt.Errorf("encode the resized image: %w", err)
	}
	return &picture{Image: out.Bytes(), Width: in.Width, Height: in.Height}, nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hearth-run/hearth/cmd/hearth/internal/pack"
	"github.com/hearth-run/hearth/examples"
)

// example is a function of the demo with work for it, and what the answer must be.
type example struct {
	name    string
	runtime string
	work    string // what it is asked to do, for people
	// pack makes its package; an error is why this host leaves it out.
	pack    func(ctx context.Context, folder string) (*pack.Package, error)
	payload []byte
	check   func(answer []byte) (shown string, err error)
	wrong   []byte // a payload that it must refuse with an error of its own; nil if it refuses none
}

// errLeftOut is wrapped by the reasons for which an example is left out rather than failed.
var errLeftOut = errors.New("left out")

// demoExamples are the functions of the demo, those without a compiler first: the others are built meanwhile.
func demoExamples() ([]example, error) {
	resize, err := resizeExample()
	if err != nil {
		return nil, err
	}
	return []example{countExample(), sumsExample(), resize, echoExample()}, nil
}

// interpreted packs an embedded example whose interpreter this host has.
func interpreted(folder, interpreter string) func(context.Context, string) (*pack.Package, error) {
	return func(context.Context, string) (*pack.Package, error) {
		if _, err := exec.LookPath(interpreter); err != nil {
			return nil, fmt.Errorf("%w: %s is not installed", errLeftOut, interpreter)
		}
		files, err := fs.Sub(examples.Files, folder)
		if err != nil {
			return nil, err
		}
		return pack.FS(files)
	}
}

// built packs a Go example, if this host has Go and the source tree.
func built(name string) func(context.Context, string) (*pack.Package, error) {
	return func(ctx context.Context, folder string) (*pack.Package, error) {
		out := filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		if err := goBuild(ctx, "./examples/"+name, out); err != nil {
			if errors.Is(err, errNoSource) {
				err = fmt.Errorf("%w: %w", errLeftOut, err)
			}
			return nil, err
		}
		return pack.Read(out)
	}
}

const demoText = "so much depends\nupon\n\na red wheel\nbarrow\n\nglazed with rain\nwater\n\nbeside the white\nchickens\n"

func countExample() example {
	type counts struct {
		Lines, Words, Characters int
	}
	want := counts{Lines: 11, Words: 16, Characters: len(demoText)}
	return example{
		name: "count", runtime: "nodejs", work: "count a text", pack: interpreted("nodejs", "node"),
		payload: mustJSON(map[string]string{"text": demoText}), wrong: []byte(`{"text": 42}`),
		check: func(answer []byte) (string, error) {
			var got counts
			if err := json.Unmarshal(answer, &got); err != nil || got != want {
				return "", unlike(answer, want, err)
			}
			return fmt.Sprintf("%d lines, %d words, %d characters", got.Lines, got.Words, got.Characters), nil
		},
	}
}

func sumsExample() example {
	const csv = "item,price,count\ntea,0.10,3\nbun,0.20,4\njam,12345678901234567890.01,5\n"
	const price, count = "12345678901234567890.31", "12" // no binary float holds the first
	return example{
		name: "sums", runtime: "python", work: "sum a CSV", pack: interpreted("python", "python3"),
		payload: mustJSON(map[string]string{"csv": csv}), wrong: []byte(`{"csv": "a,b\n1\n"}`),
		check: func(answer []byte) (string, error) {
			var got struct {
				Rows int
				Sums map[string]string
			}
			err := json.Unmarshal(answer, &got)
			if err != nil || got.Rows != 3 || len(got.Sums) != 2 || got.Sums["price"] != price || got.Sums["count"] != count {
				return "", unlike(answer, "price "+price+", count "+count, err)
			}
			return fmt.Sprintf("price %s, count %s", price, count), nil
		},
	}
}

func resizeExample() (example, error) {
	// Four fields of one colour each; scaled, each field must still be of its colour.
	fields := [4]color.NRGBA{{R: 200, A: 255}, {G: 150, A: 255}, {B: 100, A: 255}, {R: 90, G: 60, B: 30, A: 255}}
	const from, to = 64, 16
	src := image.NewNRGBA(image.Rect(0, 0, from, from))
	for y := range from {
		for x := range from {
			src.SetNRGBA(x, y, fields[2*(2*y/from)+2*x/from])
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, src); err != nil {
		return example{}, fmt.Errorf("make the demo's picture: %w", err)
	}
	type picture struct {
		Image  []byte `json:"image"`
		Width  int    `json:"width"`
		Height int    `json:"height"`
	}
	return example{
		name: "resize", runtime: "provided", work: "resize a PNG", pack: built("provided-go"),
		payload: mustJSON(picture{file.Bytes(), to, to}), wrong: mustJSON(picture{[]byte("no picture"), to, to}),
		check: func(answer []byte) (string, error) {
			var got picture
			if err := json.Unmarshal(answer, &got); err != nil {
				return "", unlike(answer, "a picture", err)
			}
			img, err := png.Decode(bytes.NewReader(got.Image))
			if err != nil || img.Bounds().Size() != image.Pt(to, to) {
				return "", unlike(answer, fmt.Sprintf("a PNG of %d x %d", to, to), err)
			}
			for y := range to {
				for x := range to {
					want := fields[2*(2*y/to)+2*x/to]
					if pixel := color.NRGBAModel.Convert(img.At(x, y)); pixel != want {
						return "", fmt.Errorf("pixel %d,%d is %v, not %v", x, y, pixel, want)
					}
				}
			}
			return fmt.Sprintf("%d x %d pixels, each of its colour", to, to), nil
		},
	}, nil
}

// echoName is the example with which the demo measures, if it can be built.
const echoName = "echo"

func echoExample() example {
	payload := []byte(`"` + string(bytes.Repeat([]byte("x"), benchPayload-2)) + `"`)
	return example{
		name: echoName, runtime: "provided", work: "send back what came", pack: built("echo"), payload: payload,
		check: func(answer []byte) (string, error) {
			if !bytes.Equal(answer, payload) {
				return "", unlike(answer, "what was sent", nil)
			}
			return fmt.Sprintf("the same %d bytes", len(answer)), nil
		},
	}
}

// mustJSON is JSON of values that cannot fail to be written.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own broken invariant: maps and structs of text and numbers
	}
	return b
}

func unlike(answer []byte, want any, err error) error {
	if err != nil {
		return fmt.Errorf("answered %.120q: %w; want %v", answer, err, want)
	}
	return fmt.Errorf("answered %.120q, want %v", answer, want)
}

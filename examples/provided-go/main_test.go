package main

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// quarters is an image of four equal fields.
func quarters(side int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			img.Set(x, y, fields[2*(2*y/side)+2*x/side])
		}
	}
	return img
}

var fields = [4]color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {0, 0, 0, 0}}

func encode(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(t *testing.T, p *picture) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(p.Image))
	if err != nil {
		t.Fatal(err)
	}
	if got := img.Bounds().Size(); got != image.Pt(p.Width, p.Height) {
		t.Fatalf("the image is %v, the answer says %d x %d", got, p.Width, p.Height)
	}
	return img
}

func TestResizeKeepsFields(t *testing.T) {
	t.Parallel()
	for _, size := range []image.Point{{2, 2}, {4, 4}, {16, 8}, {64, 64}, {100, 30}} {
		out, err := handle(t.Context(), picture{Image: encode(t, quarters(16)), Width: size.X, Height: size.Y})
		if err != nil {
			t.Fatalf("%v: %v", size, err)
		}
		img := decode(t, out)
		for i, want := range fields {
			// The corner of a field is covered by that field alone, at any scale.
			x, y := (i%2)*(size.X-1), (i/2)*(size.Y-1)
			if got := color.NRGBAModel.Convert(img.At(x, y)); got != want {
				t.Errorf("%v: pixel %d,%d is %v, want %v", size, x, y, got, want)
			}
		}
	}
}

func TestResizeMixesByAreaAndAlpha(t *testing.T) {
	t.Parallel()
	src := image.NewNRGBA(image.Rect(0, 0, 3, 1))
	src.Set(0, 0, color.NRGBA{200, 0, 0, 255})
	src.Set(1, 0, color.NRGBA{0, 100, 0, 255})
	src.Set(2, 0, color.NRGBA{9, 9, 9, 0}) // transparent: its colour must not show
	out, err := handle(t.Context(), picture{Image: encode(t, src), Width: 2, Height: 1})
	if err != nil {
		t.Fatal(err)
	}
	img := decode(t, out)
	// 1.5 source pixels each: 2/3 of the first and 1/3 of the second; 1/3 of the second and 2/3 of nothing.
	for x, want := range []color.NRGBA{{133, 33, 0, 255}, {0, 100, 0, 85}} {
		got := color.NRGBAModel.Convert(img.At(x, 0)).(color.NRGBA)
		if near(got.R, want.R) && near(got.G, want.G) && near(got.B, want.B) && near(got.A, want.A) {
			continue
		}
		t.Errorf("pixel %d is %v, want %v", x, got, want)
	}
}

func near(a, b uint8) bool { return max(a, b)-min(a, b) <= 1 }

func TestRefusesBadInput(t *testing.T) {
	t.Parallel()
	good := encode(t, quarters(4))
	huge := encode(t, image.NewGray(image.Rect(0, 0, 8192, 2049)))
	for name, in := range map[string]picture{
		"no size":         {Image: good},
		"negative":        {Image: good, Width: -1, Height: 1},
		"too wide":        {Image: good, Width: maxSide + 1, Height: 1},
		"no image":        {Width: 1, Height: 1},
		"no PNG":          {Image: []byte("GIF89a"), Width: 1, Height: 1},
		"cut off":         {Image: good[:len(good)/2], Width: 1, Height: 1},
		"too many pixels": {Image: huge, Width: 1, Height: 1},
	} {
		var bad InputError
		if _, err := handle(t.Context(), in); !errors.As(err, &bad) {
			t.Errorf("%s: %v, want an InputError", name, err)
		}
	}
}

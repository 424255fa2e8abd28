package main

import (
	"image"
	"image/color"
	"math"
)

// share is how much of one source line or column falls into one target line or column.
type share struct {
	at     int
	weight float64
}

// shares cuts `from` source cells into `to` target cells of equal width; the weights of a target cell add up to 1.
func shares(from, to int) [][]share {
	scale := float64(from) / float64(to)
	out := make([][]share, to)
	for i := range out {
		begin, end := float64(i)*scale, float64(i+1)*scale
		for at := int(begin); at < from && float64(at) < end; at++ {
			covered := math.Min(end, float64(at+1)) - math.Max(begin, float64(at))
			if covered > 0 {
				out[i] = append(out[i], share{at, covered / scale})
			}
		}
	}
	return out
}

// resize scales by area: each target pixel is the mean of the source area that it covers, premultiplied by alpha, so
// that transparent pixels lend no colour to their neighbours.
func resize(src image.Image, width, height int) *image.NRGBA64 {
	bounds := src.Bounds()
	columns, lines := shares(bounds.Dx(), width), shares(bounds.Dy(), height)
	dst := image.NewNRGBA64(image.Rect(0, 0, width, height))
	for y, rows := range lines {
		for x, cols := range columns {
			var r, g, b, a float64
			for _, row := range rows {
				for _, col := range cols {
					pr, pg, pb, pa := src.At(bounds.Min.X+col.at, bounds.Min.Y+row.at).RGBA()
					w := row.weight * col.weight
					r, g, b, a = r+w*float64(pr), g+w*float64(pg), b+w*float64(pb), a+w*float64(pa)
				}
			}
			dst.Set(x, y, color.RGBA64{R: round(r), G: round(g), B: round(b), A: round(a)})
		}
	}
	return dst
}

func round(v float64) uint16 { return uint16(math.Min(math.Round(v), math.MaxUint16)) }

package console

import (
	"fmt"
	"math"
)

// drawing is the unreserved arcs on a circle, in the order of their numbers, each in the colour of its first manager.
type drawing struct {
	Slices []slice
	Arcs   int
}

// slice is one arc: a piece of the circle, and outside of it a dot that shows where calls wait.
type slice struct {
	Key, Path, Title string
	Colour           int
	X, Y             string
	Hot              bool
}

// The circle, in units of the drawing.
const (
	middle = 100.0
	outer  = 84.0
	inner  = 60.0
	dots   = 91.0
)

func draw(arcs []arcRow) *drawing {
	d := &drawing{Arcs: len(arcs)}
	step := 2 * math.Pi / float64(len(arcs))
	gap := min(0.012, step/8)
	for i, a := range arcs {
		from, to := float64(i)*step+gap, float64(i+1)*step-gap
		s := slice{Key: a.Key, Hot: a.Hot, Path: ringPiece(from, to), Title: "arc " + visible(a.Name) + ": nobody", Colour: -1}
		if len(a.Ranks) > 0 {
			s.Colour = a.Ranks[0].Colour
			s.Title = "arc " + visible(a.Name) + ": " + visible(a.Ranks[0].Manager)
			for _, r := range a.Ranks[1:] {
				s.Title += ", then " + cut(r.Manager, 40)
			}
		}
		x, y := at((from+to)/2, dots)
		s.X, s.Y = fmt.Sprintf("%.1f", x), fmt.Sprintf("%.1f", y)
		d.Slices = append(d.Slices, s)
	}
	return d
}

// at is a point of the circle of radius r; angles run clockwise from the top.
func at(angle, r float64) (x, y float64) {
	return middle + r*math.Sin(angle), middle - r*math.Cos(angle)
}

// ringPiece is the outline of a piece between two angles.
func ringPiece(from, to float64) string {
	large := 0
	if to-from > math.Pi {
		large = 1
	}
	ox, oy := at(from, outer)
	px, py := at(to, outer)
	ix, iy := at(to, inner)
	jx, jy := at(from, inner)
	return fmt.Sprintf("M%.2f %.2fA%g %g 0 %d 1 %.2f %.2fL%.2f %.2fA%g %g 0 %d 0 %.2f %.2fZ", ox, oy, outer, outer, large, px, py, ix, iy, inner, inner, large, jx, jy)
}

package main

import "strings"

// didYouMean is ", did you mean X?" for the nearest name, or nothing if none is near.
func didYouMean(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return ", did you mean " + best + "?"
	}
	return ""
}

// nearest is the known name with the fewest edits to name, at most a third of its letters and at least one, or one that
// begins with it; "" if there is none. Of equally near ones the first.
func nearest(name string, known []string) string {
	best, fewest := "", max(1, (len([]rune(name))+1)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < fewest {
			best, fewest = k, d
		}
	}
	if best != "" || len(name) < 2 {
		return best
	}
	for _, k := range known {
		if strings.HasPrefix(strings.ToLower(k), strings.ToLower(name)) {
			return k
		}
	}
	return ""
}

// distance is the number of single letters inserted, deleted, replaced, or swapped with their neighbour, that turn a into
// b (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}

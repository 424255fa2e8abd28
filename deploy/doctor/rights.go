package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Rights are what the server says that a user may do; an empty Allow is everything that Deny leaves.
type Rights struct {
	Publish, Subscribe Subjects
}

// Subjects are patterns of one direction.
type Subjects struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// compare says what of the wanted patterns is not allowed, and what is allowed beyond them.
func (s Subjects) compare(want []string) (narrower, wider []string) {
	wanted, has := setOf(want), setOf(s.Allow) // most are in both: a manager has a thousand
	for _, w := range want {
		allowed := len(s.Allow) == 0 || has[w] || slices.ContainsFunc(s.Allow, func(a string) bool { return covers(a, w) })
		if !allowed || slices.ContainsFunc(s.Deny, func(d string) bool { return overlap(d, w) }) {
			narrower = append(narrower, w)
		}
	}
	if len(s.Allow) == 0 {
		return narrower, []string{">"}
	}
	for _, a := range s.Allow {
		covered := wanted[a] || slices.ContainsFunc(want, func(w string) bool { return covers(w, a) })
		if !covered && !slices.ContainsFunc(s.Deny, func(d string) bool { return covers(d, a) }) {
			wider = append(wider, a)
		}
	}
	return narrower, wider
}

func setOf(all []string) map[string]bool {
	set := make(map[string]bool, len(all))
	for _, s := range all {
		set[s] = true
	}
	return set
}

// covers reports whether every subject of one pattern is one of another. A queue's name behind a pattern counts for nothing.
func covers(wide, narrow string) bool {
	w, n := tokens(wide), tokens(narrow)
	for i, token := range w {
		switch {
		case i >= len(n):
			return false
		case token == ">":
			return true
		case n[i] == ">", token != "*" && token != n[i]:
			return false
		}
	}
	return len(w) == len(n)
}

// overlap reports whether a subject may be one of both patterns.
func overlap(a, b string) bool {
	x, y := tokens(a), tokens(b)
	for i := 0; i < len(x) && i < len(y); i++ {
		switch {
		case x[i] == ">" || y[i] == ">":
			return true
		case x[i] != "*" && y[i] != "*" && x[i] != y[i]:
			return false
		}
	}
	return len(x) == len(y)
}

func tokens(pattern string) []string {
	subject, _, _ := strings.Cut(pattern, " ")
	return strings.Split(subject, ".")
}

// few lists some of many.
func few(all []string) string {
	const most = 6
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

package console

import (
	"slices"
	"strings"

	"github.com/hearth-run/hearth/subjects"
)

// command is a line for a shell, each word quoted so that it is one word and nothing else to a POSIX shell. It is "" where a
// word holds what no line may: a terminal acts on control characters while they are pasted, before any shell reads them.
func command(words ...string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if visible(w) != w {
			return ""
		}
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}

// quote is one word for a shell.
func quote(w string) string {
	plain := w != "" && w[0] != '=' // which zsh takes for the path of a command
	for i := range len(w) {
		c := w[i]
		plain = plain && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_./:=,+@%", c) >= 0)
	}
	if plain {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// hearth is a command of this fabric, its words and flags first: the other one names its prefix. names come last, and after "--"
// where one of them reads like a flag.
func (c *Console) hearth(words []string, names ...string) string {
	all := append([]string{"hearth"}, words...)
	if p := c.names.Prefix(); p != subjects.DefaultPrefix {
		all = append(all, "--prefix="+p)
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "-") }) {
		all = append(all, "--")
	}
	return command(append(all, names...)...)
}

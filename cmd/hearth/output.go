package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func jsonFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "print JSON")
}

func asJSON(cmd *cobra.Command) bool {
	yes, err := cmd.Flags().GetBool("json")
	return err == nil && yes
}

// printJSON writes one value as one line of JSON, as it is: no escapes for HTML.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// isTerminal reports whether a stream is a terminal. Streams of tests never are.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The few ways in which text stands out.
const (
	styleBold  = "1"
	styleGreen = "32"
	styleRed   = "31"
	styleFaint = "2"
)

// paint colours text for a stream that is a terminal, unless NO_COLOR is set (no-color.org) or the terminal is dumb.
func (a *app) paint(stream io.Writer, style, text string) string {
	if no, ok := a.lookup("NO_COLOR"); ok && no != "" || !isTerminal(stream) {
		return text
	}
	if kind, _ := a.lookup("TERM"); kind == "dumb" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// table is for people: columns as wide as needed, a heading that stands out.
type table struct {
	app   *app
	buf   bytes.Buffer
	tab   *tabwriter.Writer
	empty string // what to say, on stderr, of a table without a row
	rows  int
}

func (a *app) table(heading ...string) *table {
	t := &table{app: a}
	t.tab = tabwriter.NewWriter(&t.buf, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t.tab, strings.Join(heading, "\t"))
	return t
}

func (t *table) row(cells ...any) {
	text := make([]string, len(cells))
	for i, cell := range cells {
		text[i] = oneLine(fmt.Sprint(cell))
		if text[i] == "" {
			text[i] = "-"
		}
	}
	fmt.Fprintln(t.tab, strings.Join(text, "\t"))
	t.rows++
}

func (t *table) flush() error {
	if t.rows == 0 && t.empty != "" {
		fmt.Fprintln(t.app.stderr, t.empty)
		return nil
	}
	if err := t.tab.Flush(); err != nil {
		return err
	}
	lines := strings.SplitAfter(t.buf.String(), "\n")
	lines[0] = t.app.paint(t.app.stdout, styleBold, strings.TrimRight(lines[0], " \n")) + "\n"
	for i := range lines[1:] {
		lines[i+1] = trimLine(lines[i+1])
	}
	_, err := io.WriteString(t.app.stdout, strings.Join(lines, ""))
	return err
}

func trimLine(line string) string {
	if line == "" {
		return ""
	}
	return strings.TrimRight(line, " \n") + "\n"
}

// localTime shows a time in the zone of whoever reads it; JSON keeps RFC 3339 in UTC.
func localTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// println writes a line of data for people.
func (a *app) println(line string) { fmt.Fprintln(a.stdout, line) }

// plural is "1 thing" or "2 things".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

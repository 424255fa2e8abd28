package client_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/frontend/control"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// write leaves lines of function f, as its worker does.
func write(t *testing.T, f *natstest.Fabric, texts ...string) {
	t.Helper()
	lines := schema.LogLines{V: schema.Version, Manager: "m1", Environment: "e1"}
	for _, text := range texts {
		lines.Lines = append(lines.Lines, schema.LogLine{Time: time.Now(), Text: []byte(text)})
	}
	data, err := schema.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.JetStream(t).Publish(t.Context(), f.Names.Log(subjects.DefaultAccount, "f", schema.Latest, ""), data); err != nil {
		t.Fatal(err)
	}
}

// Logs goes through all pages, and stops asking when nobody listens any more; LogsPage goes on by the cursor.
func TestLogs(t *testing.T) {
	t.Parallel()
	f, c := fabric(t)
	var want []string
	for i := range 7 {
		want = append(want, strings.Repeat("x", i+1))
		write(t, f, want[i])
	}
	var got []string
	for l, err := range c.Logs(t.Context(), schema.LogsInput{FunctionName: "f", MaxLines: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Function != "f" || l.Version != schema.Latest {
			t.Errorf("line %+v", l)
		}
		got = append(got, l.Text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	for range c.Logs(t.Context(), schema.LogsInput{FunctionName: "f"}) {
		break
	}
	first, err := c.LogsPage(t.Context(), schema.LogsInput{FunctionName: "f", MaxLines: 3})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := c.LogsPage(t.Context(), schema.LogsInput{FunctionName: "f", Cursor: first.Cursor})
	if err != nil {
		t.Fatal(err)
	}
	if !first.More || rest.More || len(first.Lines)+len(rest.Lines) != 7 || rest.Lines[0].Text != want[len(first.Lines)] {
		t.Errorf("pages %+v and %+v", first, rest)
	}
	failed := 0
	for _, err := range c.Logs(t.Context(), schema.LogsInput{FunctionName: "nobody"}) {
		if failed++; schema.CodeOf(err) != schema.CodeNotFound {
			t.Errorf("lines of no function: %v", err)
		}
	}
	if failed != 1 {
		t.Errorf("an error came %d times", failed)
	}
}

// Whoever follows a log hears what was there, that this is all, and what comes: each line once, also over a restart of the
// frontend that answers. It ends with its context, or with an error that does not pass.
func TestFollowLogs(t *testing.T) {
	t.Parallel()
	f := natstest.Start(t)
	begin := func() *control.Service {
		s, err := control.New(f.Connect(t), still{}, control.Config{Names: f.Names})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	end := func(s *control.Service) {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	serving := begin()
	defer func() { end(serving) }()
	c := client.New(f.Connect(t), f.Names)
	write(t, f, "one", "two")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var told []string
	for e, err := range c.FollowLogs(ctx, schema.LogsInput{FunctionName: "f"}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case client.LogsLine:
			told = append(told, e.Line.Text)
		case client.LogsReached:
			told = append(told, "(all)")
			end(serving)
			write(t, f, "three")
		case client.LogsWaiting:
			told = append(told, "(waiting)")
			if schema.CodeOf(e.Reason) != schema.CodeUnavailable {
				t.Errorf("waits for %v", e.Reason)
			}
			serving = begin()
		case client.LogsBehind:
			t.Error("nothing is gone")
		}
		if e.Line.Text == "three" {
			write(t, f, "four")
		}
		if e.Line.Text == "four" {
			stop()
		}
	}
	if want := []string{"one", "two", "(all)", "(waiting)", "three", "four"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	failed := 0
	for _, err := range c.FollowLogs(t.Context(), schema.LogsInput{FunctionName: "nobody"}) {
		if failed++; schema.CodeOf(err) != schema.CodeNotFound {
			t.Errorf("following no function: %v", err)
		}
	}
	if failed != 1 {
		t.Errorf("an error came %d times", failed)
	}
}

package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// stories are calls under ids that their callers drew, and how each ended.
type stories struct {
	mu   sync.Mutex
	want map[string]told
}

// told is what the story of a call has to end with. tries: publications of an event, 0 where there may be several.
type told struct {
	status schema.StoryStatus
	tries  int
}

// draw gives an id of a call that will end so.
func (s *stories) draw(w told) string {
	id := uuid.NewString()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		s.want = map[string]told{}
	}
	s.want[id] = w
	return id
}

// check asks for every story: whole, in order, and with the right end.
func (s *stories) check(t testing.TB, f *fabric.Door) {
	t.Helper()
	c := f.Admin()
	wrong := 0
	for id, w := range s.want {
		got, err := storyOf(t, c, id)
		if err != nil {
			t.Errorf("call %s: %v", id, err)
		} else if err := complete(got, w); err != nil {
			var lines []string
			for _, step := range got.Steps {
				lines = append(lines, fmt.Sprintf("%s %s  %s: %s", step.At.Format("15:04:05.000000"), step.Node.ID, step.What, step.Text))
			}
			t.Errorf("call %s: %v\n%s", id, err, strings.Join(lines, "\n"))
		} else {
			continue
		}
		if wrong++; wrong > 3 {
			t.Fatalf("and of %d calls more", len(s.want))
		}
	}
}

// storyOf is the story of a call as all nodes tell it: on a machine with much else to do, one of them may answer too late.
func storyOf(t testing.TB, c *client.Client, id string) (got *schema.Story, err error) {
	t.Helper()
	eventually(t, "all nodes answer for call "+id, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if got, err = c.Trace(ctx, id); err != nil {
			return !strings.Contains(err.Error(), "did not answer in time")
		}
		return len(got.Silent) == 0
	})
	return got, err
}

// complete reports what is wrong with a story: steps that are missing, out of order, or twice.
func complete(s *schema.Story, w told) error {
	switch {
	case s.Status != w.status:
		return fmt.Errorf("status %s, want %s", s.Status, w.status)
	case s.Left > 0, len(s.Silent) > 0, len(s.Other) > 0:
		return fmt.Errorf("left out %d, silent %v, other %v", s.Left, s.Silent, s.Other)
	case s.Ended.IsZero(), s.Ended.Before(s.Began):
		return fmt.Errorf("ended %v, began %v", s.Ended, s.Began)
	case w.tries > 0 && s.Tries != w.tries:
		return fmt.Errorf("%d publications, want %d", s.Tries, w.tries)
	}
	// Each publication goes through these, whatever is between them.
	way := []string{"admitted", "decided", "published", "claimed", "environment", "started", "finished"}
	at, runs := 0, 0
	for _, step := range s.Steps {
		i := slices.Index(way, step.What)
		switch {
		case step.What == "refused": // an event comes again
			at, runs = len(way), runs+1
			continue
		case i < 0, step.What == "claimed" && at == slices.Index(way, "environment"): // it came again, or to another
			continue
		case i == 0 && at == len(way):
			at = 0
		case i != at:
			return fmt.Errorf("step %q where %q was to be", step.What, way[min(at, len(way)-1)])
		}
		if at++; at == len(way) {
			runs++
		}
	}
	if at != len(way) || runs != s.Tries {
		return fmt.Errorf("%d whole runs in %d publications, the last ends before %q", runs, s.Tries, append(way, "the end")[at])
	}
	return nil
}
